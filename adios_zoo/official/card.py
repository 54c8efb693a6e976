"""The card that the ``args.json`` of a release describes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from adios_zoo.errors import IntegrityError
from adios_zoo.models.card import Card, MaskerFacts, Norm
from adios_zoo.models.masker import default_blocks
from adios_zoo.official.archive import shown

LICENSE = (
    "not stated for the weights; the authors' repository has no LICENSE file, MIT is declared in its setup.py only"
)

# What makes two cards cards of one model; the rest is words.
FACTS = (
    "architecture",
    "set",
    "method",
    "mask_use",
    "input_size",
    "crop_pct",
    "crop_mode",
    "interpolation",
    "mean",
    "std",
    "masker",
    "model_args",
)

# Their encoders by timm's name.  Transformers take the image size.
_ARCHITECTURES = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    **{f"vit_{size}": f"vit_{size}_patch16_224" for size in ("tiny", "small", "base", "large")},
    **{f"swin_{size}": f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base", "large")},
}


@dataclass(frozen=True)
class _Pixels:
    """How the authors evaluate on one data set: the resize before the centre crop (none: both sides), statistics."""

    set: str
    resize: int | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


_IMAGENET = ((0.485, 0.456, 0.406), (0.228, 0.224, 0.225))
_CIFAR = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
_SETS = {
    "imagenet": _Pixels("in1k", 256, *_IMAGENET),
    "imagenet100": _Pixels("in100", 256, *_IMAGENET),
    "imagenet100s": _Pixels("in100s", 256, *_IMAGENET),
    "stl10": _Pixels("stl10", None, (0.4914, 0.4823, 0.4466), (0.247, 0.243, 0.261)),
    "cifar10": _Pixels("cifar10", None, *_CIFAR),
    "cifar100": _Pixels("cifar100", None, *_CIFAR),
}

_RECIPE = [
    "max_epochs",
    "batch_size",
    "optimizer",
    "lr",
    "mask_lr",
    "classifier_lr",
    "weight_decay",
    "lars",
    "eta_lars",
    "grad_clip_lars",
    "exclude_bias_n_norm",
    "scheduler",
    "warmup_epochs",
    "warmup_start_lr",
    "min_lr",
    "train_mask_epoch",
    "alpha_sparsity",
    "alpha_entropy",
    "temperature",
    "output_dim",
    "proj_hidden_dim",
    "pred_hidden_dim",
    "base_tau_momentum",
    "final_tau_momentum",
    "use_no_mask",
    "use_symmetry_mask",
    "use_both_mask",
]
_VIEWS = ["brightness", "contrast", "saturation", "hue", "gaussian_prob", "solarization_prob", "min_scale"]
_TITLES = {"simclr": "SimCLR", "simsiam": "SimSiam", "byol": "BYOL"}


def card_of_args(args: Mapping[str, Any], what: str, known: Mapping[str, Card] | None = None) -> Card:
    """The card of a release by its settings; settings that do not concern the networks are taken as they come.

    Args:
        args: content of ``args.json``.
        what: names the release in messages.
        known: cards by name; of one with the release's name and facts the words (summary, address, aliases) are used.

    Raises:
        IntegrityError: a setting that is needed is missing or wrong, or the networks cannot be expressed here.
    """
    read = _Settings(args, what)
    method, mask_use = read.method()
    encoder, architecture = read.encoder()
    pixels, size = read.pixels(), read.whole("img_size", 1, 4096)
    blocks = read.whole("num_blocks", 4, 6, default=4) if method == "simsiam" else default_blocks(size)
    masker = MaskerFacts(
        image_size=size,
        slots=read.whole("N", 1, 64),
        base_channels=read.whole("mask_fbase", 1, 1024),
        norm=cast("Norm", read.one_of("unet_norm", ("gn", "in", "no"))),
        blocks=blocks,
    )
    use = "all masks" if mask_use == "all" else "one mask drawn for each image"
    trained = f"ADIOS with {_TITLES[method]} ({use}) on {pixels.set} ({size} pixels)"
    card = Card(
        name=f"{encoder}_{pixels.set}_{method}",
        summary=f"{encoder} of the authors' code, {trained}.",
        architecture=architecture,
        set=pixels.set,
        method=cast("Literal['simclr', 'byol', 'simsiam']", method),
        mask_use=mask_use,
        input_size=size,
        crop_pct=min(1.0, size / pixels.resize) if pixels.resize else 1.0,
        crop_mode="center" if pixels.resize else "squash",
        interpolation="bilinear",
        mean=pixels.mean,
        std=pixels.std,
        masker=masker,
        license=LICENSE,
        origin="release",
        model_args={} if encoder.startswith("resnet") else {"img_size": size},
        recipe=read.recipe(),
    )
    ours = (known or {}).get(card.name)
    if ours is not None and ours.origin == "release" and not differences(card, ours):
        return ours.replace(recipe=card.recipe)
    return card


def differences(one: Card, other: Card) -> list[str]:
    """Names of the facts in which two cards differ."""
    return [name for name in FACTS if getattr(one, name) != getattr(other, name)]


class _Settings:
    """Reads ``args.json``: a value, or a list of one, of a kind and range; anything else is one clear error."""

    def __init__(self, args: Mapping[str, Any], what: str) -> None:
        self._args, self._what = args, what

    def whole(self, key: str, least: int, most: int, *, default: int | None = None) -> int:
        value = self._get(key)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self._wrong(key, f"a whole number from {least} to {most}")
        return value

    def one_of(self, key: str, names: tuple[str, ...]) -> str:
        value = self._get(key)
        if not isinstance(value, str) or value not in names:
            raise self._wrong(key, f"one of {', '.join(names)}")
        return value

    def method(self) -> tuple[str, Literal["all", "one"]]:
        value = self._get("method")
        match = re.fullmatch(r"(simclr|byol|simsiam)_adios(_s)?", value) if isinstance(value, str) else None
        if match is None:
            raise self._wrong("method", "simclr_adios, simsiam_adios or byol_adios, with or without _s")
        return match[1], "one" if match[2] else "all"

    def encoder(self) -> tuple[str, str]:
        """The authors' name of the encoder, and timm's."""
        value = self._get("encoder")
        if isinstance(value, str) and value.startswith("poolformer_"):
            raise IntegrityError(
                f"{self._what}: its PoolFormer normalises before it pools, timm's after; no timm model gives its "
                "features."
            )
        name = self.one_of("encoder", tuple(_ARCHITECTURES))
        if name.startswith("resnet") and self._get("cifar"):
            raise IntegrityError(
                f"{self._what}: its {name} has a 3x3 first convolution and no pooling after it, for CIFAR; no timm "
                "model is so."
            )
        return name, _ARCHITECTURES[name]

    def pixels(self) -> _Pixels:
        return _SETS[self.one_of("dataset", tuple(_SETS))]

    def recipe(self) -> dict[str, Any]:
        """Settings of the training that are plain values."""
        views = self._args.get("transform_kwargs")
        view_source = views if isinstance(views, Mapping) else self._args
        found = {key: self._get(key) for key in _RECIPE} | {key: self._get(key, view_source) for key in _VIEWS}
        return {key: value for key, value in found.items() if _is_plain(value)}

    def _get(self, key: str, source: Mapping[str, Any] | None = None) -> Any:
        value = (self._args if source is None else source).get(key)
        return value[0] if isinstance(value, list) and len(value) == 1 else value

    def _wrong(self, key: str, expected: str) -> IntegrityError:
        found = shown(self._args[key]) if key in self._args else "missing"
        return IntegrityError(f"{self._what}: {key} in args.json must be {expected}; it is {found}.")


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= 100 and value.isprintable()
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and abs(value) < 1 << 53
