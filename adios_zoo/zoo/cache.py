"""Where fetched models lie, and what is there.

In :func:`adios_zoo.environment.cache_home`: ``models/NAME/`` are model folders, ``downloads/`` holds archives that
are on their way, ``locks/`` keeps two processes from fetching the same.  What comes from the Hub itself lies in the
Hub's own cache, not here.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adios_zoo.environment import cache_home
from adios_zoo.errors import ConfigError, DataError

if TYPE_CHECKING:
    from filelock import BaseFileLock


def models_folder() -> Path:
    """Where the model folders lie, each under its model's name."""
    return cache_home() / "models"


def downloads_folder() -> Path:
    """Where archives lie until they are converted."""
    return cache_home() / "downloads"


def lock_file(name: str) -> Path:
    """The file that whoever fetches the model ``name`` holds locked."""
    return cache_home() / "locks" / f"{name}.lock"


def model_lock(name: str) -> BaseFileLock:
    """The lock of whoever fetches or removes the model ``name``, not yet taken.

    Raises:
        DataError: the cache cannot be written to.
    """
    from filelock import FileLock

    path = lock_file(name)
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path, mode=0o666)  # in a shared cache whoever may write there may take it


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Within, an error of the system is raised as one sentence: ``path``, in the cache, cannot be written.

    Raises:
        DataError: names ``ADIOS_HOME``, by which another folder is chosen.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror or error}); free or open the folder {cache_home()}, "
            "or name another one in ADIOS_HOME."
        ) from error


@dataclass(frozen=True)
class Entry:
    """Something in the cache.

    Attributes:
        name: of the model, or of the archive that is on its way.
        bytes: what it takes on the disk.
        path: a model folder, or a file in ``downloads``.
    """

    name: str
    bytes: int
    path: Path


def entries() -> list[Entry]:
    """All model folders and begun downloads in the cache, by name; not what is being converted, which is hidden."""
    found = []
    for folder in (models_folder(), downloads_folder()):
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        for path in (path for path in paths if not path.name.startswith(".")):
            found.append(Entry(path.name, _bytes_of(path), path))
    return found


def remove(names: Sequence[str]) -> list[Entry]:
    """Delete entries of the cache and say which.

    Args:
        names: as :func:`entries` gives them; of a model also its aliases in the zoo.

    Raises:
        ConfigError: nothing of such a name is there; then nothing is deleted.
        DataError: one of them is being fetched, and then nothing is deleted; or the cache cannot be written to.
    """
    there = {entry.name: entry for entry in entries()}
    chosen = []
    for name in names:
        entry = there.get(name) or there.get(_full_name(name))
        if entry is None:
            raise ConfigError(f"There is no {name} in {cache_home()}; `adios cache` lists what is there.")
        chosen.append(entry)
    with ExitStack() as locks:
        for model in sorted({model for entry in chosen for model in _models_of(entry)}):
            locks.enter_context(_unused(model))
        for entry in dict.fromkeys(chosen):
            with writable(entry.path):
                _delete(entry)
    return list(dict.fromkeys(chosen))


def table() -> str:
    """The cache as lines of text: its place, then name, size and path of each entry."""
    rows = [(entry.name, f"{entry.bytes / 1e6:.1f} MB", str(entry.path)) for entry in entries()]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(2)]
    lines = [f"{name.ljust(widths[0])}  {size.rjust(widths[1])}  {path}" for name, size, path in rows]
    return "\n".join([f"{cache_home()}: {len(rows) or 'no'} {'entry' if len(rows) == 1 else 'entries'}", *lines])


def _models_of(entry: Entry) -> set[str]:
    """The models that an entry belongs to: itself, or those whose archive it is, or a part of it."""
    from adios_zoo.zoo import registry

    if entry.path.parent == models_folder():
        return {entry.name}
    archive = entry.name.removesuffix(".json").removesuffix(".part")
    cards = (registry.card(name) for name in registry.list_models())
    return {card.name for card in cards if card.source and card.source.rsplit("/", 1)[-1] == archive}


@contextmanager
def _unused(model: str) -> Iterator[None]:
    """Within, no process fetches ``model``."""
    from filelock import Timeout

    lock = model_lock(model)
    with writable(lock_file(model)):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise DataError(f"{model} is in use: another process is fetching it; remove it after that.") from error
    try:
        yield
    finally:
        lock.release()


def _delete(entry: Entry) -> None:
    if entry.path.is_symlink() or not entry.path.is_dir():
        entry.path.unlink(missing_ok=True)  # its download may have ended since it was listed
        return
    shutil.rmtree(entry.path)
    for left in entry.path.parent.glob(f".{entry.name}.*"):  # of processes that were killed
        shutil.rmtree(left, ignore_errors=True)


def _full_name(name: str) -> str:
    from adios_zoo.zoo import registry

    return registry.card(name).name if name in registry.list_models() else name


def _bytes_of(path: Path) -> int:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files)
