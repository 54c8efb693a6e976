"""Lets a bare checkout find ``adios_zoo.train`` and ``adios_zoo.export`` beside the package.

Installed, the build maps the folders ``train/`` and ``export/`` below ``adios_zoo``.  Seen from a checkout
(the repository root on ``sys.path``, as torch.hub puts it there) they are neighbours of the package instead.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

_NEIGHBOURS = ("train", "export")


class _CheckoutFinder(MetaPathFinder):
    """Finds ``adios_zoo.train`` and ``adios_zoo.export`` in the folder above the package."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        parent, _, name = fullname.rpartition(".")
        if parent != "adios_zoo" or name not in _NEIGHBOURS:
            return None
        folder = self.root / name
        return spec_from_file_location(fullname, folder / "__init__.py", submodule_search_locations=[str(folder)])


def make_importable() -> None:
    """Add the finder if, and only if, this package is seen from its own checkout."""
    root = Path(__file__).resolve().parent.parent
    is_checkout = (root / "pyproject.toml").is_file() and all(
        (root / name / "__init__.py").is_file() for name in _NEIGHBOURS
    )
    if is_checkout and not any(isinstance(f, _CheckoutFinder) for f in sys.meta_path):
        sys.meta_path.append(_CheckoutFinder(root))
