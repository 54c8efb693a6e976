"""Image files: of a folder, a glob, a ``.txt`` list, or one by one."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from pathlib import Path

from adios_zoo.find import Found, path_id
from adios_zoo.images import ImageRef, fetched_ref, file_ref
from adios_zoo.sources.places import is_address, read_part
from adios_zoo.sources.source import Source

_SIZES = 1000


class Files(Source):
    """Files by name.

    Below a folder with sub-folders, the label of an image is the first folder of its name; the classes are
    these folders in name order.  An image outside them has none, and neither has any in a flat folder, a glob
    or a list.
    """

    def __init__(self, spec: str, found: Found) -> None:
        self.spec = spec
        self._base, self._names = found.base, found.names
        if found.in_folder:
            folders = {name.partition("/")[0] for name in found.names if "/" in name}
            self.classes = tuple(sorted(folders))
        self._labels = {name: label for label, name in enumerate(self.classes)}

    def __len__(self) -> int:
        """How many files there are, readable or not."""
        return len(self._names)

    def _ref(self, position: int) -> ImageRef:
        name = self._names[position]
        folder, slash, _ = name.partition("/")
        label = self._labels.get(folder, -1) if slash else -1
        place = self._base + name
        if is_address(place):
            return fetched_ref(path_id(place), partial(read_part, place), label)
        return file_ref(place, label)

    def fingerprint(self) -> str:
        """By all names, in order and relative to the folder, and the sizes of up to 1,000 evenly spread files.

        Sizes are those of files on this machine; an address is not asked.
        """
        digest = sha256()
        for name in self._names:
            digest.update(path_id(name).encode() + b"\n")
        for position in range(0, len(self), max(1, len(self) // _SIZES)):
            digest.update(str(_size(self._base + self._names[position])).encode() + b"\n")
        return digest.hexdigest()


def _size(path: str) -> int:
    try:
        return -1 if is_address(path) else Path(path).stat().st_size
    except OSError:
        return -1
