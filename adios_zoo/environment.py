"""What the environment decides: the folder of what is kept between runs, and whether the network may be used."""

from __future__ import annotations

import os
from pathlib import Path

_TRUE = {"1", "ON", "YES", "TRUE"}  # what huggingface_hub takes for true


def cache_home() -> Path:
    """The folder of everything that is kept: fetched models, indexes; it need not exist.

    ``ADIOS_HOME``, if it is set; else ``adios-zoo`` in the Hub's folder (``HF_HOME``, by default
    ``~/.cache/huggingface``).
    """
    if home := os.environ.get("ADIOS_HOME"):
        return Path(os.path.expandvars(home)).expanduser().absolute()
    # The rules of huggingface_hub, read anew each time: its own constants are those of its first import.
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    hub = os.environ.get("HF_HOME") or str(Path(base) / "huggingface")
    return Path(os.path.expandvars(hub)).expanduser().absolute() / "adios-zoo"


def offline() -> str | None:
    """The name of the variable that forbids the network: ``ADIOS_OFFLINE`` or ``HF_HUB_OFFLINE``; else ``None``."""
    for name in ("ADIOS_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(name, "").upper() in _TRUE:
            return name
    return None
