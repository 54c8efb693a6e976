"""What the environment decides: the folder of what is kept between runs, and whether the network may be used."""

from __future__ import annotations

import os
from pathlib import Path

from adios_zoo.errors import ConfigError

_TRUE = {"1", "ON", "YES", "TRUE"}  # what huggingface_hub takes for true


def cache_home() -> Path:
    """The folder of everything that is kept: fetched models, indexes; it need not exist.

    ``ADIOS_HOME``, if it is set; else ``adios-zoo`` in the Hub's folder (``HF_HOME``, by default
    ``~/.cache/huggingface``).

    Raises:
        ConfigError: it is not set, and the user has no home, as in many containers; what is kept only to save time is
            then not kept.
    """
    if home := os.environ.get("ADIOS_HOME"):
        return expanded(os.path.expandvars(home)).absolute()
    # The rules of huggingface_hub, read anew each time: its own constants are those of its first import.
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    hub = os.environ.get("HF_HOME") or str(Path(base) / "huggingface")
    folder = expanded(os.path.expandvars(hub))
    if folder.parts[:1] == ("~",):  # else a folder named ~ would be made wherever one happens to be
        raise ConfigError("This user has no home directory to keep anything in; name a folder in ADIOS_HOME.")
    return folder.absolute() / "adios-zoo"


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with the home for a leading ``~``; as it stands where the system knows no such home."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises there)


def offline() -> str | None:
    """The name of the variable that forbids the network: ``ADIOS_OFFLINE`` or ``HF_HUB_OFFLINE``; else ``None``."""
    for name in ("ADIOS_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(name, "").upper() in _TRUE:
            return name
    return None
