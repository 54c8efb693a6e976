"""A recipe: everything that decides what a pretraining run computes, read from one YAML file."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from adios_zoo.errors import ConfigError
from adios_zoo.model_card import Norm
from adios_zoo.strict import build

from .game import GameSettings
from .observe import ObserveSettings
from .views import ViewSettings
from .watch import WatchSettings


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
    """The masker, see :class:`adios_zoo.masker.Masker`; ``every`` gives it a turn in each that many batches."""

    image_size: int = 64
    slots: int = 4
    base_channels: int = 32
    norm: Norm = "gn"
    blocks: int | None = None
    every: int = 1


@dataclass(frozen=True)
class OptimiserSettings:
    """SGD under LARS for both players, see :class:`adios_zoo.train.optim.LARS`.

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

    def size_in(self, epoch: int) -> int:
        """Side of the views in ``epoch``, in pixels."""
        started = [e for e in self.sizes if e <= epoch]
        return self.sizes[max(started)] if started else self.image_size

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON and YAML write it."""
        return dataclasses.asdict(self)


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("adios_zoo.train") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_recipe(source: str, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe of a name or a YAML file's path, with ``key=value`` settings on top.

    A key is dotted (``optimiser.lr=0.2``), a value is YAML (``sizes={0: 32, 5: 64}``).

    Raises:
        ConfigError: unknown recipe, or one line for every unknown key and ill-typed value.
    """
    data = _yaml(_text(source), f"Recipe {source}") or {}
    if not isinstance(data, dict):
        raise ConfigError(f"Recipe {source}: a mapping of settings was expected.")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(f"A setting is key=value, not {override!r}.")
        _put(data, key.split("."), _yaml(value, f"The setting {override}"))
    return parse_recipe(data, what=f"Recipe {source}")


def parse_recipe(data: object, *, what: str) -> Recipe:
    """The recipe that plain data describe; ``what`` names them in the error."""
    recipe = build(Recipe, data, what=what, error=ConfigError)
    mistakes = [
        f"{name} must be positive, not {value}."
        for name, value in (
            ("epochs", recipe.epochs),
            ("batch_size", recipe.batch_size - 1),
            ("accumulate", recipe.accumulate),
            ("shuffle_buffer", recipe.shuffle_buffer),
            ("image_size", recipe.image_size),
            ("masker.every", recipe.masker.every),
            ("game.temperature", recipe.game.temperature),
            ("checkpoint_minutes", recipe.checkpoint_minutes),
        )
        if value <= 0
    ]
    if mistakes:
        raise ConfigError(f"{what}: " + "\n".join(mistakes))
    return recipe


def _text(source: str) -> str:
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"Recipe {source} cannot be read: {error.strerror}.") from error
    if source in recipe_names():
        return (resources.files("adios_zoo.train") / "recipes" / f"{source}.yaml").read_text(encoding="utf-8")
    close = difflib.get_close_matches(source, recipe_names(), n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(recipe_names())}."
    raise ConfigError(f"There is no recipe named {source!r}; {hint} A recipe of your own is a path ending in .yaml.")


def _yaml(text: str, what: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{what} is not YAML: {' '.join(str(error).split())}") from error


def _put(data: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise ConfigError(f"{'.'.join(keys)} cannot be set: {key} is not a group of settings.")
    data[keys[-1]] = value
