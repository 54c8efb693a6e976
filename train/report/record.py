"""What a run writes down as it goes: its log, its sessions, and on request TensorBoard and Weights & Biases."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from adios_zoo.errors import BackendError
from adios_zoo.files import explained, write_text
from adios_zoo.images.opening import open_image
from adios_zoo.telling import tell

from ..recipe.settings import TrackerName
from .progress import Progress

Record = Mapping[str, float]


class Tracker(Protocol):
    """A place outside the log that follows the run."""

    def scalars(self, values: Record, step: int) -> None:
        """Numbers of one step, by name."""

    def picture(self, path: Path, step: int) -> None:
        """A picture file of one step."""

    def close(self, *, failed: bool) -> None:
        """The session is over."""


class RunLog:
    """JSON lines, one record a line; what a killed run wrote after its checkpoint is cut off when it resumes.

    Args:
        path: of the log.
        keep_bytes: length of the part that belongs to the run.
        trackers: told of every record and picture; one that fails is given up, the run goes on.
    """

    def __init__(self, path: Path, keep_bytes: int = 0, trackers: Sequence[Tracker] = ()) -> None:
        self.path, self.trackers = path, list(trackers)
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = path.open("ab", buffering=0)  # what is written is written: closing cannot fail
            if self.file.tell() > keep_bytes:
                self.file.truncate(keep_bytes)
                self.file.seek(0, os.SEEK_END)

    def write(self, record: Record) -> None:
        """Append a record, which has a ``step``."""
        with explained(self.path):
            self.file.write((json.dumps(dict(record)) + "\n").encode())
        values = {name: value for name, value in record.items() if name != "step"}
        self._tell(lambda tracker: tracker.scalars(values, int(record["step"])))

    def picture(self, path: Path, step: int) -> None:
        """Show a picture file to the trackers."""
        self._tell(lambda tracker: tracker.picture(path, step))

    def flush(self) -> int:
        """Bring the log to the disk; its length in bytes."""
        with explained(self.path):
            os.fsync(self.file.fileno())
            return self.file.tell()

    def __enter__(self) -> RunLog:
        """Itself."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Take leave of the trackers and close the file."""
        self._tell(lambda tracker: tracker.close(failed=kind is not None))
        self.file.close()

    def _tell(self, message: Any) -> None:
        for tracker in list(self.trackers):
            try:
                message(tracker)
            except Exception as error:  # another's service must not end hours of training
                self.trackers.remove(tracker)
                reason = str(error).partition("\n")[0] or type(error).__name__
                tell(f"{type(tracker).__name__} is given up: {reason}")


def open_trackers(
    names: Sequence[TrackerName], folder: Path, *, step: int = 0, config: Mapping[str, Any]
) -> list[Tracker]:
    """The trackers of these names, for the run in ``folder`` that goes on from ``step`` with the settings ``config``.

    Raises:
        BackendError: a package is missing, or its service cannot be reached.
    """
    return [_TRACKERS[name](folder, step, config) for name in dict.fromkeys(names)]


class TensorBoard:
    """Event files in ``folder/tensorboard``; what a killed session wrote from ``step`` on is struck out."""

    def __init__(self, folder: Path, step: int, config: Mapping[str, Any]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard") from error
        where = folder / "tensorboard"
        with explained(where):
            self.writer: Any = SummaryWriter(str(where), purge_step=step)
        if step == 0:
            self.writer.add_text("recipe", f"```json\n{json.dumps(config, indent=2)}\n```", 0)

    def scalars(self, values: Record, step: int) -> None:
        """Numbers of one step, in groups."""
        for name, value in values.items():
            self.writer.add_scalar(grouped(name), value, step)

    def picture(self, path: Path, step: int) -> None:
        """A picture file of one step."""
        with open_image(path) as image:
            self.writer.add_image("masks", np.asarray(image.convert("RGB")), step, dataformats="HWC")
        self.writer.flush()

    def close(self, *, failed: bool) -> None:
        """Write what is buffered."""
        self.writer.close()


class WandB:
    """A run of Weights & Biases, the same one after a resume; its own variables (``WANDB_MODE``, ...) are obeyed."""

    def __init__(self, folder: Path, step: int, config: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise _missing("wandb") from error
        self.wandb: Any = wandb
        name = folder / "wandb.id"
        if step == 0 or not name.exists():
            write_text(name, secrets.token_hex(8))
        try:
            self.run = self.wandb.init(
                project=os.environ.get("WANDB_PROJECT", "adios-zoo"),
                name=os.environ.get("WANDB_NAME", folder.resolve().name),
                id=name.read_text(encoding="utf-8").strip(),
                resume="allow",
                dir=str(folder),
                config=dict(config),
            )
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise BackendError(f"Weights & Biases: {reason}; `wandb login`, or set WANDB_MODE=offline.") from error

    def scalars(self, values: Record, step: int) -> None:
        """Numbers of one step, in groups; W&B takes no notice of steps that it has seen."""
        self.run.log({grouped(name): value for name, value in values.items()}, step=step)

    def picture(self, path: Path, step: int) -> None:
        """A picture file of one step."""
        self.run.log({"masks": self.wandb.Image(str(path))}, step=step)

    def close(self, *, failed: bool) -> None:
        """Mark the run's end."""
        self.run.finish(exit_code=int(failed))


_TRACKERS: dict[TrackerName, type[TensorBoard] | type[WandB]] = {"tensorboard": TensorBoard, "wandb": WandB}
assert tuple(_TRACKERS) == get_args(TrackerName)


def grouped(name: str) -> str:
    """The name of a value with its group before a slash, as trackers sort them: ``area_0`` is ``area/0``."""
    group, _, rest = name.partition("_")
    return f"{group}/{rest}" if rest and group in ("area", "lr", "knn", "probe") else name


@contextmanager
def session(path: Path, progress: Progress, facts: Mapping[str, Any]) -> Iterator[None]:
    """Note in the JSON lines at ``path`` that a session begins, with its facts, and how it ends."""
    _append(path, {"started": _now(), "step": progress.step, **facts})
    why = "finished"
    try:
        yield
    except KeyboardInterrupt:
        why = "stopped"
        raise
    except BaseException as error:
        why = f"failed: {error}"
        raise
    finally:
        _append(path, {"ended": _now(), "step": progress.step, "why": why})


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines, of which a kill may have cut off the last; none if there is no file."""
    records = []
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


class Column(NamedTuple):
    """The finite and other values of one name in a log, with their steps; (n,) float64 each."""

    steps: NDArray[np.float64]
    values: NDArray[np.float64]


def columns_of(records: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    """The numbers of a log by name, each in the order of its records."""
    steps: dict[str, list[float]] = {}
    values: dict[str, list[float]] = {}
    for record in records:
        step = record.get("step", 0)
        for name, value in record.items():
            if type(value) in (int, float):
                steps.setdefault(name, []).append(step)
                values.setdefault(name, []).append(value)
    return {name: Column(np.array(steps[name], float), np.array(values[name], float)) for name in values}


def _append(path: Path, record: Mapping[str, Any]) -> None:
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            # A session that was killed may have left half a line.
            file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
            broken = file.read(1) not in (b"", b"\n")
            file.write((b"\n" if broken else b"") + json.dumps(record).encode() + b"\n")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _missing(package: str) -> BackendError:
    return BackendError(f'The tracker {package} is not installed: pip install "adios-zoo[{package}]".')
