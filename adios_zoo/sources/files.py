"""Image files: of a folder, a glob, a ``.txt`` list, or one by one."""

from __future__ import annotations

from functools import partial
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from adios_zoo.images.image import ImageRef, fetched_ref, file_ref, path_id, path_of
from adios_zoo.sources.find import Found
from adios_zoo.sources.places import is_address, read_part
from adios_zoo.sources.source import Source

_SIZES = 1000


class Files(Source):
    """Files by name.

    Below a folder with sub-folders, the label of an image is the first folder of its name; the classes are
    these folders in name order.  An image outside them has none, and neither has any in a flat folder, a glob
    or a list, unless ``labels`` and ``classes`` are given.
    """

    def __init__(
        self, spec: str, found: Found, labels: NDArray[np.int64] | None = None, classes: tuple[str, ...] = ()
    ) -> None:
        self.spec, self.classes = spec, classes
        self._base, self._names = found.base, found.names
        self._labels = labels
        self._folders: dict[str, int] = {}
        if found.in_folder:
            self.classes = tuple(sorted({name.partition("/")[0] for name in found.names if "/" in name}))
            self._folders = {folder: label for label, folder in enumerate(self.classes)}

    def __len__(self) -> int:
        """How many files there are, readable or not."""
        return len(self._names)

    def _ref(self, position: int) -> ImageRef:
        name = self._names[position]
        place, label = self._base + name, self._label(position, name)
        if is_address(place):
            return fetched_ref(path_id(place), partial(read_part, place), label)
        return file_ref(place, label)

    def _label(self, position: int, name: str) -> int:
        if self._labels is not None:
            return int(self._labels[position])
        folder, slash, _ = name.partition("/")
        return self._folders.get(folder, -1) if slash else -1

    def fingerprint(self) -> str:
        """By all names in order, relative to the folder, given labels, and the sizes of up to 1,000 files.

        Sizes are those of files on this machine; an address is not asked.
        """
        digest = sha256(b"" if self._labels is None else self._labels.astype("<i8").tobytes())
        for name in self._names:
            digest.update(path_id(name).encode() + b"\n")
        for position in range(0, len(self), max(1, len(self) // _SIZES)):
            digest.update(str(_size(self._base + self._names[position])).encode() + b"\n")
        return digest.hexdigest()


def _size(path: str) -> int:
    try:
        return -1 if is_address(path) else path_of(path).stat().st_size
    except OSError:
        return -1
