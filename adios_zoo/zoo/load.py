"""From what a user names to a model in memory."""

from __future__ import annotations

import os

from adios_zoo.errors import BackendError
from adios_zoo.models.card import CONFIG, ENCODER, MASKER
from adios_zoo.models.model import AdiosModel, build, with_weights
from adios_zoo.zoo import registry
from adios_zoo.zoo.fetch import locate


def load_model(source: str | os.PathLike[str], *, device: str = "cpu") -> AdiosModel:
    """Load a model in evaluation mode.

    Args:
        source: a name of the zoo, ``hf-hub:org/repo[@revision]``, ``local-dir:PATH``, or the path of a model folder.
            Weights that are not on this machine are fetched and kept; see :mod:`adios_zoo.zoo.cache`.
        device: where the weights go, such as ``cpu`` or ``cuda``.

    Raises:
        UnknownModelError: no such name and no such folder.
        DownloadError: the weights are not here and cannot be fetched.
        DataError: they cannot be kept.
        CardError: the folder's card is wrong.
        IntegrityError: a file is missing, damaged, or has other tensors than the card says.
        BackendError: the device is not available.
    """
    card, folder = locate(os.fspath(source))
    files = [folder / name for name in ((ENCODER, MASKER) if card.masker else (ENCODER,))]
    # No weight takes less than a byte.
    most = sum(path.stat().st_size for path in files if path.is_file())
    model = with_weights(build(card, most, what=str(folder / CONFIG)), folder)
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise BackendError(f"Device {device!r} is not available: {str(error).splitlines()[0]}") from error


def random_model(name: str) -> AdiosModel:
    """The zoo's model ``name`` with randomly initialised weights and its card."""
    return AdiosModel(registry.card(name))
