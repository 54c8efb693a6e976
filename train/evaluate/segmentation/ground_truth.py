"""What is known of the objects in images: maps of labels, or boxes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.images.image import ImageError, ImageRef, fetch_mask, path_id

from ...data.given_masks import read_mask
from .overlap import BACKGROUND, Labels

T = TypeVar("T")
Boxes = NDArray[np.float64]
Void = int | Literal["auto"] | None

_VOID = 255  # of PASCAL VOC, Cityscapes, ADE20K ...


@dataclass(frozen=True)
class Truth:
    """One image and its objects.

    Attributes:
        id: of the image.
        image: in upright RGB.
        labels: (H, W), 0 the background, any other number an object; ``None`` where only boxes are known.
        judged: (H, W), false where the ground truth is void; ``None`` where there are no labels.
        boxes: (K, 4) left, top, right, bottom in pixels, of every object.
    """

    id: str
    image: Image.Image
    labels: Labels | None
    judged: NDArray[np.bool_] | None
    boxes: Boxes

    def within(self, box: tuple[float, float, float, float]) -> Truth:
        """What lies in a box (left, top, right, bottom) of the image, whose edges are rounded to whole pixels."""
        left, top, right, bottom = map(round, box)
        image = self.image.crop((left, top, right, bottom))
        if self.labels is not None and self.judged is not None:
            part = np.s_[top:bottom, left:right]
            return Truth.of_map(self.id, image, self.labels[part], self.judged[part])
        boxes = self.boxes - np.array([left, top, left, top])
        boxes = boxes.clip(0, np.array([right - left, bottom - top] * 2))
        return Truth(self.id, image, None, None, boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)])

    @classmethod
    def of_map(cls, id: str, image: Image.Image, labels: Labels, judged: NDArray[np.bool_]) -> Truth:
        """An image with a map, whose objects have the boxes of their judged pixels."""
        return cls(id, image, labels, judged, _extents(labels, judged))


def truths(
    refs: Iterator[ImageRef], *, masks: Path | None = None, boxes: Path | None = None, void: Void = "auto"
) -> Iterator[Truth | ImageError | None]:
    """Read each image that has ground truth; the others are ``None``, those that cannot be read the error.

    Args:
        refs: the images, with masks of their own unless one of the next two is given.
        masks: folder of label maps, PNG files of 8 bits, under the images' names.
        boxes: JSON file with ``images`` and ``annotations`` as COCO's; crowds are passed over.
        void: label of pixels that are not judged.  ``auto`` is 255 unless a map has no other label but 0, since
            then 255 is how its objects are drawn; ``None`` judges all pixels.

    Raises:
        ConfigError: both ``masks`` and ``boxes``, or an impossible ``void``.
        DataError: there are no maps, two images share a map, or the file is not as COCO's.
    """
    if masks is not None and boxes is not None:
        raise ConfigError("Ground truth is either masks or boxes; give one of them.")
    if isinstance(void, int) and not 0 <= void <= 255:
        raise ConfigError(f"The label of void pixels is {void}; it is a number from 0 to 255, auto or none.")
    annotated = _boxes_of(boxes) if boxes is not None else _mask_of(masks)
    return (_read(ref, void) for ref in map(annotated, refs))


def _read(ref: ImageRef, void: Void) -> Truth | ImageError | None:
    try:
        return _truth(ref, void)
    except ImageError as error:
        return error


def _truth(ref: ImageRef, void: Void) -> Truth | None:
    if ref.mask is not None:
        image = ref.read()
        labels = np.array(read_mask(ref, image), np.uint8)
        judged = np.ones(labels.shape, bool)
        if void == "auto":
            judged = labels != _VOID if set(np.unique(labels)) - {BACKGROUND, _VOID} else judged
        elif void is not None:
            judged = labels != void
        return Truth.of_map(ref.id, image, labels, judged)
    corners = np.array(ref.boxes() if ref.boxes else [], np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    corners = corners[(corners[:, 2:] > corners[:, :2]).all(axis=1)]
    return Truth(ref.id, ref.read(), None, None, corners) if len(corners) else None


def _mask_of(folder: Path | None) -> Callable[[ImageRef], ImageRef]:
    """Give a reference the map of its name in the folder, if one was named."""
    if folder is None:
        return lambda ref: ref
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder of label maps.")
    files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.png")}
    if not files:
        raise DataError(f"{folder} holds no label maps: PNG files under the names of the images.")
    taken: dict[Path, str] = {}

    def masked(ref: ImageRef) -> ImageRef:
        path = named(files, str(PurePosixPath(ref.id).with_suffix("")))
        if path is None:
            return ref
        if taken.setdefault(path, ref.id) != ref.id:
            raise DataError(
                f"{path} would be the label map of {taken[path]} and of {ref.id}; keep their folders apart."
            )
        return replace(ref, mask=partial(fetch_mask, ref.id, path.read_bytes))

    return masked


def _extents(labels: Labels, judged: NDArray[np.bool_]) -> Boxes:
    """The box of each object of a map."""
    from scipy.ndimage import find_objects

    found = [place for place in find_objects(np.where(judged, labels, BACKGROUND)) if place is not None]
    return np.array([(x.start, y.start, x.stop, y.stop) for y, x in found], np.float64).reshape(-1, 4)


def _boxes_of(path: Path) -> Callable[[ImageRef], ImageRef]:
    """Give a reference the boxes that the file has under its name."""
    files = _read_coco(path)

    def boxed(ref: ImageRef) -> ImageRef:
        entry = named(files, ref.id)

        def boxes() -> list[list[float]]:
            if entry is not None and entry.size is not None and entry.size != (have := ref.read().size):
                said, found = (" x ".join(map(str, size)) for size in (entry.size, have))
                raise ImageError(ref.id, f"it has {found} pixels, but {path_id(path)} says {said}")
            return [] if entry is None else entry.boxes

        return replace(ref, mask=None, boxes=boxes)

    return boxed


@dataclass(frozen=True)
class _Entry:
    size: tuple[int, int] | None
    boxes: list[list[float]]  # left, top, width, height


def _read_coco(path: Path) -> dict[str, _Entry]:
    """Boxes by file name."""
    try:
        content = json.loads(path.read_bytes())
        boxes: dict[int | str, list[list[float]]] = defaultdict(list)
        for annotation in content["annotations"]:
            left, top, width, height = map(float, annotation["bbox"])
            if not annotation.get("iscrowd"):
                boxes[annotation["image_id"]].append([left, top, width, height])
        return {
            image["file_name"]: _Entry(
                (image["width"], image["height"]) if "width" in image and "height" in image else None,
                boxes[image["id"]],
            )
            for image in content["images"]
        }
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} has not the form of COCO's annotations: 'images' with id and file_name, 'annotations' with "
            f"image_id and bbox (left, top, width, height)."
        ) from error


def named(entries: Mapping[str, T], id: str) -> T | None:
    """The entry whose name is the end of a path, the longest such name first: ``a/b.jpg`` before ``b.jpg``."""
    parts = PurePosixPath(id).parts
    return next((entries[name] for i in range(len(parts)) if (name := "/".join(parts[i:])) in entries), None)
