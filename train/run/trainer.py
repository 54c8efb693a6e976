"""One step of a run: the encoder's turn and update, the masker's turn and update, on one or more batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adios_zoo.models.encoder import create_encoder, feature_width
from adios_zoo.models.masker import Masker

from ..chance import Draws, seed_for
from ..data.batches import Batch, Batches
from ..data.plan import Plan
from ..game.game import Game
from ..game.optim import LARS
from ..game.random_masks import random_masks
from ..game.turn import Turn
from .schedules import byol_tau, warmup_cosine
from .small_maps import fast_small_maps
from .start import start_from


class Trainer:
    """Networks and optimisers of one run.

    Args:
        plan: recipe, number of images and processes.
        classes: of the labels, for the online probe; 0 without labels.
    """

    def __init__(self, plan: Plan, *, classes: int) -> None:
        self.plan = plan
        recipe, processes = plan.recipe, plan.processes
        torch.manual_seed(recipe.seed)
        encoder = create_encoder(recipe.encoder.architecture, **recipe.encoder.model_args)
        m = recipe.masker
        masker = Masker(m.image_size, m.slots, m.base_channels, m.norm, m.blocks) if m.kind == "learned" else None
        self.start = None if recipe.start is None else start_from(recipe.start, encoder, masker)
        game = Game(
            encoder,
            masker,
            recipe.game,
            features=feature_width(encoder),
            classes=classes if recipe.probe else 0,
            processes=processes,
            dtype=compute_dtype(recipe.precision, processes.device),
        )
        # Channels-last convolutions are faster on CPUs and on GPUs with tensor cores.
        self.game = game.to(processes.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        rates = dict.fromkeys(("encoder", "projector", "predictor"), recipe.optimiser.lr)
        self.encoder_optimiser = self._optimiser(rates | {"classifier": recipe.optimiser.probe_lr})
        self.optimisers: dict[str, Optimizer] = {"encoder_optimiser": self.encoder_optimiser}
        self.masker_optimiser: LARS | None = None
        if self.game.masker is not None:
            self.masker_optimiser = self._optimiser({"masker": recipe.optimiser.masker_lr})
            self.optimisers["masker_optimiser"] = self.masker_optimiser
        self.latest: list[_Played] = []

    def step(self, step: int, batches: Batches) -> dict[str, Tensor]:
        """Play and update once; all that is random in it depends on seed and step alone.

        Returns:
            What the log records of it, scalars of this process's part of the batches.
        """
        recipe, k = self.plan.recipe, self.plan.recipe.accumulate
        torch.manual_seed(seed_for(recipe.seed, "networks", step, self.plan.processes.rank))  # for dropout and its kin
        self._set_rates(step)
        masker_plays = recipe.masker.plays(step, step // self.plan.steps_per_epoch)
        # One forward pass of the masker more is little beside those of all N masks, and saves its graph meanwhile.
        keep_graph = masker_plays and k == 1 and recipe.game.mask_use == "one"
        played = self.latest = []
        with self.plan.processes.synced_batch_norm(), fast_small_maps(self.plan.processes.device):
            self.encoder_optimiser.zero_grad()
            for number in range(step * k, (step + 1) * k):
                played.append(self._encoder_turn(number, batches, masks_have_graph=keep_graph))
            self._update(self.encoder_optimiser)
            records = [self._record(p) for p in played]
            if masker_plays and self.masker_optimiser is not None:
                self.masker_optimiser.zero_grad()
                for p, record in zip(played, records, strict=True):
                    record |= self._masker_turn(p, step)
                self._update(self.masker_optimiser)
        if recipe.game.method == "byol":
            base, final = recipe.optimiser.byol_tau
            self.game.move_momentum(byol_tau(step, self.plan.steps, base=base, final=final))
        return {name: torch.stack([record[name] for record in records]).mean() for name in records[0]}

    def _encoder_turn(self, number: int, batches: Batches, *, masks_have_graph: bool) -> _Played:
        draws = self.plan.draws(number)
        batch = batches(number, draws)
        with nullcontext() if masks_have_graph else torch.no_grad():
            masks = self._masks(batch, draws)
        index = self._draw(masks, draws)
        whole = self.game.draw_whole(draws)
        whole = None if whole is None else whole.to(self.plan.processes.device, non_blocking=True)
        labels = batch.labels if self.game.classifier else None
        turn = self.game.encoder_turn(batch.views, masks, index, labels, whole=whole)
        return _Played(batch, draws, masks, whole, turn)

    def _masks(self, batch: Batch, draws: Draws) -> dict[int, Tensor]:
        """The masker's, the data's or random ones: as many as are used."""
        m = self.plan.recipe.masker
        if m.kind == "learned":
            learned: dict[int, Tensor] = self.game.masks(batch.views)
            return learned
        if m.kind == "given":
            return {v: batch.masks[v] for v in self.game.masked_views}
        slots, size = self.plan.recipe.drawn_masks, batch.views[1].shape[-1]
        return {
            v: random_masks(m.kind, size, slots, draws, ratio=m.ratio, patch=m.patch).to(
                batch.views[v].device, non_blocking=True
            )
            for v in self.game.masked_views
        }

    def _masker_turn(self, p: _Played, step: int) -> dict[str, Tensor]:
        factor = self.plan.recipe.masker.loss_factor_in(step / self.plan.steps_per_epoch)
        index = self._draw(p.masks, p.draws)
        turn = self.game.masker_turn(p.batch.views, p.masks, index, p.turn.targets, whole=p.whole, loss_factor=factor)
        found = {"objective": turn.objective, "sparsity": turn.sparsity, "entropy": turn.entropy}
        return {name: value for name, value in found.items() if value is not None}

    def _update(self, optimiser: LARS) -> None:
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        self.plan.processes.average_gradients(parameters)
        if self.plan.recipe.accumulate > 1:
            for p in parameters:
                if p.grad is not None:
                    p.grad /= self.plan.recipe.accumulate
        optimiser.step()

    def _draw(self, masks: Mapping[int, Tensor], draws: Draws) -> Tensor | None:
        index = self.game.draw(next(iter(masks.values())).shape[1], draws)
        return None if index is None else index.to(self.plan.processes.device, non_blocking=True)

    def _record(self, p: _Played) -> dict[str, Tensor]:
        masks = [m.detach() for m in p.masks.values()]
        area = torch.cat([m.mean(dim=(2, 3)) for m in masks]).mean(0)
        found: dict[str, Tensor | None] = {
            "loss": p.turn.loss,
            "probe_loss": p.turn.probe,
            "probe_accuracy": p.turn.probe_accuracy,
            "deviation": p.turn.deviation,
        }
        found |= {f"area_{k}": a for k, a in enumerate(area)}
        if self.game.masker is not None:
            # 0 where each pixel belongs to one slot, 1 where all slots share it evenly.
            found["mask_entropy"] = torch.stack([_mask_entropy(m) for m in masks]).mean()
        return {name: value for name, value in found.items() if value is not None}

    def rates(self) -> dict[str, float]:
        """The learning rate of every group in the latest step."""
        return {f"lr_{g['name']}": g["lr"] for o in self.optimisers.values() for g in o.param_groups}

    def latest_tensors(self) -> dict[str, Tensor]:
        """Images, masks and labels of the latest step, to look into what went wrong."""
        found: dict[str, Tensor] = {}
        for number, p in enumerate(self.latest):
            found |= {f"{number}.view{v}": x for v, x in p.batch.views.items()}
            found |= {f"{number}.masks{v}": m for v, m in p.masks.items()}
            found |= {f"{number}.labels": p.batch.labels, f"{number}.images": p.batch.images}
        return found

    def _optimiser(self, rates: Mapping[str, float]) -> LARS:
        o = self.plan.recipe.optimiser
        networks: dict[str, nn.Module | None] = {name: getattr(self.game, name) for name in rates}
        groups = [
            {
                "name": name,
                "params": [p for p in network.parameters() if p.requires_grad],
                "base_lr": rates[name],
                "weight_decay": 0.0 if name == "classifier" else o.weight_decay,
            }
            for name, network in networks.items()
            if network is not None
        ]
        return LARS(groups, lr=o.lr, momentum=o.momentum, eta=o.eta, clip=o.clip, exclude_1d=o.exclude_1d)

    def _set_rates(self, step: int) -> None:
        r, each = self.plan.recipe, self.plan.steps_per_epoch
        o = r.optimiser
        epoch: float = step // each if o.schedule_by == "epoch" else step / each
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                if r.game.method == "simsiam" and group["name"] == "predictor" and epoch >= 1:
                    group["lr"] = group["base_lr"]  # SimSiam's predictor keeps its rate
                    continue
                early = o.ends_early if optimiser is self.encoder_optimiser else 0
                group["lr"] = warmup_cosine(
                    epoch,
                    group["base_lr"],
                    warmup_epochs=o.warmup_epochs,
                    max_epochs=r.epochs - early,
                    start=o.warmup_start_lr,
                    minimum=o.min_lr,
                )


@dataclass
class _Played:
    """A batch after the encoder's turn, with what the masker's turn may share."""

    batch: Batch
    draws: Draws
    masks: dict[int, Tensor]
    whole: Tensor | None
    turn: Turn


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """What the networks compute in: ``fp32``, ``bf16``, or ``auto``, bf16 on GPUs that have it."""
    has_it = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and has_it) else torch.float32


def _mask_entropy(masks: Tensor) -> Tensor:
    return -(masks * masks.clamp(min=1e-8).log()).sum(1).mean() / math.log(max(masks.shape[1], 2))
