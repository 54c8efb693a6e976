"""AdiosModel: an encoder, its masker and their card as one module; loading and saving of model folders."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from adios_zoo.errors import AdiosError, CardError, ConfigError, IntegrityError
from adios_zoo.files import write_tensors, write_text
from adios_zoo.models.card import ENCODER, GOLDEN, HEADS, MASKER, ONNX_FOLDER, Card, check_facts, facts_of
from adios_zoo.models.card_texts import texts_of
from adios_zoo.models.encoder import create_encoder
from adios_zoo.models.fit import fill, no_larger_than
from adios_zoo.models.masker import Masker
from adios_zoo.models.preprocess import Transform, make_transform


class AdiosModel(nn.Module):
    """A pretrained encoder with its masker.

    ``model(x)`` maps normalised images (B, 3, H, W) to pooled features (B, D).

    Attributes:
        encoder: the timm backbone.
        masker: the U-Net that hides objects; ``None`` where the card has none.
        card: facts of the model.
    """

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card
        m = card.masker
        self.encoder = create_encoder(card.architecture, **card.model_args)
        self.masker = None if m is None else Masker(m.image_size, m.slots, m.base_channels, m.norm, m.blocks)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features (B, D) of normalised images (B, 3, H, W)."""
        return cast("Tensor", self.encoder(x))

    def masks(self, x: Tensor) -> Tensor:
        """Masks (B, N, H, W) of normalised images (B, 3, H, W): in [0, 1], summing to one over the N slots.

        Raises:
            ConfigError: the model has no masker.
        """
        if self.masker is None:
            raise ConfigError(f"{self.card.name} has no masker: it was trained without one, so it gives no masks.")
        return cast("Tensor", self.masker(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Dense features before pooling, in the layout of the timm backbone."""
        return cast("Tensor", cast("Any", self.encoder).forward_features(x))

    def forward_intermediates(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Intermediate features, exactly as the timm backbone's ``forward_intermediates`` gives them."""
        return cast("Any", self.encoder).forward_intermediates(x, *args, **kwargs)

    @cached_property
    def transform(self) -> Transform:
        """PIL image -> normalised tensor (3, S, S), as the card says."""
        return make_transform(self.card)

    def save_pretrained(self, folder: str | os.PathLike[str], *, dtype: torch.dtype = torch.float32) -> Path:
        """Write a model folder, which this package, timm and the Hub load.

        Args:
            folder: made if absent.
            dtype: of the stored weights.

        Returns:
            The folder.

        Raises:
            DataError: the folder cannot be written.
        """
        out = Path(folder)
        for stale in (
            out / HEADS,
            out / MASKER,
            *(out / ONNX_FOLDER).glob("*.onnx"),
        ):  # of the model that was here before
            stale.unlink(missing_ok=True)
        for name, module in networks(self).items():
            state = {
                key: value.to(dtype) if value.is_floating_point() else value
                for key, value in module.state_dict().items()
            }
            write_tensors(out / name, state, {"format": "pt"})
        # The folder's own weights, not the possibly more precise ones in memory, give the golden values.
        stored = self.card.replace(origin="local", files={}, precisions={})
        write_tensors(out / GOLDEN, golden(with_weights(AdiosModel(stored), out)))
        write_card(stored, out, also=[out / name for name in (*networks(self), GOLDEN)])
        return out

    def push_to_hub(self, repo: str, *, private: bool = False, revision: str | None = None) -> str:
        """Put the model on the Hugging Face Hub in one commit; :func:`adios_zoo.zoo.publish.publish` has the details.

        Args:
            repo: ``org/name``; made if absent.
            private: of a repository that is made now.
            revision: the branch that takes the commit; default: the main one.

        Returns:
            The address of the commit.

        Raises:
            ConfigError: no name that the Hub can have.
            DownloadError: the Hub cannot be reached or refuses.
        """
        from adios_zoo.zoo.publish import publish

        with TemporaryDirectory() as folder:
            return str(publish(self.save_pretrained(folder), repo, private=private, revision=revision).address)

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str], *, device: str = "cpu") -> AdiosModel:
        """Load a model; the same as :func:`adios_zoo.load_model`."""
        from adios_zoo.zoo.load import load_model

        return load_model(source, device=device)


def build(card: Card, elements: int, *, what: str) -> AdiosModel:
    """The card's model at random initialisation, if it is no larger than the files that will fill it.

    Args:
        card: from a source that is not trusted.
        elements: how many numbers the files hold, at most.
        what: names the source in messages.

    Raises:
        CardError: there is no such model.
        IntegrityError: it is larger, and was not made.
    """
    try:
        with no_larger_than(elements, what):
            return AdiosModel(card)
    except AdiosError as error:
        raise error if isinstance(error, IntegrityError) else CardError(f"{what}: {error}") from error
    except Exception as error:  # timm's constructors raise nearly anything on arguments that nobody thought of
        reason = ascii(str(error).partition("\n")[0])[1:-1][:200] or type(error).__name__
        raise CardError(f"{what}: no {card.architecture} can be made with {card.model_args}: {reason}.") from error


def networks(model: AdiosModel) -> dict[str, nn.Module]:
    """The networks of a model by the file that holds them."""
    return {ENCODER: model.encoder} if model.masker is None else {ENCODER: model.encoder, MASKER: model.masker}


def golden(model: AdiosModel) -> dict[str, Tensor]:
    """Two inputs of the model with their features and masks (if it has any), to check another backend by."""
    size = model.card.input_size
    axis = torch.linspace(-3, 3, size)
    waves = torch.stack([torch.sin(axis * (c + 1))[:, None] * torch.cos(axis * (c + 2))[None] for c in range(3)])
    x = torch.stack([waves, waves.flip(0, 2) * 1.5])
    with torch.inference_mode():
        found = {"pixel_values": x, "features": model(x)}
        return found if model.masker is None else {**found, "masks": model.masks(x)}


def write_card(card: Card, folder: Path, *, also: Iterable[Path] = ()) -> Card:
    """Write ``config.json`` and ``README.md`` of a model folder.

    Args:
        card: facts of the model.
        folder: of the model.
        also: files of the folder whose facts the card gets, beside those that it has.

    Returns:
        The card with the files' facts.
    """
    facts = {path.relative_to(folder).as_posix(): facts_of(path) for path in also}
    card = card.replace(files={**card.files, **facts})
    for name, text in texts_of(card).items():
        write_text(folder / name, text)
    return card


def with_weights(model: AdiosModel, folder: Path) -> AdiosModel:
    """Fill the model from the files of its folder, and return it.

    Raises:
        IntegrityError: a file is missing, damaged, not the one that the card states, or has other tensors.
    """
    for name, module in networks(model).items():
        path = folder / name
        if not path.is_file():
            raise IntegrityError(f"{folder} has no {name}.")
        if name in model.card.files:
            check_facts(path, model.card.files[name])
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError, LookupError, ValueError, RuntimeError) as error:
            raise IntegrityError(f"{path} is not a whole safetensors file: {ascii(str(error))[1:-1][:200]}.") from error
        fill(module, tensors, what=f"{path} for {model.card.architecture}")
    return model
