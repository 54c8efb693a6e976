"""The loop: logs, checkpoints, and a resumed run that ends as if it had never been interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from adios_zoo.train.loop import _Trainer, pretrain
from adios_zoo.train.recipe import read_recipe
from safetensors.torch import load_file

import adios_zoo
from adios_zoo.errors import ConfigError, DataError
from tests.train.small import small_recipe, write_images

ROOT = Path(__file__).parents[2]

RECIPE = """
set: shapes
epochs: 4
batch_size: 8
image_size: 32
sizes: {0: 32, 3: 40}
checkpoint_minutes: 0.0005
encoder: {architecture: test_resnet}
masker: {image_size: 32, slots: 3, base_channels: 8, every: 2}
game: {method: METHOD, mask_use: USE, projector_hidden: 16, projector_output: 8, predictor_hidden: 8}
optimiser: {warmup_epochs: 1, schedule_by: step}
"""


def weights(run: Path) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{k}": v
        for name in ("model", "masker")
        for k, v in load_file(run / "model" / f"{name}.safetensors").items()
    }


def log(run: Path) -> list[dict[str, float]]:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


def adios(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "adios_zoo.cli", "pretrain", *arguments, "--quiet"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )


def test_a_run_leaves_a_model_that_loads(tmp_path: Path) -> None:
    source = write_images(tmp_path / "data.parquet")
    folder = pretrain(small_recipe(probe=True), source, tmp_path / "run", show_progress=False)
    model = adios_zoo.load_model(folder)
    assert model.card.name == "test_resnet_shapes_simclr"
    assert model.card.training["images"] == 48
    x = torch.randn(2, 3, 32, 32)
    assert model(x).shape[0] == 2
    assert model.masks(x).shape == (2, 3, 32, 32)
    records = log(tmp_path / "run")
    assert [r["epoch"] for r in records][-1] == 2
    assert {"loss", "probe_loss", "objective", "area_0", "mask_entropy", "lr_masker"} <= set(records[0])


@pytest.mark.parametrize(("method", "use"), [("simclr", "one"), ("byol", "all")])
def test_killed_and_resumed_is_bit_identical(tmp_path: Path, method: str, use: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("METHOD", method).replace("USE", use))
    source = write_images(tmp_path / "data.parquet")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert adios(str(recipe), "--data", source, "-o", str(whole)).wait() == 0

    deaths = []
    for _ in range(20):
        process = adios(str(recipe), "--data", source, "-o", str(killed), "--resume")
        before = checkpoint_time(killed)
        while process.poll() is None and len(deaths) < 5:
            if checkpoint_time(killed) != before:
                time.sleep(0.02 * len(deaths))
                process.send_signal(signal.SIGKILL)
                deaths.append(process.wait())
        if process.wait() == 0:
            break
    assert deaths == [-signal.SIGKILL] * 5
    expected = weights(whole)
    for name, value in weights(killed).items():
        assert torch.equal(value, expected[name]), name
    assert log(killed) == log(whole)


def checkpoint_time(run: Path) -> int:
    try:
        return (run / "checkpoint.safetensors").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def test_sigterm_saves_and_leaves(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    text = RECIPE.replace("METHOD", "simclr").replace("USE", "all").replace("epochs: 4", "epochs: 400")
    recipe.write_text(text.replace("checkpoint_minutes: 0.0005", "checkpoint_minutes: 60"))
    source = write_images(tmp_path / "data.parquet")
    process = adios(str(recipe), "--data", source, "-o", str(tmp_path / "run"))
    while not (tmp_path / "run" / "log.jsonl").exists() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.5)
    before = checkpoint_time(tmp_path / "run")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert b"stopped" in errors
    assert checkpoint_time(tmp_path / "run") > before


def test_a_folder_with_a_run_is_not_written_over(tmp_path: Path) -> None:
    source = write_images(tmp_path / "data.parquet")
    pretrain(small_recipe(epochs=1), source, tmp_path / "run", show_progress=False)
    with pytest.raises(ConfigError, match="--resume"):
        pretrain(small_recipe(epochs=1), source, tmp_path / "run", show_progress=False)
    with pytest.raises(ConfigError, match="epochs differ"):
        pretrain(small_recipe(epochs=2), source, tmp_path / "run", resume=True, show_progress=False)
    other = write_images(tmp_path / "other.parquet", count=40)
    with pytest.raises(DataError, match="other images"):
        pretrain(small_recipe(epochs=1), other, tmp_path / "run", resume=True, show_progress=False)


def test_seeds_decide_the_run(tmp_path: Path) -> None:
    source = write_images(tmp_path / "data.parquet")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        pretrain(small_recipe(epochs=1, seed=seed), source, tmp_path / name, show_progress=False)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(v, b[k]) for k, v in a.items())
    assert any(not torch.equal(v, c[k]) for k, v in a.items())


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_images(tmp_path / "data.parquet")
    step = _Trainer.step

    def poisoned(self: _Trainer, number: int) -> dict[str, torch.Tensor | float]:
        record = step(self, number)
        if number >= 8:
            next(self.game.encoder.parameters()).data.fill_(float("nan"))
        return record | ({"loss": float("nan")} if number >= 8 else {})

    monkeypatch.setattr(_Trainer, "step", poisoned)
    # A checkpoint is due at once, between two records of the log.
    with pytest.raises(DataError, match="loss is not finite at step 8"):
        pretrain(small_recipe(checkpoint_minutes=1e-9), source, tmp_path / "run", show_progress=False)
    saved = load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert all(value.isfinite().all() for value in saved.values())


def test_unreadable_images_are_listed_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_images(tmp_path / "data.parquet", count=200, broken=(3, 7))
    folder = pretrain(small_recipe(epochs=1, batch_size=64), source, tmp_path / "run", show_progress=False)
    assert adios_zoo.load_model(folder).card.training["images"] == 198
    listed = (tmp_path / "run" / "unreadable.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == [f"{tmp_path}/data.parquet[{row}]" for row in (3, 7)]
    assert "2 images could not be read" in capsys.readouterr().err


def test_too_few_images(tmp_path: Path) -> None:
    source = write_images(tmp_path / "data.parquet", count=4)
    with pytest.raises(ConfigError, match="larger than the data"):
        pretrain(small_recipe(), source, tmp_path / "run", show_progress=False)


def test_the_shipped_recipes_are_whole() -> None:
    assert read_recipe("resnet18_tin200_cpu").set == "tin200"
