"""Reads the golden numbers, which carry the names of the authors' release, into the project's own terms."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from adios_zoo.train.game.game import Game
from adios_zoo.train.game.optim import LARS
from adios_zoo.train.recipe.settings import GameSettings
from safetensors import safe_open
from torch import Tensor, nn

from adios_zoo.models.masker import Masker, default_blocks

# Parameter groups in the order of the header's learning rates.
GROUPS = {
    "simclr": ["encoder", "classifier", "projector"],
    "simsiam": ["encoder", "classifier", "projector", "predictor"],
    "byol": ["projector", "predictor", "encoder", "classifier"],
}
METHOD = re.compile(r"(simclr|byol|simsiam)_adios(_s)?")
TERMS = {"symmetry": "use_symmetry_mask", "no_mask": "use_no_mask", "both": "use_both_mask"}


def ours(key: str) -> str:
    """The project's name of a tensor of the release."""
    return key.replace("mask_encoder.", "masker.").replace("mask_head.0.", "masker.head.")


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with safe_open(path, "pt") as file:
        header = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
        return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def sampled(header: dict[str, Any], name: str, found: Tensor) -> Tensor:
    """The values of the tensor ``found`` that a file with this header holds as ``name``: all or every n-th."""
    stride = header.get("strides", {}).get(name)
    return found if stride is None else found.flatten()[::stride]


def method_files(*folders: Path) -> list[Path]:
    """The files whose header names a method, whatever they are called; of two of one name, the last folder's."""

    def names_method(path: Path) -> bool:
        with safe_open(path, "pt") as file:
            return "method" in (file.metadata() or {})

    files = {path.name: path for folder in folders for path in folder.glob("*.safetensors") if names_method(path)}
    return [files[name] for name in sorted(files)]


@dataclass
class Reference:
    """One method file: its header, its tensors, and games that start from its initial state."""

    path: Path

    def __post_init__(self) -> None:
        self.header, self.tensors = read(self.path)
        self.settings = self.header["hyperparameters"]
        match = METHOD.fullmatch(self.header["method"])
        assert match, f"{self.path.name}: unknown method {self.header['method']}"
        self.method, self.mask_use = match[1], "one" if match[2] else "all"
        self.views = [1, 2] if self.method == "simsiam" else [2]  # those that are masked

    def game(self, dtype: torch.dtype = torch.float32) -> Game:
        h, size = self.settings, self.tensors["x1"].shape[-1]
        blocks = h.get("num_blocks", 4) if self.method == "simsiam" else default_blocks(size)
        encoder = tiny_encoder([self.tensors[f"init.encoder.{layer}.weight"].shape[0] for layer in (0, 3)])
        game = Game(
            encoder,
            Masker(size, h["N"], h["mask_fbase"], h["unet_norm"], blocks),
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
            features=encoder[3].out_channels,
            classes=len(self.tensors["init.classifier.weight"]),
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


def tiny_encoder(widths: Sequence[int] = (16, 32)) -> nn.Sequential:
    """The encoder of the golden files."""
    first, second = widths
    return nn.Sequential(
        nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        nn.Conv2d(first, second, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(second),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
