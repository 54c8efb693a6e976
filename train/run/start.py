"""Runs that start from a model's weights instead of random ones."""

from __future__ import annotations

from torch import nn

from adios_zoo.errors import ConfigError
from adios_zoo.models.card import ENCODER
from adios_zoo.models.masker import Masker
from adios_zoo.zoo.load import load_model


def start_from(source: str, encoder: nn.Module, masker: Masker | None) -> dict[str, str]:
    """Put a model's weights into the networks of a run; a masker stays as drawn if the model has none.

    Args:
        source: of the model, see :func:`adios_zoo.load_model`.
        encoder: of the run.
        masker: of the run, if it learns one.

    Returns:
        What the card of the run says of it: the model's name and the SHA-256 of its encoder's file.

    Raises:
        ConfigError: the model's networks have other shapes.
    """
    model = load_model(source)
    _fill(encoder, model.encoder, f"start={source}: its encoder, {model.card.architecture}, is another than the run's.")
    if masker is not None and model.masker is not None:
        text = f"start={source}: its masker, {model.card.masker}, is another than the run's; set masker.* to the same."
        _fill(masker, model.masker, text)
    return {"model": model.card.name, "sha256": model.card.files[ENCODER].sha256}


def _fill(network: nn.Module, other: nn.Module, mistake: str) -> None:
    try:
        network.load_state_dict(other.state_dict())
    except RuntimeError as error:
        raise ConfigError(mistake) from error
