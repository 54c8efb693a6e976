"""A recipe: everything that decides what a pretraining run computes, read from one YAML file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from adios_zoo.errors import ConfigError
from adios_zoo.models.card import Norm
from adios_zoo.strict import Mistake, read

from ..data.views import ViewSettings
from ..game.game import GameSettings
from ..report.observe import ObserveSettings
from ..run.watch import WatchSettings
from .files import parse_yaml, recipe_text


@dataclass(frozen=True)
class EncoderSettings:
    """The backbone.

    Attributes:
        architecture: timm's name.
        model_args: for its constructor.
    """

    architecture: str = "resnet18"
    model_args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskerSettings:
    """Where the masks come from, and when the masker plays.

    Attributes:
        kind: ``learned`` by the masker's network; nobody's, ``none``, ``patches``, ``blocks``, ``boxes``, see
            :func:`adios_zoo.train.game.random_masks.random_masks`; or the data's, ``given``.
        image_size: side that the network works on, in pixels; see :class:`adios_zoo.models.masker.Masker`.
        slots: N, the number of masks; of the other kinds too.
        base_channels: width of the network's first block.
        norm: ``gn`` group norm, ``in`` instance norm, ``no`` none.
        blocks: 4, 5 or 6 an arm; ``None`` goes by the image size.
        every: the masker has a turn in every so many steps.
        freeze_after: the masker has no turn from this epoch on; ``None`` never ends its turns.
        loss_factor: of the loss in the masker's objective, ``{epoch: factor}`` with straight lines between; 1 makes
            an adversary, -1 a partner of the encoder.  Empty is 1 throughout.
        ratio: share of the image that a random mask hides.
        patch: side of the patches of ``patches`` and ``blocks``, in pixels of the view.
    """

    kind: Literal["learned", "none", "patches", "blocks", "boxes", "given"] = "learned"
    image_size: int = 64
    slots: int = 4
    base_channels: int = 32
    norm: Norm = "gn"
    blocks: int | None = None
    every: int = 1
    freeze_after: int | None = None
    loss_factor: dict[int, float] = field(default_factory=dict)
    ratio: float = 0.25
    patch: int = 8

    def plays(self, step: int, epoch: int) -> bool:
        """Whether the masker has a turn in this step."""
        frozen = self.freeze_after is not None and epoch >= self.freeze_after
        return self.kind == "learned" and not frozen and step % self.every == 0

    def loss_factor_in(self, epoch: float) -> float:
        """The factor of the loss in the masker's objective, ``epoch`` epochs from the start."""
        if not self.loss_factor:
            return 1.0
        epochs = sorted(self.loss_factor)
        return float(np.interp(epoch, epochs, [self.loss_factor[e] for e in epochs]))


@dataclass(frozen=True)
class OptimiserSettings:
    """SGD under LARS for both players, see :class:`adios_zoo.train.game.optim.LARS`.

    Attributes:
        lr: peak rate of encoder, projector and predictor.
        masker_lr: peak rate of the masker.
        probe_lr: peak rate of the online linear probe.
        weight_decay: for all but the probe.
        momentum: of the velocity.
        eta: LARS's trust coefficient.
        clip: bound layer-wise rates by the group's.
        exclude_1d: plain, undecayed SGD for biases and norm scales.
        warmup_epochs: length of the linear warm-up.
        warmup_start_lr: where every group starts.
        min_lr: where the cosine ends.
        schedule_by: ``epoch``, as the authors do, or ``step``, which moves the rate at every batch.
        ends_early: epochs before the end at which the cosine of all but the masker ends; past it their rates climb
            again along the cosine (10 in the authors' BYOL runs).
        byol_tau: BYOL's first and last momentum.
    """

    lr: float = 0.1
    masker_lr: float = 0.05
    probe_lr: float = 0.1
    weight_decay: float = 1e-4
    momentum: float = 0.9
    eta: float = 0.02
    clip: bool = True
    exclude_1d: bool = True
    warmup_epochs: int = 10
    warmup_start_lr: float = 0.003
    min_lr: float = 0.0
    schedule_by: Literal["epoch", "step"] = "epoch"
    ends_early: int = 0
    byol_tau: tuple[float, float] = (0.99, 1.0)


@dataclass(frozen=True)
class Recipe:
    """One pretraining run.

    Attributes:
        set: short name of the data set, for the card.
        epochs: passes over the data.
        batch_size: images a batch, which all processes share.
        accumulate: batches a step, whose gradients are averaged before the update.
        image_size: side of the views and of the finished model's input, in pixels.
        sizes: views of another size from an epoch on, ``{epoch: pixels}``: small ones first save time.
        images: use the first so many of the data; ``None`` for all.  For a stream, how many make an epoch.
        in_memory: keep all images decoded in memory, at the size of the first; ``auto`` does so if they are small
            (128 pixels at most) and take 8 GiB at most.
        shuffle_buffer: images of a stream among which the next one is drawn.
        max_bad_share: stop if a larger share of the images cannot be read.
        precision: of the networks, ``fp32`` or ``bf16`` (mixed); ``auto`` is bf16 on GPUs that have it.
        seed: of everything random.
        start: a model whose weights encoder and masker start from, see :func:`adios_zoo.load_model`.
        probe: train an online linear probe when the data have labels (the encoder never sees them).
        mean: of pixel values in [0, 1], per channel.
        std: likewise.
        checkpoint_minutes: between checkpoints within an epoch.
    """

    set: str = "custom"
    epochs: int = 100
    batch_size: int = 128
    accumulate: int = 1
    image_size: int = 64
    sizes: dict[int, int] = field(default_factory=dict)
    images: int | None = None
    in_memory: Literal["auto", "yes", "no"] = "auto"
    shuffle_buffer: int = 1000
    max_bad_share: float = 0.01
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    start: str | None = None
    probe: bool = False
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.228, 0.224, 0.225)
    checkpoint_minutes: float = 10.0
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    masker: MaskerSettings = field(default_factory=MaskerSettings)
    game: GameSettings = field(default_factory=GameSettings)
    view1: ViewSettings = field(default_factory=ViewSettings)
    view2: ViewSettings = field(default_factory=ViewSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    observe: ObserveSettings = field(default_factory=ObserveSettings)
    watch: WatchSettings = field(default_factory=WatchSettings)

    @property
    def views(self) -> dict[int, ViewSettings]:
        """How each view is drawn, by number."""
        return {1: self.view1, 2: self.view2}

    @property
    def drawn_masks(self) -> int:
        """How many masks an image has where the masker makes none."""
        return self.masker.slots if self.game.mask_use == "all" and self.masker.kind != "none" else 1

    def size_in(self, epoch: int) -> int:
        """Side of the views in ``epoch``, in pixels."""
        started = [e for e in self.sizes if e <= epoch]
        return self.sizes[max(started)] if started else self.image_size

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON and YAML write it."""
        return dataclasses.asdict(self)


def read_recipe(source: str, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe of a name or a file's path, with ``key=value`` settings on top.

    A key is dotted (``optimiser.lr=0.2``), a value is YAML (``sizes={0: 32, 5: 64}``).

    Raises:
        ConfigError: unknown recipe, or one line for every mistake in it and in the settings on top.
    """
    data = parse_yaml(recipe_text(source), f"Recipe {source}") or {}
    if not isinstance(data, dict):
        raise ConfigError(f"Recipe {source}: a mapping of settings was expected.")
    mistakes = [mistake for override in overrides for mistake in _put(data, override)]
    return _checked(data, mistakes, what=f"Recipe {source}")


def parse_recipe(data: object, *, what: str) -> Recipe:
    """The recipe that plain data describe; ``what`` names them in the error.

    Raises:
        ConfigError: one line for every mistake.
    """
    return _checked(data, [], what=what)


def _checked(data: object, mistakes: list[Mistake], *, what: str) -> Recipe:
    from .checks import impossible

    recipe, more = read(Recipe, data)
    mistakes = mistakes + more
    if recipe is not None:
        wrong = {m.key for m in mistakes}
        mistakes += [m for m in impossible(recipe) if not wrong & set(m.key.split())]
    if mistakes or recipe is None:
        lines = list(dict.fromkeys(m.text for m in mistakes))
        raise ConfigError("\n".join(f"{what}: {line}" for line in lines))
    return recipe


def _put(data: dict[str, Any], override: str) -> list[Mistake]:
    """Put a ``key=value`` into the data; what is wrong with it."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        return [Mistake("", f"{override!r} is no setting; write key=value, such as optimiser.lr=0.2.")]
    try:
        value = parse_yaml(text, dotted)
    except ConfigError as error:
        return [Mistake(dotted, str(error))]
    *groups, last = dotted.split(".")
    for depth, key in enumerate(groups):
        inner = data.get(key, {})
        if not isinstance(inner, dict):
            return [Mistake(dotted, f"{dotted} is unknown; {'.'.join(groups[: depth + 1])} is no group of settings.")]
        data[key] = dict(inner)  # YAML's aliases are one and the same object
        data = data[key]
    data[last] = value
    return []
