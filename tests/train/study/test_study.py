"""The comparison: what it runs, that nothing is done twice, and what its tables say."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from adios_zoo.train.recipe.recipe import read_recipe
from adios_zoo.train.study import study as module
from adios_zoo.train.study.figures import Judges
from adios_zoo.train.study.study import ARMS, VARIANTS, Row, Study, measure_costs, rows
from adios_zoo.train.study.tables import commands, draw, tables

from adios_zoo.cli import main
from adios_zoo.errors import ConfigError, DataError
from tests.train.small import write_images

RECIPE = """
set: shapes
epochs: 2
images: 16
batch_size: 8
image_size: 32
encoder: {architecture: test_resnet}
masker: {image_size: 32, slots: 3, base_channels: 8, every: 2}
game: {projector_hidden: 16, projector_output: 8, predictor_hidden: 8}
optimiser: {warmup_epochs: 0}
observe: {pictures_every: 0, knn_every: 0}
"""
COSTS = {"simclr": {"none": 1.0, "patches": 1.0, "adios-one": 1.6, "adios-all": 2.5}}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    source, other = write_images(tmp_path / "a.parquet", 48), write_images(tmp_path / "b.parquet", 24)
    judges = Judges(source, other, other, source, 24, 24, 24, 24, 24, 12)
    return Study(tmp_path / "study", str(recipe), judges)


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measure_costs", lambda *_, **__: COSTS)


def test_equal_time_gives_dearer_arms_fewer_epochs(study: Study) -> None:
    recipe = read_recipe(study.recipe, ["epochs=5"])
    found = rows(recipe, COSTS, budgets=["images", "time"], methods=["simclr"], arms=list(COSTS["simclr"]), seeds=[0])
    epochs = {(row.budget, row.arm): row.epochs for row in found}
    assert [epochs["images", arm] for arm in COSTS["simclr"]] == [5, 5, 5, 5]
    assert [epochs["time", arm] for arm in COSTS["simclr"]] == [5, 5, 3, 2]


def test_every_arm_is_a_recipe_of_its_own() -> None:
    made = {}
    for arm in (*ARMS, *VARIANTS):
        settings = Row("images", "byol", arm, 3, 4).settings()
        made[arm] = read_recipe("study_cifar10", settings)
        assert (made[arm].game.method, made[arm].seed, made[arm].epochs) == ("byol", 3, 4)
    assert len({json.dumps(recipe.to_dict()) for recipe in made.values()}) == len(made)
    assert [made[arm].masker.kind for arm in ARMS] == ["none", "patches", "blocks", "learned", "learned"]


def test_costs_are_measured_for_each_arm_and_the_plain_way(study: Study) -> None:
    data, cpu = study.judges.train, torch.device("cpu")
    costs = measure_costs(study.recipe, data, methods=["simclr"], arms=["adios-all"], device=cpu)
    assert costs["simclr"].keys() == {"none", "adios-all"}
    assert min(costs["simclr"].values()) > 0


@pytest.mark.usefixtures("cheap")
def test_a_study_is_not_done_twice_and_its_tables_say_what_was_found(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = ["none", "adios-all"]
    result = study.run(arms=arms, seeds=[0], show_progress=False)
    runs = {(run["arm"], run["epochs"]): run for run in result["runs"]}
    assert runs.keys() == {("random", 0), ("none", 2), ("adios-all", 2), ("adios-all", 1)}
    for run in runs.values():
        figures = run["figures"]
        assert figures["occlusion"]["patches"].keys() == {"0.1", "0.25", "0.5", "0.75"}
        assert 0 <= figures["knn"] <= 100
    assert result["data"]["train"]["images"] == 48
    assert result["data"]["test"]["images"] == 24
    assert runs["none", 2]["images_seen"] == 32
    assert runs["none", 2]["figures"] != runs["random", 0]["figures"]
    assert json.loads((study.folder / "study.json").read_text()) == result

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("it was done already")

    monkeypatch.setattr(module, "pretrain", forbidden)
    monkeypatch.setattr(Judges, "figures", forbidden)
    assert study.run(arms=arms, seeds=[0], show_progress=False) == result

    elsewhere = replace(study, folder=tmp_path / "elsewhere")
    elsewhere.folder.mkdir()
    shutil.copy(study.folder / "study.json", elsewhere.folder)
    assert elsewhere.run(arms=arms, seeds=[0], show_progress=False) == result

    _assert_tables(result)
    assert f"masker.kind=none seed=0 epochs=2 --data {study.judges.train} -o simclr-none-2-epochs-0" in commands(result)
    for name in ("a.svg", "b.svg"):
        draw(result, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()


def _assert_tables(result: dict[str, Any]) -> None:
    second = json.loads(json.dumps(result["runs"]))
    for run in second:
        run["seed"] = 1
        run["figures"]["knn"] += 2
    both = tables(result | {"runs": result["runs"] + second})
    knn = {run["arm"]: run["figures"]["knn"] for run in result["runs"] if run["epochs"] != 1}
    images, time = both.split("equal time")
    assert f"| none | 2 | 32 | 1.00 | {knn['none'] + 1:.2f} ± 1.41 |" in images
    assert f"| adios-all | 2 | 32 | 2.50 | {knn['adios-all'] + 1:.2f} ± 1.41 |" in images
    assert f"| random | 2 | 0 |  | {knn['random'] + 1:.2f} ± 1.41 |" in images
    assert "| adios-all | 2 | 16 | 2.50 |" in time


def test_new_arms_are_measured_against_the_costs_that_there_are(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([{"none": 1.0, "patches": 1.5}, {"none": 2.0, "adios-all": 5.0}])
    monkeypatch.setattr(module, "measure_costs", lambda *_, **__: {"simclr": next(found)})
    study.run(arms=["patches"], seeds=[], show_progress=False)
    result = study.run(arms=["adios-all"], seeds=[], show_progress=False)
    assert result["costs"] == {"simclr": {"none": 1.0, "patches": 1.5, "adios-all": 2.5}}


@pytest.mark.usefixtures("cheap")
def test_a_folder_holds_runs_of_one_recipe(study: Study) -> None:
    study.run(seeds=[], show_progress=False)
    Path(study.recipe).write_text(RECIPE.replace("batch_size: 8", "batch_size: 4"))
    with pytest.raises(ConfigError, match="another recipe"):
        study.run(seeds=[], show_progress=False)


@pytest.mark.usefixtures("cheap")
def test_a_folder_holds_runs_on_the_same_images_wherever_these_are(study: Study, tmp_path: Path) -> None:
    before = study.run(seeds=[], show_progress=False)
    moved = shutil.copy(study.judges.test.removeprefix("parquet:"), tmp_path / "moved.parquet")
    same = replace(study.judges, test=f"parquet:{moved}", transfer_train=f"parquet:{moved}")
    assert replace(study, judges=same).run(seeds=[], show_progress=False) == before
    other = replace(study.judges, test=study.judges.train)
    differently = replace(study.judges, train_images=20, validation_images=28)
    for judges in (other, differently):
        with pytest.raises(ConfigError, match="other images"):
            replace(study, judges=judges).run(seeds=[], show_progress=False)


def test_the_command_hands_over_what_it_is_told(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "measure_costs", lambda *_, **__: COSTS)
    j, output = study.judges, tmp_path / "o"
    sources = ["--train", j.train, "--test", j.test, "--transfer-train", j.transfer_train]
    numbers = ["--train-images", "24", "--validation-images", "20", "--test-images", "22"]
    arms = ["--arms", "none", "adios-one", "--budgets", "images", "--seeds", "3", "--quiet"]
    options = [*sources, "--transfer-test", j.transfer_test, *numbers, *arms]
    main(["evaluate", "study", "--recipe", study.recipe, *options, "-o", str(output)])
    record = json.loads((output / "study.json").read_text())
    assert {(run["arm"], run["seed"]) for run in record["runs"]} == {("none", 3), ("adios-one", 3), ("random", 3)}
    assert [record["data"][role]["images"] for role in ("train", "test")] == [44, 22]
    assert record["data"]["train"]["fitted"] == 24
    assert (output / "study.svg").exists()
    assert "| adios-one | 1 |" in capsys.readouterr().out


@pytest.mark.usefixtures("cheap")
def test_mistakes_are_told_before_anything_is_trained(study: Study) -> None:
    with pytest.raises(ConfigError, match="no arm 'holes'"):
        study.run(arms=["holes"])
    with pytest.raises(ConfigError, match="no budget 'money'"):
        study.run(budgets=["money"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match=r"images is 16.* set it to 15 or fewer"):
        replace(study, judges=replace(study.judges, train_images=15)).run()
    assert not study.folder.exists()


def test_a_comparison_of_variants_alone_has_no_picture(tmp_path: Path) -> None:
    draw({"recipe": read_recipe("study_cifar10").to_dict(), "costs": COSTS, "runs": []}, tmp_path / "a.svg")
    assert not (tmp_path / "a.svg").exists()


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": 48}, "leave none to choose by"),
        ({"train_images": 16}, "cannot vote"),
        ({"transfer_train_images": 16}, "cannot vote"),
        ({"test": "parquet:absent.parquet"}, "absent"),
        ({"transfer_test": "parquet:unlabelled.parquet"}, "without labels"),
        ({"transfer_test": "parquet:renamed.parquet"}, "other classes"),
    ],
)
def test_images_that_cannot_judge_are_told_before_anything_is_trained(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    table = pq.read_table("b.parquet")
    pq.write_table(table.drop_columns("label"), "unlabelled.parquet")
    renamed = {key: value.replace(b"disc", b"cone") for key, value in table.schema.metadata.items()}
    pq.write_table(table.replace_schema_metadata(renamed), "renamed.parquet")
    with pytest.raises(DataError, match=message):
        replace(study, judges=replace(study.judges, **changes)).run()
    assert not study.folder.exists()
