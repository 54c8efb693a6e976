"""The encoder that is evaluated: any model of this package, one of timm's, or either with random weights."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from adios_zoo.errors import ConfigError, DownloadError
from adios_zoo.features.torch_backend import choose_device, weights_digest
from adios_zoo.models.card import Card
from adios_zoo.models.encoder import create_encoder
from adios_zoo.models.model import AdiosModel
from adios_zoo.version import __version__
from adios_zoo.zoo.fetch import card_of
from adios_zoo.zoo.load import load_model
from adios_zoo.zoo.snapshot import hub_file

from ..chance import check_seed

TIMM = "timm:"


def load_encoder(source: str, *, random_seed: int | None = None, device: str = "cpu") -> AdiosModel:
    """A model to evaluate.

    Args:
        source: what :func:`adios_zoo.load_model` takes, or ``timm:NAME``: timm's encoder of that name with the weights
            that timm has for it, its own preprocessing, and no masker.
        random_seed: draw the weights from this seed instead; none are fetched then.
        device: where it goes.

    Raises:
        ConfigError: timm does not know the name, the model takes no square images, or the seed is none.
        DownloadError: the weights are not here and cannot be fetched.
        AdiosError: as :func:`adios_zoo.load_model`.
    """
    if random_seed is not None:
        check_seed(random_seed)
    is_timms = source.startswith(TIMM)
    where = choose_device(device)
    if random_seed is None:
        return (_timms(source.removeprefix(TIMM)) if is_timms else load_model(source)).to(where)
    card = _timms_card(source.removeprefix(TIMM)) if is_timms else card_of(source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_seed)
        return AdiosModel(card).to(where)


def model_record(source: str, model: AdiosModel) -> dict[str, Any]:
    """What a record says of the model that was evaluated.

    Args:
        source: as the user named it.
        model: that :func:`load_encoder` made of it.

    Returns:
        Its name, ``model_source``, the SHA-256 of the ``weights`` of its encoder and of its masker, if it has one (see
        :func:`adios_zoo.features.torch_backend.weights_digest`), and the ``device`` where it is.
    """
    return {
        "model": model.card.name,
        "model_source": source,
        "weights": weights_digest(model.encoder),
        "masker_weights": None if model.masker is None else weights_digest(model.masker),
        "device": str(next(model.parameters()).device),
    }


def versions(*also: str) -> dict[str, str]:
    """The versions of this package and of those that figures depend on, ``also`` among them."""
    own = {"adios-zoo": __version__, "torch": torch.__version__}
    return own | {name: _version(name) for name in ("timm", *also)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # another distribution has its modules
        return "unknown"


def _timms_card(name: str) -> Card:
    import timm
    from timm.data.config import resolve_data_config

    create_encoder(name)  # says what is wrong with a name
    config = timm.get_pretrained_cfg(name)
    known = asdict(config) if config else {}
    facts: dict[str, Any] = resolve_data_config(pretrained_cfg=known)  # type: ignore[no-untyped-call]  # timm's own lack
    _, height, width = facts["input_size"]
    crop_mode, interpolation = facts.get("crop_mode", "center"), facts["interpolation"]
    if height != width or crop_mode not in ("center", "squash") or interpolation not in ("bilinear", "bicubic"):
        raise ConfigError(
            f"timm's {name} takes images of {height} x {width} pixels, {crop_mode} crop, {interpolation}; what can be "
            "evaluated takes square ones, center or squash, bilinear or bicubic."
        )
    return Card(
        name=f"{TIMM}{name}",
        summary=f"timm's {name}.",
        architecture=name,
        set="timm",
        method="none",
        mask_use="all",
        input_size=height,
        crop_pct=facts["crop_pct"],
        crop_mode=crop_mode,
        interpolation=interpolation,
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        masker=None,
        license=str(config.license) if config else "unknown",
    )


def _timms(name: str) -> AdiosModel:
    import timm

    model = AdiosModel(_timms_card(name))
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise DownloadError(f"timm has no weights of {name} on the Hugging Face Hub; --random draws random ones.")
    try:
        file = hub_file(config.hf_hub_id, config.hf_hub_filename or "model.safetensors")
    except DownloadError as error:
        raise DownloadError(
            f"timm's weights of {name} cannot be had: {str(error).rstrip('.')}; with a network "
            f"`hf download {config.hf_hub_id}` puts them into the cache, and --random draws random ones."
        ) from error
    # timm knows what its files need: their heads are left out, old names and position embeddings adapted.
    model.encoder = timm.create_model(
        name, pretrained=True, num_classes=0, pretrained_cfg_overlay={"file": str(file), "custom_load": False}
    )
    return model.eval()
