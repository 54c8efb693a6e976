"""What a source gives to a run: its images in memory, or itself, to be read as the run goes on."""

from __future__ import annotations

from dataclasses import dataclass

from adios_zoo.errors import ConfigError
from adios_zoo.images.image import ImageError
from adios_zoo.sources.open import open_stream
from adios_zoo.sources.source import Source, Stream

from ..recipe.settings import Recipe
from .batches import Batches, Incoming, InMemory
from .crops import crops_of_files, crops_of_stream
from .in_memory import ImageSet, load_images
from .plan import Plan

_SMALL = 128  # pixels of the shorter side: larger ones would lose by being kept at one size
_PROBED = 20  # images that are looked at
_MOST_BYTES = 8 << 30  # fixed, not what happens to be free: a run must not change when it goes on elsewhere


@dataclass
class Feed:
    """What a source gives to a run: its images in memory, or itself."""

    count: int
    classes: int
    fingerprint: str
    source: Stream
    images: ImageSet | None = None

    def batches(self, plan: Plan, *, first: int, workers: int) -> Batches:
        """The batches from ``first`` on."""
        if self.images is not None:
            return InMemory(self.images, plan)
        if isinstance(self.source, Source):
            return Incoming(crops_of_files(self.source, plan, first, workers), plan)
        return Incoming(crops_of_stream(self.source, plan, first, workers), plan)


def open_feed(spec: str, recipe: Recipe) -> Feed:
    """Open a source for a run: images that are small and fit are decoded into memory, others stay where they are.

    Raises:
        ConfigError: a stream without a number of images, a probe without classes, or images without the masks that the
            recipe asks for.
        DataError: it cannot be read, or too many of its images cannot.
    """
    source = open_stream(spec)
    given = recipe.masker.kind == "given"
    if given and all(ref.mask is None for ref in source.iterate(0, 1)):
        raise ConfigError(
            f"masker.kind=given takes the images' own masks, and {spec} has none; add a column mask to parquet files, "
            "or choose another masker.kind."
        )
    if not isinstance(source, Source):
        if recipe.images is None or recipe.in_memory == "yes":
            raise ConfigError(f"{spec} is a stream: set images to how many make an epoch, and in_memory to auto or no.")
        return Feed(recipe.images, _classes(source, recipe), source.fingerprint(), source)
    if recipe.in_memory == "yes" or (recipe.in_memory == "auto" and _fits_in_memory(source, recipe)):
        images = load_images(spec, limit=recipe.images, max_bad_share=recipe.max_bad_share, masks=given)
        classes = max(int(images.labels.max()) + 1, len(images.classes))
        return Feed(len(images), classes, images.fingerprint, source, images)
    count = len(source) if recipe.images is None else min(recipe.images, len(source))
    return Feed(count, _classes(source, recipe), source.fingerprint(), source)


def _classes(source: Stream, recipe: Recipe) -> int:
    if recipe.probe and not source.classes:
        raise ConfigError(f"{source.spec} does not name its classes, which the online probe needs; set probe=false.")
    return len(source.classes)


def _fits_in_memory(source: Source, recipe: Recipe) -> bool:
    sides = []
    for k in range(min(_PROBED, len(source))):
        try:
            sides.append(min(source[k].read().size))
        except ImageError:
            continue
    if not sides or max(sides) > _SMALL:
        return False
    count = len(source) if recipe.images is None else min(recipe.images, len(source))
    channels = 4 if recipe.masker.kind == "given" else 3
    return count * channels * max(sides) ** 2 <= _MOST_BYTES
