"""Run by test_processes.py in two processes at once: each game on half of a batch, then on the whole of it."""

from __future__ import annotations

import json

import torch
from adios_zoo.train.game.game import Game
from adios_zoo.train.processes import Processes, start_processes
from adios_zoo.train.recipe.settings import GameSettings
from adios_zoo.train.run.small_maps import fast_small_maps
from torch import Tensor

from adios_zoo.models.encoder import create_encoder, feature_width
from adios_zoo.models.masker import Masker

BATCH = 8


def new_game(method: str, use: str, processes: Processes) -> Game:
    torch.manual_seed(0)
    settings = GameSettings(
        method=method,
        mask_use=use,
        alpha_sparsity=0.7,
        alpha_entropy=0.3,
        terms=("no_mask", "symmetry", "both") if method == "simsiam" else (),
        bn_statistics="all",
        projector_hidden=16,
        projector_output=8,
        predictor_hidden=8,
    )
    encoder = create_encoder("test_resnet")  # which ends on small maps
    game = Game(
        encoder,
        Masker(32, 3, 8, "gn", 4),
        settings,
        features=feature_width(encoder),
        classes=4,
        processes=processes,
    ).double()
    with torch.no_grad():  # a head that tells the images apart
        game.masker.head.weight.mul_(20)
    return game.train()


def play(
    game: Game, processes: Processes, x: dict[int, Tensor], index: Tensor, labels: Tensor
) -> dict[str, list[Tensor]]:
    part = processes.part(BATCH)
    batch = {v: view[part] for v, view in x.items()}
    chosen = index[part] if game.settings.mask_use == "one" else None
    with processes.synced_batch_norm(), fast_small_maps(processes.device):
        masks = game.masks(batch)
        turn = game.encoder_turn(batch, masks, chosen, labels[part])
        encoder = [p for n in game.players() for p in n.parameters()]
        processes.average_gradients([*encoder, *game.classifier.parameters()])
        game.masker_turn(batch, masks, chosen, turn.targets)
        processes.average_gradients(game.masker.parameters())
    return {
        "encoder": [p.grad for p in encoder if p.grad is not None],
        "classifier": [p.grad for p in game.classifier.parameters()],
        "masker": [p.grad for p in game.masker.parameters()],
        "statistics": [b.double() for b in game.buffers()],
    }


def main() -> None:
    torch.set_default_dtype(torch.float64)
    processes, alone = start_processes("cpu"), Processes()
    generator = torch.Generator().manual_seed(1)
    x = {v: torch.randn(BATCH, 3, 32, 32, generator=generator) for v in (1, 2)}
    index = torch.randint(3, (BATCH,), generator=generator)
    labels = torch.tensor([0, 1, -1, 2, 3, 0, 1, 2])  # the unknown one makes the halves uneven
    found = {}
    for method in ("simclr", "byol", "simsiam"):
        for use in ("all", "one"):
            shared = play(new_game(method, use, processes), processes, x, index, labels)
            whole = play(new_game(method, use, alone), alone, x, index, labels)
            found[f"{method} {use}"] = {
                what: max(
                    float((a - b).abs().max() / max(float(b.abs().max()), 1e-3))
                    for a, b in zip(shared[what], whole[what], strict=True)
                )
                for what in whole
            }
    if processes.main:
        print(json.dumps(found))
    processes.wait()


if __name__ == "__main__":
    main()
