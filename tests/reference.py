"""Reads the golden numbers, which carry the names of the authors' release, into the project's own terms."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from adios_zoo.train.game import Game, GameSettings
from adios_zoo.train.optim import LARS
from safetensors import safe_open
from torch import Tensor, nn

from adios_zoo.masker import Masker, default_blocks

# Parameter groups in the order of the header's learning rates.
GROUPS = {
    "simclr": ["encoder", "classifier", "projector"],
    "simsiam": ["encoder", "classifier", "projector", "predictor"],
    "byol": ["projector", "predictor", "encoder", "classifier"],
}
TERMS = {"symmetry": "use_symmetry_mask", "no_mask": "use_no_mask", "both": "use_both_mask"}


def ours(key: str) -> str:
    """The project's name of a tensor of the release."""
    return key.replace("mask_encoder.", "masker.").replace("mask_head.0.", "masker.head.")


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with safe_open(path, "pt") as file:
        header = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
        return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@dataclass
class Reference:
    """One method file: its header, its tensors, and games that start from its initial state."""

    path: Path

    def __post_init__(self) -> None:
        self.header, self.tensors = read(self.path)
        self.settings = self.header["hyperparameters"]
        self.method, _, use = self.header["method"].partition("_adios")
        self.mask_use = "one" if use == "_s" else "all"

    def game(self, dtype: torch.dtype = torch.float32) -> Game:
        h = self.settings
        blocks = h.get("num_blocks", 4) if self.method == "simsiam" else default_blocks(h["img_size"])
        game = Game(
            tiny_encoder(),
            Masker(h["img_size"], h["N"], h["mask_fbase"], h["unet_norm"], blocks),
            GameSettings(
                method=self.method,
                mask_use=self.mask_use,
                alpha_sparsity=h["alpha_sparsity"],
                alpha_entropy=h["alpha_entropy"],
                temperature=h.get("temperature", 0.2),
                terms=tuple(term for term, name in TERMS.items() if h.get(name)),
                bn_statistics="all",
                projector_hidden=h["proj_hidden_dim"],
                projector_output=h["output_dim"],
                predictor_hidden=h.get("pred_hidden_dim", 1),
            ),
            features=32,
            classes=h["n_classes"],
        )
        game.load_state_dict({ours(k): v for k, v in self.group("init").items()})
        return game.to(dtype).train()

    def group(self, prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(f"{prefix}."): v for k, v in self.tensors.items() if k.startswith(f"{prefix}.")}

    def batch(self, number: int, dtype: torch.dtype = torch.float32) -> dict[int, Tensor]:
        return {1: self.tensors["x1"][number].to(dtype), 2: self.tensors["x2"][number].to(dtype)}

    def index(self, number: int, turn: int) -> Tensor | None:
        drawn = self.tensors.get("mask_index")
        return None if drawn is None else drawn[number, turn]

    def optimisers(self, game: Game, rates: dict[str, list[float]]) -> tuple[LARS, LARS]:
        h = self.settings
        rule = {"lr": 1.0, "eta": h["eta_lars"], "clip": h["grad_clip_lars"]}
        rule |= {"exclude_1d": h["exclude_bias_n_norm"], **h["extra_optimizer_args"]}
        encoder = [
            {
                "params": list(getattr(game, name).parameters()),
                "lr": rate,
                "weight_decay": 0.0 if name == "classifier" else h["weight_decay"],
            }
            for name, rate in zip(GROUPS[self.method], rates["encoder_optimizer"], strict=True)
        ]
        masker = [
            {
                "params": list(game.masker.parameters()),
                "lr": rates["mask_optimizer"][0],
                "weight_decay": h["weight_decay"],
            }
        ]
        return LARS(encoder, **rule), LARS(masker, **rule)


def tiny_encoder() -> nn.Sequential:
    """The encoder of the golden files."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
