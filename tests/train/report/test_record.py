"""The log that survives kills, the sessions, and the trackers."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from adios_zoo.train.report.progress import Progress
from adios_zoo.train.report.record import RunLog, open_trackers, read_records, session
from PIL import Image

from adios_zoo.errors import BackendError, DataError


def test_what_was_written_after_the_checkpoint_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with RunLog(path) as log:
        log.write({"step": 0, "loss": 2.0})
        kept = log.flush()
        log.write({"step": 1, "loss": 1.0})
    assert [r["step"] for r in read_records(path)] == [0, 1]
    with RunLog(path, kept) as log:
        log.write({"step": 1, "loss": 1.5})
    assert read_records(path) == [{"step": 0, "loss": 2.0}, {"step": 1, "loss": 1.5}]


def test_half_a_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 0}\n{"step": 1, "lo')
    assert read_records(path) == [{"step": 0}]
    assert read_records(tmp_path / "none") == []


def test_sessions_tell_how_they_ended(tmp_path: Path) -> None:
    path, progress = tmp_path / "run" / "sessions.jsonl", Progress()

    def stopped() -> None:
        progress.step = 3
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), session(path, progress, {"device": "cpu"}):
        stopped()
    with path.open("a") as file:
        file.write('{"started": "of a session that was kil')
    with pytest.raises(ValueError, match="loss"), session(path, progress, {}):
        raise ValueError("loss is not finite")
    with session(path, progress, {}):
        progress.step = 5
    records = read_records(path)
    assert [(r["step"], r.get("why")) for r in records] == [
        (0, None),
        (3, "stopped"),
        (3, None),
        (3, "failed: loss is not finite"),
        (3, None),
        (5, "finished"),
    ]
    assert records[0]["device"] == "cpu"


class Broken:
    def scalars(self, values: object, step: int) -> None:
        raise OSError("the disk of the tracker is full")


def test_a_tracker_that_fails_does_not_end_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunLog(tmp_path / "log.jsonl", trackers=[Broken()]) as log:  # type: ignore[list-item]
        log.write({"step": 0, "loss": 1.0})
        log.write({"step": 1, "loss": 1.0})
    assert len(read_records(tmp_path / "log.jsonl")) == 2
    assert capsys.readouterr().err == "Broken is given up: the disk of the tracker is full\n"


def picture(folder: Path) -> Path:
    Image.new("RGB", (8, 8), "red").save(folder / "epoch-0001.png")
    return folder / "epoch-0001.png"


def test_tensorboard_forgets_what_a_killed_session_wrote(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for start in (0, 2):  # the first session was killed after step 3; its checkpoint was at step 2
        trackers = open_trackers(["tensorboard"], tmp_path, step=start, config={"epochs": 2})
        with RunLog(tmp_path / "log.jsonl", trackers=trackers) as log:
            for step in range(start, 4):
                log.write({"step": step, "loss": 10.0 * start + step, "area_0": 0.5})
            log.picture(picture(tmp_path), 3)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(0, 0.0), (1, 1.0), (2, 22.0), (3, 23.0)]
    assert events.Scalars("area/0")[0].value == 0.5
    assert [e.step for e in events.Images("masks")] == [3]


class FakeWandb(ModuleType):
    """Notes the calls."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.calls: list[tuple[str, Any]] = []
        self.Image = lambda path: f"image of {Path(path).name}"

    def init(self, **arguments: Any) -> FakeWandb:
        self.calls.append(("init", arguments))
        return self

    def log(self, values: dict[str, Any], step: int) -> None:
        self.calls.append(("log", (values, step)))

    def finish(self, exit_code: int) -> None:
        self.calls.append(("finish", exit_code))


def test_wandb_goes_on_with_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for start in (0, 2):
        trackers = open_trackers(["wandb", "wandb"], tmp_path, step=start, config={"epochs": 2})
        with RunLog(tmp_path / "log.jsonl", trackers=trackers) as log:
            log.write({"step": start, "loss": 1.0, "lr_masker": 0.1})
            log.picture(picture(tmp_path), start)
    first, second = (arguments for call, arguments in fake.calls if call == "init")
    assert first["id"] == second["id"]
    assert (first["project"], first["resume"], first["config"]) == ("adios-zoo", "allow", {"epochs": 2})
    assert ("log", ({"loss": 1.0, "lr/masker": 0.1}, 0)) in fake.calls
    assert ("log", ({"masks": "image of epoch-0001.png"}, 2)) in fake.calls
    assert fake.calls[-1] == ("finish", 0)


def test_wandb_itself_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with RunLog(tmp_path / "log.jsonl", trackers=open_trackers(["wandb"], tmp_path, config={"epochs": 2})) as log:
        log.write({"step": 0, "loss": 1.0})
        log.picture(picture(tmp_path), 0)
        assert log.trackers
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")])
def test_a_missing_package_is_one_sentence(
    name: Any, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendError, match=rf'pip install "adios-zoo\[{name}\]"'):
        open_trackers([name], tmp_path, config={})


def test_wandb_that_will_not_start_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)

    def refuse(**_: Any) -> None:
        raise RuntimeError("api_key not configured (no-tty)\nmore")

    monkeypatch.setattr(fake, "init", refuse)
    with pytest.raises(BackendError, match=r"no-tty.; `wandb login`, or set WANDB_MODE=offline"):
        open_trackers(["wandb"], tmp_path, config={})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_is_one_sentence_at_any_line() -> None:
    with pytest.raises(DataError, match="/dev/full: the disk is full"), RunLog(Path("/dev/full")) as log:
        log.write({"step": 0})
