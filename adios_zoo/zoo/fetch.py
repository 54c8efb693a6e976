"""From what a user names to a folder with the model's files: bundled, cached, fetched, or the user's own."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from adios_zoo.environment import expanded, offline
from adios_zoo.errors import CardError, ConfigError, DownloadError, IntegrityError, UnknownModelError
from adios_zoo.models.card import CONFIG, ENCODER, MASKER, Card, card_of_folder, check_facts, facts_of
from adios_zoo.telling import tell
from adios_zoo.zoo import registry
from adios_zoo.zoo.cache import downloads_folder, lock_file, model_lock, models_folder, writable
from adios_zoo.zoo.download import download
from adios_zoo.zoo.snapshot import PREFIX, hub_file, snapshot


def locate(source: str) -> tuple[Card, Path]:
    """The card and the local folder of a model, fetched first if need be.

    Args:
        source: a name of the zoo, ``hf-hub:org/repo[@revision]``, ``local-dir:PATH``, or the path of a model folder.

    Raises:
        UnknownModelError: no such name and no such folder.
        DownloadError: the weights are not here and cannot be fetched; says where to put them.
        IntegrityError: what was fetched is not what it should be.
        DataError: the cache cannot be written to.
        CardError: the folder's card is wrong.
        ConfigError: a variable of the environment, or a name on the Hub, is wrong.
    """
    if source.startswith("local-dir:"):
        folder = expanded(source.removeprefix("local-dir:"))
        return card_of_folder(folder), folder
    if source.startswith(PREFIX):
        folder = snapshot(source.removeprefix(PREFIX))
        return card_of_folder(folder), folder
    if source in registry.list_models():
        card = registry.card(source)
        bundled = registry.bundled_folder(card)
        if bundled is not None:
            return card, bundled
        return _cached(card) or _fetched(card)
    folder = expanded(source)
    if folder.is_dir():
        return card_of_folder(folder), folder
    if folder.name != source or source.startswith("."):
        raise UnknownModelError(f"There is no model folder {source}.")
    registry.card(source)  # raises, with the closest names
    raise ConfigError(f"{source!r} cannot be loaded.")


def card_of(source: str) -> Card:
    """The card of a model, without its weights; of a model on the Hub that is not in its cache no more is fetched.

    Arguments and errors are those of :func:`locate`.
    """
    if source.startswith(PREFIX):
        return card_of_folder(hub_file(source.removeprefix(PREFIX), CONFIG).parent)
    return registry.card(source) if source in registry.list_models() else locate(source)[0]


def _cached(card: Card) -> tuple[Card, Path] | None:
    """The model's folder in the cache, if its files are all there and are what its card says."""
    folder = models_folder() / card.name
    if not all((folder / name).is_file() for name in (CONFIG, ENCODER, MASKER)):
        return None
    try:
        found = card_of_folder(folder)
        for name, facts in found.files.items():
            check_facts(folder / name, facts)
    except (CardError, IntegrityError, OSError):
        return None
    return found, folder


def _fetched(card: Card) -> tuple[Card, Path]:
    """Fetch and convert the authors' release of a model; of several processes one does it and the others wait."""
    folder = models_folder() / card.name
    with _alone(card.name):
        found = _cached(card)
        if found:
            return found
        release, is_ours = _release(card)
        try:
            _convert(release, folder, card)
        except IntegrityError:
            if is_ours:  # else it would be found damaged for ever
                release.unlink(missing_ok=True)
            raise
        if is_ours:
            release.unlink(missing_ok=True)
    found = _cached(card)
    if not found:
        raise IntegrityError(f"{folder} was just written and is not what its card says; is the disk sound?")
    return found


def _release(card: Card) -> tuple[Path, bool]:
    """The archive of the authors' release, and whether it is a file of the cache, to be deleted after use."""
    if card.source is None:
        raise DownloadError(f"The card of {card.name} names no address of its weights.")
    name = card.source.rsplit("/", 1)[-1]
    tail = "/".join(card.source.split("/")[-2:])
    mirror = os.environ.get("ADIOS_ZOO_MIRROR")
    address = card.source
    if mirror:
        scheme = urlsplit(mirror).scheme if "://" in mirror else "file"
        if scheme == "file":
            return _in_folder(card, mirror, tail, name), False
        if scheme not in ("http", "https"):
            raise ConfigError(f"ADIOS_ZOO_MIRROR is {mirror!r}; it takes a folder, or an http or https address.")
        address = f"{mirror.rstrip('/')}/{tail}"
    target = downloads_folder() / name
    if target.is_file():  # whole, but not converted: that broke off
        if card.archive is None or facts_of(target) == card.archive:
            return target, True
        with writable(target):
            target.unlink()
    if variable := offline():
        raise DownloadError(_missing(card, f"not in {models_folder()}, and {variable} forbids fetching them"))
    try:
        download(address, target, expected=card.archive)
    except DownloadError as error:
        raise DownloadError(_missing(card, f"not in {models_folder()}, and {error}")) from error
    return target, True


def _in_folder(card: Card, mirror: str, tail: str, name: str) -> Path:
    folder = expanded(url2pathname(urlsplit(mirror).path) if "://" in mirror else mirror)
    for path in (folder / tail, folder / name):
        if path.is_file():
            if card.archive and facts_of(path) != card.archive:
                raise IntegrityError(f"{path} has another length or SHA-256 than the card of {card.name} states.")
            return path
    raise DownloadError(_missing(card, f"not in {models_folder()}, and ADIOS_ZOO_MIRROR, {folder}, has no {tail}"))


def _missing(card: Card, why: str) -> str:
    name = (card.source or "").rsplit("/", 1)[-1]
    return (
        f"The weights of {card.name} are {why}: get {name} from {card.source} by other means, and name its folder in "
        f"ADIOS_ZOO_MIRROR or run `adios convert {name} -o {models_folder() / card.name}`."
    )


def _convert(release: Path, folder: Path, card: Card) -> None:
    """Convert the archive beside ``folder``, then swap: nobody sees a folder that is half written."""
    from adios_zoo.official.convert import convert

    with writable(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}.*"):  # of processes that were killed
        shutil.rmtree(left, ignore_errors=True)
    new = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    old = folder.with_name(f"{new.name}.old")
    try:
        convert(release, new, card=card)
        with writable(folder):
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Within, no other process fetches the model ``name``; a lock of a process that died does not count."""
    from filelock import Timeout

    lock = model_lock(name)
    with writable(lock_file(name)):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            tell(f"adios: another process is fetching {name}; waiting for it")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
