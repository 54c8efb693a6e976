"""The command line: what it prints, what it answers, one line for a mistake."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from adios_zoo.train.recipe.files import parse_yaml
from adios_zoo.train.recipe.recipe import parse_recipe, read_recipe
from PIL import Image

import adios_zoo
from adios_zoo.cli import _parsed, main
from tests.small_models import saved_model
from tests.train.small import write_images


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b", "a", "c"):
        Image.effect_noise((50, 40), 60).convert("RGB").save(folder / f"{name}.png")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(saved_model(tmp_path / "model"))


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "resnet18_*"]) == 0
    out = capsys.readouterr().out
    assert "resnet18_in100 (= resnet18_in100_byol)" in out
    assert "vit_tiny" not in out
    assert main(["list", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(adios_zoo.list_models())


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "resnet18_tin200"]) == 0
    out = capsys.readouterr().out
    assert "architecture: resnet18" in out
    assert "adios evaluate knn" in out
    assert main(["show", "resnet18_tin200", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "resnet18_tin200_simclr"


def test_extract(photos: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "f.parquet"
    assert main(["extract", str(photos), "-o", str(out), "--model", model, "--quiet"]) == 0
    table = pq.read_table(out)
    assert [Path(p).name for p in table["path"].to_pylist()] == ["a.png", "b.png", "c.png"]
    assert np.isfinite(np.stack(table["feature"].to_numpy())).all()


def test_a_table_is_extracted_and_drawn_as_files_are(model: str, tmp_path: Path) -> None:
    source = write_images(tmp_path / "a.parquet", count=3)
    out = tmp_path / "f.parquet"
    assert main(["extract", source, "-o", str(out), "--model", model, "--quiet"]) == 0
    assert pq.read_table(out)["path"].to_pylist() == [f"{tmp_path}/a.parquet[{row}]" for row in range(3)]
    assert main(["masks", source, "-o", str(tmp_path / "m"), "--model", model, "--quiet"]) == 0
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [f"a.parquet[{row}].png" for row in range(3)]


def test_data_says_what_a_source_holds(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_images(tmp_path / "a.parquet", count=7, broken=(1,))
    assert main(["data", source]) == 0
    out = capsys.readouterr().out
    assert "images       7\nlabelled     7, of 3 classes\nclass names  3: disc, stripe, square\n" in out
    assert f"{tmp_path}/a.parquet[0]  label 0  32 x 32\n" in out
    assert f"{tmp_path}/a.parquet[1]  label 1  cannot be read: not an image" in out
    assert "a.parquet[5]" not in out
    assert main(["data", str(photos)]) == 0
    assert "labelled     none\n" in capsys.readouterr().out
    assert main(["data", "torchvision:CIFAR11"]) == 2
    assert "did you mean CIFAR10?" in capsys.readouterr().err


def test_extract_with_a_broken_file(
    photos: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "aa.jpg").write_bytes(b"")
    arguments = ["extract", str(photos), "-o", str(tmp_path / "f.csv"), "--model", model, "--quiet"]
    assert main(arguments) == 1
    assert "aa.jpg: the file is empty" in capsys.readouterr().err
    assert main([*arguments, "--skip-bad", "--force"]) == 0
    assert "aa.jpg" in (tmp_path / "f.csv.failed.csv").read_text()


def test_masks(photos: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "masks"
    assert main(["masks", str(photos), "-o", str(out), "--model", model, "--npy", "--quiet"]) == 0
    assert sorted(p.name for p in out.glob("*.png")) == ["a.png", "b.png", "c.png"]
    masks = np.load(out / "a.npy")
    assert masks.shape == (3, 32, 32)
    assert np.abs(masks.sum(0) - 1).max() < 1e-5


def test_masks_with_a_broken_file(photos: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "aa.jpg").write_bytes(b"no image")
    assert main(["masks", str(photos), "-o", str(tmp_path / "masks"), "--model", model, "--quiet"]) == 1
    assert "aa.jpg" in capsys.readouterr().err
    assert len(list((tmp_path / "masks").glob("*.png"))) == 3


def test_a_recipe_with_three_mistakes_gives_three_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("epoch: 3\nmasker: {image_size: 60}\n")
    assert (
        main(["pretrain", str(recipe), "game.temperature=0", "--data", "parquet:x", "-o", str(tmp_path / "run")]) == 2
    )
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "epoch is unknown; did you mean epochs?" in lines[0]
    assert "game.temperature must be above 0, not 0" in lines[1]
    assert "did you mean 64?" in lines[2]
    assert not (tmp_path / "run").exists()


def test_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    assert "resnet18_tin200_cpu" in capsys.readouterr().out
    assert main(["recipes", "resnet18_stl10_byol", "optimiser.lr=1e-3"]) == 0
    shown = parse_yaml(capsys.readouterr().out, "the output")
    assert shown["optimiser"]["lr"] == 1e-3
    assert parse_recipe(shown, what="r") == read_recipe("resnet18_stl10_byol", ["optimiser.lr=0.001"])
    assert main(["recipes", "resnet18_stl10_byul"]) == 2


def write_recipe(path: Path) -> Path:
    path.write_text(
        "set: shapes\nepochs: 1\nbatch_size: 16\nimage_size: 32\nencoder: {architecture: test_resnet}\n"
        "masker: {image_size: 32, slots: 3, base_channels: 8}\noptimiser: {warmup_epochs: 1}\n"
    )
    return path


def test_pretrain_with_settings_anywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, recipe = write_images(tmp_path / "data.parquet"), str(write_recipe(tmp_path / "r.yaml"))
    run = tmp_path / "run"
    call = ["pretrain", recipe, "seed=1", "--data", source, "game.temperature=0.5", "-o", str(run), "--quiet", "seed=2"]
    assert main(call) == 0
    made = json.loads((run / "recipe.json").read_text())
    assert (made["game"]["temperature"], made["seed"]) == (0.5, 2)
    assert main(["recipes", recipe, "--debug", "seed=3"]) == 0
    assert "seed: 3" in capsys.readouterr().out
    for wrong in ([*call, "--no-such-option"], ["show", "resnet18_in100", "seed=3"]):
        with pytest.raises(SystemExit) as caught:
            main(wrong)
        assert caught.value.code == 2
        assert f"unrecognized arguments: {wrong[-1]}" in capsys.readouterr().err
    assert main(["recipes", recipe, "--debug", "word"]) == 2
    assert "'word' is no setting" in capsys.readouterr().err


def test_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, figures = write_images(tmp_path / "data.parquet", 24), tmp_path / "figures.json"
    sets = ["--model", str(saved_model(tmp_path / "m")), "--train", source, "--test", source, "--quiet"]

    def evaluate(*arguments: str) -> dict[str, Any]:
        assert main(["evaluate", arguments[0], *sets, *arguments[1:], "--json", str(figures)]) == 0
        found: dict[str, Any] = json.loads(figures.read_text())
        return found

    found = evaluate("knn", "-k", "1")
    assert found["figures"]["acc1"] == 100.0  # each image is its own nearest neighbour
    assert "top-1 accuracy, %  100.00" in capsys.readouterr().out
    assert evaluate("knn", "--random", "--seed", "3", "--crop-pct", "0.5")["preprocessing"]["crop_pct"] == 0.5
    assert len(evaluate("knn", "--protocol", "paper", "-k", "1", "2", "--temperature", "0.1")["cells"]) == 4
    assert evaluate("linear", "--seeds", "4", "5", "--steps", "5")["seeds"] == [4, 5]
    assert "± " in capsys.readouterr().out
    small = ("--epochs", "1", "--batch-size", "8")
    found = evaluate("linear", "--protocol", "paper", *small, "--train-images", "16")
    assert (found["augmented"], found["training"]["lr"], found["train"]["images"]) == (True, 0.1, 16)
    found = evaluate("finetune", *small, "--sizes", "16", "--optimiser", "lars", "-o", str(tmp_path / "tuned"))
    assert (found["training"]["sizes"], found["training"]["optimiser"]) == ([16], "lars")
    assert (tmp_path / "tuned" / "classifier.safetensors").is_file()
    assert evaluate("cluster", "--seeds", "0", "--starts", "1")["clusters"] == 3
    for wrong, words in ((["--epochs", "3"], "for --augmented"), (["--augmented", "--steps", "3"], "only without")):
        assert main(["evaluate", "linear", *sets, *wrong]) == 2
        assert words in capsys.readouterr().err


def test_the_commands_of_the_bundled_cards_figures_are_commands() -> None:
    for figure in adios_zoo.card("resnet18_tin200").figures:
        program, *arguments = shlex.split(figure.command)
        assert program == "adios"
        options = _parsed(arguments)
        assert options.model == "resnet18_tin200"
        assert options.random == ("random" in figure.name and "over" not in figure.name)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["show", "resnet19_in100"], 2, "did you mean"),
        (["extract", "nowhere", "-o", "f.parquet"], 1, "no such file or folder"),
        (["extract", ".", "-o", "f.txt"], 1, "no image files"),
        (["pretrain", "nothing", "--data", "parquet:x", "-o", "r"], 2, "no recipe named"),
        (["extract", ".", "-o", "f.npy", "--precision", "int8"], 1, "int8"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "qq", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_what_nobody_thought_of_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(name: str) -> None:
        raise LookupError("no such thing\nand more")

    monkeypatch.setattr("adios_zoo.zoo.registry.card", fails)
    assert main(["show", "x"]) == 1
    assert capsys.readouterr().err == "adios: unexpected LookupError: no such thing (--debug shows where)\n"


def test_usage_is_argparses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["extract"])
    assert caught.value.code == 2
    with pytest.raises(SystemExit) as caught:
        main(["evaluate"])
    assert caught.value.code == 2
