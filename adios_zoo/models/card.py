"""The card of a model: all that is known of it, in one JSON file; the only place that knows the keys.

What is written from a card, timm's ``config.json`` and the page that the Hub shows, is in ``card_texts.py``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from adios_zoo.errors import CardError, IntegrityError
from adios_zoo.strict import build

CONFIG = "config.json"
ENCODER = "model.safetensors"
MASKER = "masker.safetensors"
GOLDEN = "golden.safetensors"
README = "README.md"
HEADS = "heads.safetensors"
ONNX_FOLDER = "onnx"

_MOST_JSON = 16 << 20

Norm = Literal["gn", "in", "no"]
Origin = Literal["bundled", "release", "local"]
Precision = Literal["fp16", "int8"]


@dataclass(frozen=True)
class MaskerFacts:
    """Shape of the masker, as :class:`adios_zoo.models.masker.Masker` takes it."""

    image_size: int
    slots: int
    base_channels: int
    norm: Norm
    blocks: int


@dataclass(frozen=True)
class FileFacts:
    """One file of the model: its length and its SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Figure:
    """A measured number and the command that gives it again.

    Attributes:
        name: what was measured.
        value: the number.
        unit: its unit, such as ``%``.
        command: what to type.
    """

    name: str
    value: float
    unit: str
    command: str


@dataclass(frozen=True)
class PrecisionFacts:
    """How near the ONNX encoder of a lower precision comes to the float32 one.

    Attributes:
        method: how it was made.
        images: held-back images that it was measured on; 0: crops of sample photographs, for want of others.
        cosine: median cosine of their features to those of float32.
        sample_cosine: the same on crops of sample photographs, for the worse of ``features`` and ``dense``; what
            `adios verify` can measure anywhere.
        labelled: how many held-back images had labels; 0 if k-NN was not measured.
        knn: their k-NN top-1, in percent: each half is judged by the other.
        knn_fp32: the same with float32.
        forced: whether it was written although it fails its gate.
    """

    method: str
    images: int
    cosine: float
    sample_cosine: float
    labelled: int = 0
    knn: float | None = None
    knn_fp32: float | None = None
    forced: bool = False


@dataclass(frozen=True)
class Card:
    """Facts of one model.

    Attributes:
        name: ``{architecture}_{set}_{method}`` in the zoo.
        summary: one sentence.
        architecture: timm's name of the encoder.
        set: short name of the training data.
        method: the loss that was played for; ``none``: the encoder was trained in another way.
        mask_use: all masks, or one drawn for each image.
        input_size: side of the encoder's input in pixels.
        crop_pct: input size over the size that images are resized to before the crop.
        crop_mode: ``center`` resizes the shorter side, ``squash`` both sides.
        interpolation: of the resize.
        mean: subtracted from pixel values in [0, 1], per channel.
        std: divided by.
        masker: shape of the masker; ``None`` for an encoder that was trained without one.
        license: what is known of the weights' licence.
        origin: ``bundled`` in the package, a ``release`` of the authors, or ``local``.
        aliases: further names in the zoo.
        model_args: for timm's constructor.
        source: address of the weights, if they are published elsewhere.
        archive: facts of the file at that address, as far as they are known; checked when it is fetched.
        paper: address of the paper.
        recipe: settings of the training.
        training: what the training took: images, hours, seed, machine.
        figures: measured numbers.
        files: facts of the files, by name; checked when the model is loaded.
        precisions: of the ONNX encoders beside the float32 one, by name.
    """

    name: str
    summary: str
    architecture: str
    set: str
    method: Literal["simclr", "byol", "simsiam", "none"]
    mask_use: Literal["all", "one"]
    input_size: int
    crop_pct: float
    crop_mode: Literal["center", "squash"]
    interpolation: Literal["bilinear", "bicubic"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    masker: MaskerFacts | None
    license: str
    origin: Origin = "local"
    aliases: tuple[str, ...] = ()
    model_args: dict[str, Any] = field(default_factory=dict)
    source: str | None = None
    archive: FileFacts | None = None
    paper: str = "https://arxiv.org/abs/2201.13100"
    recipe: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    files: dict[str, FileFacts] = field(default_factory=dict)
    precisions: dict[Precision, PrecisionFacts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse facts that no model has; what was wrong is listed with the mistakes of the types."""
        for name in self.files:
            if not re.fullmatch(r"(onnx/)?[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
                raise ValueError(f"files: {name!r} is not a plain file name, in the folder or in its onnx/.")
        if mistake := _model_args_mistake(self.model_args):
            raise ValueError(f"model_args: {mistake}")
        if not 0 < self.input_size <= 4096 or not 0 < self.crop_pct <= 1:
            raise ValueError("input_size must be from 1 to 4096 and crop_pct above 0, at most 1.")
        if self.input_size > 8192 * self.crop_pct:
            raise ValueError("crop_pct must not ask for images of more than 8192 pixels.")
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise ValueError("mean and std must be finite, std above 0.")
        if self.masker is None:
            return
        if not 0 < self.masker.slots <= 64 or not 0 < self.masker.base_channels <= 1024:
            raise ValueError("masker: slots must be from 1 to 64 and base_channels from 1 to 1024.")
        if not 0 < self.masker.image_size <= 4096:
            raise ValueError("masker: image_size must be from 1 to 4096.")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as the JSON files hold it; ``precisions`` only if there are any."""
        data = dataclasses.asdict(self)
        return data if self.precisions else {key: value for key, value in data.items() if key != "precisions"}

    def replace(self, **changes: Any) -> Card:
        """A copy with other facts."""
        return dataclasses.replace(self, **changes)


# timm's own arguments, which would read files, fetch, or make something other than one encoder on the CPU.
_TIMMS_OWN = re.compile(
    r"pretrained.*|checkpoint_path|cache_dir|scriptable|exportable|no_jit|features_only|feature_cfg|out_indices|"
    r"num_classes|device|dtype|kwargs_filter|model_name"
)


def _model_args_mistake(value: object, *, depth: int = 0) -> str | None:
    """What is wrong with arguments for timm's constructor, if anything is: they are few, small and plain."""
    if isinstance(value, dict):
        if depth == 0 and (own := [name for name in value if _TIMMS_OWN.fullmatch(name)]):
            return f"{own[0]} is not an argument of an architecture."
        value = list(value.values())
    if isinstance(value, list | tuple):
        if len(value) > 64 or depth > 3:
            return "at most 64 values, three levels deep."
        return next((m for inner in value if (m := _model_args_mistake(inner, depth=depth + 1))), None)
    if isinstance(value, int | float) and not abs(value) <= 4096:
        return f"{str(value)[:30]} is not a number from -4096 to 4096."
    if isinstance(value, str) and len(value) > 100:
        return "a text of at most 100 characters."
    return None


def parse_card(data: object, *, what: str) -> Card:
    """The card that plain data describe; ``what`` names them in the error.

    Raises:
        CardError: one line for every unknown, missing or ill-typed key.
    """
    return build(Card, data, what=what, error=CardError)


def read_json(path: Path) -> object:
    """What a JSON file holds.

    Raises:
        CardError: the file is missing or is no JSON.
    """
    try:
        if path.stat().st_size > _MOST_JSON:
            raise CardError(f"{path} is no card: it has more than {_MOST_JSON} bytes.")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CardError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise CardError(f"{path} is not JSON: {error}.") from error


def card_of_folder(folder: Path) -> Card:
    """The card in a model folder's ``config.json``.

    Raises:
        CardError: there is none, or it is wrong.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise CardError(f"{folder} is not a model folder: it has no {CONFIG}.")
    data = read_json(path)
    if not isinstance(data, dict) or "adios" not in data:
        raise CardError(f"{path} has no 'adios' block: the folder was not saved by adios-zoo.")
    return parse_card(data["adios"], what=str(path))


def facts_of(path: Path) -> FileFacts:
    """Length and SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return FileFacts(path.stat().st_size, digest.hexdigest())


def check_facts(path: Path, stated: FileFacts) -> None:
    """Compare a file with what its card states.

    Raises:
        IntegrityError: they differ.
    """
    if path.stat().st_size != stated.bytes or facts_of(path) != stated:
        raise IntegrityError(f"{path} is not the file that its card describes: length or SHA-256 differ.")


def onnx_encoder(precision: str) -> str:
    """Name of the ONNX encoder of a precision in a model folder."""
    return f"{ONNX_FOLDER}/encoder.onnx" if precision == "fp32" else f"{ONNX_FOLDER}/encoder_{precision}.onnx"
