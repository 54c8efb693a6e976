"""From the end of a run to a model folder."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import torch

from adios_zoo.cores import usable_cpus
from adios_zoo.errors import ConfigError
from adios_zoo.models.card import Card, MaskerFacts
from adios_zoo.models.encoder import feature_width
from adios_zoo.models.masker import default_blocks
from adios_zoo.models.model import AdiosModel
from adios_zoo.version import __version__

from ..game.game import Game
from ..report.progress import Progress
from .trainer import Trainer

_MASKS_OF = {
    "none": "nothing masked",
    "patches": "random patches masked",
    "blocks": "random blocks masked",
    "boxes": "random boxes masked",
    "given": "objects that the data mark masked",
}


def write_model(folder: Path, game: Game, card: Card) -> AdiosModel:
    """Write encoder and masker of ``game`` as a model folder with the card that the run gives."""
    model = AdiosModel(card)
    model.encoder.load_state_dict(game.encoder.state_dict())
    if model.masker is not None and game.masker is not None:
        model.masker.load_state_dict(game.masker.state_dict())
    model.save_pretrained(folder)
    return model


def card_of_run(trainer: Trainer, progress: Progress) -> Card:
    """The card of a run, which knows no figures yet.

    Raises:
        ConfigError: the recipe describes a model that no card can.
    """
    try:
        return _card(trainer, progress)
    except ValueError as error:
        raise ConfigError(f"The recipe's model can have no card: {error}") from error


def _card(trainer: Trainer, progress: Progress) -> Card:
    recipe, width = trainer.plan.recipe, feature_width(trainer.game.encoder)
    architecture, method = recipe.encoder.architecture, recipe.game.method
    m = recipe.masker
    if m.kind == "learned":
        blocks = m.blocks if m.blocks is not None else default_blocks(m.image_size)
        masker, trained = MaskerFacts(m.image_size, m.slots, m.base_channels, m.norm, blocks), f"ADIOS with {method}"
    else:
        masker, trained = None, f"{method} with {_MASKS_OF[m.kind]}"
    return Card(
        name=f"{architecture}_{recipe.set}_{method}",
        summary=f"{architecture} ({width} features){' and masker' if masker else ''}, {trained}, on {recipe.set}.",
        architecture=architecture,
        model_args=recipe.encoder.model_args,
        set=recipe.set,
        method=method,
        mask_use=recipe.game.mask_use,
        input_size=recipe.image_size,
        crop_pct=1.0,
        crop_mode="center",
        interpolation="bilinear",
        mean=recipe.mean,
        std=recipe.std,
        masker=masker,
        license="not decided; state one before publishing",
        recipe=recipe.to_dict(),
        training={
            "images": trainer.plan.count,
            "epochs": recipe.epochs,
            "hours": round(progress.seconds / 3600, 2),
            "seed": recipe.seed,
            **({"start": trainer.start} if trainer.start else {}),
            "data": progress.data,
            "machine": machine(),
            "code": "; ".join(progress.code),
        },
    )


def machine(device: torch.device | None = None) -> str:
    """What this computer is, and the device that a run computes on."""
    name = f"{platform.machine()}, {usable_cpus()} cores"
    return f"{name}, {torch.cuda.get_device_name(device)}" if device is not None and device.type == "cuda" else name


def code_version() -> str:
    """Version of this package, with the commit if it runs from a checkout, and whether that was changed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return f"adios-zoo {__version__}"
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return f"adios-zoo {__version__}"
    return f"adios-zoo {__version__}, commit {commit}"
