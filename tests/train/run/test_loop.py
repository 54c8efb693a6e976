"""The loop: logs, checkpoints, and a resumed run that ends as if it had never been interrupted."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from adios_zoo.train.data.batches import Batches
from adios_zoo.train.data.feed import open_feed
from adios_zoo.train.data.plan import Plan
from adios_zoo.train.processes import Processes
from adios_zoo.train.recipe.recipe import read_recipe
from adios_zoo.train.run.pretraining import pretrain
from adios_zoo.train.run.small_maps import fast_small_maps
from adios_zoo.train.run.trainer import Trainer
from adios_zoo.train.run.watch import CollapseError
from safetensors import safe_open
from safetensors.torch import load_file

import adios_zoo
from adios_zoo.errors import ConfigError, DataError
from tests.conftest import ROOT
from tests.train.small import small_recipe, write_images

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
    return [{k: v for k, v in r.items() if k not in ("seconds", "images_per_second")} for r in records]


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
    records = [r for r in log(tmp_path / "run") if "loss" in r]
    assert records[-1]["epoch"] == 2
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


@pytest.mark.parametrize("device_waits", [True, False])
def test_a_loss_that_is_not_finite_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device_waits: bool
) -> None:
    source = write_images(tmp_path / "data.parquet")
    step = Trainer.step

    def poisoned(self: Trainer, number: int, batches: Batches) -> dict[str, torch.Tensor]:
        record = step(self, number, batches)
        if number >= 8:
            next(self.game.encoder.parameters()).data.fill_(float("nan"))
        return record | ({"loss": torch.tensor(float("nan"))} if number >= 8 else {})

    monkeypatch.setattr(Trainer, "step", poisoned)
    if not device_waits:  # as on a GPU, whose numbers are looked at only when they are needed
        monkeypatch.setattr(Processes, "on_cpu", False)
    # A checkpoint is due at once, between two records of the log.
    with pytest.raises(CollapseError, match="loss is not finite at step 8"):
        pretrain(small_recipe(checkpoint_minutes=1e-9), source, tmp_path / "run", show_progress=False)
    saved = load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert all(value.isfinite().all() for value in saved.values())
    offending = load_file(tmp_path / "run" / "offending.safetensors")
    assert offending["0.view1"].shape == (8, 3, 32, 32)
    assert offending["0.masks2"].shape == (8, 3, 32, 32)
    assert len(offending["0.images"].unique()) == 8


def test_a_collapse_stops_the_run_and_keeps_what_was_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_images(tmp_path / "data.parquet")
    step = Trainer.step

    def collapsing(self: Trainer, number: int, batches: Batches) -> dict[str, torch.Tensor]:
        record = step(self, number, batches)
        return record | ({"deviation": torch.tensor(0.001)} if number >= 12 else {})

    monkeypatch.setattr(Trainer, "step", collapsing)
    monkeypatch.setattr("adios_zoo.train.run.loop.LOG_EVERY", 1)
    recipe = small_recipe(epochs=9, watch={"patience": 8})
    with pytest.raises(CollapseError, match=r"embeddings of all images are alike.*at step 19.*offending"):
        pretrain(recipe, source, tmp_path / "run", show_progress=False)
    with safe_open(tmp_path / "run" / "checkpoint.safetensors", "pt") as file:
        assert json.loads(file.metadata()["progress"])["step"] == 12  # of the last epoch that ended well
    assert (tmp_path / "run" / "offending.safetensors").exists()


def test_a_full_disk_is_one_sentence_and_the_previous_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_images(tmp_path / "data.parquet")
    calls = []

    def full(number: int) -> None:
        calls.append(number)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="the disk is full"):
        pretrain(small_recipe(epochs=4), source, tmp_path / "run", show_progress=False)
    monkeypatch.undo()
    kept = load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert all(value.isfinite().all() for value in kept.values())
    assert not list((tmp_path / "run").glob(".*.partial"))
    pretrain(small_recipe(epochs=4), source, tmp_path / "run", resume=True, show_progress=False)


def test_a_step_of_two_batches_averages_their_gradients(tmp_path: Path) -> None:
    source = write_images(tmp_path / "data.parquet")
    recipe = small_recipe(accumulate=2, batch_size=4, game={"method": "byol", "projector_output": 8})
    feed = open_feed(source, recipe)
    plan = Plan(recipe, feed.count, Processes())
    trainer, by_hand = Trainer(plan, classes=0), Trainer(plan, classes=0)
    found: dict[str, torch.Tensor] = {}
    for optimiser in trainer.optimisers.values():
        optimiser.step = lambda: None  # type: ignore[method-assign]  # gradients are looked at, not used
    trainer.step(0, feed.batches(plan, first=0, workers=0))
    found = {n: p.grad for n, p in trainer.game.named_parameters() if p.grad is not None}
    batches = feed.batches(plan, first=0, workers=0)
    game = by_hand.game
    with fast_small_maps(plan.processes.device):  # as in a step, for the same round-off
        for number in (0, 1):
            draws = plan.draws(number)
            batch = batches(number, draws)
            masks = game.masks(batch.views)
            turn = game.encoder_turn(batch.views, masks, None)
            game.masker_turn(batch.views, masks, None, turn.targets)
    for name, parameter in game.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad / 2, rtol=1e-4, atol=1e-6)
    assert len(found) > 10


def test_half_precision_keeps_losses_in_float32(tmp_path: Path) -> None:
    source = write_images(tmp_path / "data.parquet")
    for method in ("simclr", "simsiam"):
        recipe = small_recipe(epochs=1, precision="bf16", game={"method": method, "projector_output": 8})
        feed = open_feed(source, recipe)
        plan = Plan(recipe, feed.count, Processes())
        seen: list[torch.dtype] = []
        trainer = Trainer(plan, classes=0)
        trainer.game.projector[0].register_forward_hook(lambda _, __, y, seen=seen: seen.append(y.dtype))
        record = trainer.step(0, feed.batches(plan, first=0, workers=0))
        assert set(seen) == {torch.bfloat16}
        assert {value.dtype for value in record.values()} == {torch.float32}
        assert all(p.dtype == torch.float32 for p in trainer.game.parameters())


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


def test_a_run_can_be_looked_at_and_is_not_changed_by_it(tmp_path: Path) -> None:
    source = write_images(tmp_path / "data.parquet")
    seen, unseen = {"gallery": 30, "queries": 10, "k": 3}, {"pictures_every": 0, "knn_every": 0}
    for name, observe in (("seen", seen), ("unseen", unseen)):
        recipe = small_recipe(epochs=2, probe=True, observe=observe)
        held_out = source if name == "seen" else None
        pretrain(recipe, source, tmp_path / name, held_out=held_out, show_progress=False)
    expected = weights(tmp_path / "unseen")
    for name, value in weights(tmp_path / "seen").items():
        assert torch.equal(value, expected[name]), name
    looks = [r for r in log(tmp_path / "seen") if "knn_top1" in r]
    assert [(r["epoch"], r["step"]) for r in looks] == [(0, 0), (1, 6), (2, 12)]
    assert [r for r in log(tmp_path / "seen") if "loss" in r] == log(tmp_path / "unseen")
    assert all(0 <= r["probe_accuracy"] <= 100 for r in log(tmp_path / "unseen"))
    pictures = [path.name for path in sorted((tmp_path / "seen" / "pictures").iterdir())]
    assert pictures == ["epoch-0000.png", "epoch-0001.png", "epoch-0002.png"]
    assert not (tmp_path / "unseen" / "pictures").exists()
    page = (tmp_path / "seen" / "report.html").read_text()
    assert "Finished on" in page
    assert "k-NN top-1" in page
    # What is looked at may change when a run goes on.
    recipe = small_recipe(epochs=2, probe=True, observe={"knn_every": 1})
    pretrain(recipe, source, tmp_path / "unseen", resume=True, show_progress=False)


def test_the_sessions_of_a_run_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_images(tmp_path / "data.parquet")
    step = Trainer.step

    def collapse(self: Trainer, number: int, batches: Batches) -> dict[str, torch.Tensor]:
        return step(self, number, batches) | ({"loss": torch.tensor(torch.nan)} if number == 8 else {})

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", collapse)
        with pytest.raises(CollapseError):
            pretrain(small_recipe(epochs=2), source, tmp_path / "run", show_progress=False)
    assert "Failed at step" in (tmp_path / "run" / "report.html").read_text()
    pretrain(small_recipe(epochs=2), source, tmp_path / "run", resume=True, show_progress=False)
    sessions = [json.loads(line) for line in (tmp_path / "run" / "sessions.jsonl").read_text().splitlines()]
    assert [(s["step"], "started" in s, s.get("why", "")[:6]) for s in sessions] == [
        (0, True, ""),
        (8, False, "failed"),
        (6, True, ""),
        (12, False, "finish"),
    ]
    assert sessions[0]["source"] == source
    assert sessions[0]["steps_per_epoch"] == 6
