"""The game of ADIOS: an encoder turn and a masker turn over the masks of one batch.

The encoder minimises the loss between a clean view and a view with one mask cut out; the masker maximises it,
less its penalties (Shi et al., ICML 2022, section 3).  Method, use of the masks and penalties are settings; the
losses themselves are in ``losses.py``.

What the turns do not do twice: a clean view is encoded once a turn and serves all masks; each mask's graph is
freed before the next mask's is built; the masks' own graph is built once and used by the masker turn alone;
momentum projections are shared by both turns where they cannot differ.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adios_zoo.errors import ConfigError

from ..chance import Draws
from ..processes import Processes
from ..recipe.settings import GameSettings
from .batch_norm import Replay, RunningStatistics
from .fills import cut_out, fill_of
from .heads import predictor, projector
from .losses import Embedding, make_loss, wide
from .penalties import areas, entropy, sparsity
from .turn import Targets, Turn, deviation

Batch = Mapping[int, Tensor]


class Game(nn.Module):
    """Encoder, masker and the networks between them.

    Args:
        encoder: maps (B, 3, H, W) to features (B, ``features``).
        masker: maps (B, 3, H, W) to masks (B, N, H, W) that sum to one over N; ``None`` if masks come from elsewhere.
        settings: the rules.
        features: width of the encoder's features.
        classes: classes of the online linear probe; 0 for none.
        processes: among which the batch is split.
        dtype: what the networks compute in where autocast finds it safe; losses and penalties stay in float32.
    """

    def __init__(
        self,
        encoder: nn.Module,
        masker: nn.Module | None,
        settings: GameSettings,
        *,
        features: int,
        classes: int = 0,
        processes: Processes | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        s = self.settings = settings
        self.processes = processes = processes or Processes()
        self.dtype = dtype
        if s.mask_use not in ("all", "one"):
            raise ConfigError(f"mask_use is one of all, one, not {s.mask_use!r}.")
        self.loss = make_loss(s.method, temperature=s.temperature, terms=s.terms, gather=processes.gather)
        self.encoder, self.masker = processes.synced(encoder), masker
        self.projector = processes.synced(projector(s.method, features, s.projector_hidden, s.projector_output))
        self.predictor = predictor(s.method, s.projector_output, s.predictor_hidden)
        if self.predictor is not None:
            self.predictor = processes.synced(self.predictor)
        self.classifier = nn.Linear(features, classes) if classes else None
        self.momentum_encoder = self.momentum_projector = None
        if s.method == "byol":
            self.momentum_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
            self.momentum_projector = copy.deepcopy(self.projector).requires_grad_(False)
        networks = [self.encoder, self.projector, self.predictor, self.momentum_encoder, self.momentum_projector]
        self.statistics = RunningStatistics([n for n in networks if n is not None], s.bn_statistics)
        self.masked_views = (1, 2) if s.method == "simsiam" else (2,)
        self.clean_views = (1, 2) if s.method == "simsiam" else (1,)
        # SimSiam without these terms uses the clean views as targets only.
        self._clean_has_gradient = s.method != "simsiam" or bool({"no_mask", "symmetry"} & set(s.terms))

    def players(self) -> list[nn.Module]:
        """The networks of the encoder's side that learn by the loss."""
        return [n for n in (self.encoder, self.projector, self.predictor) if n is not None]

    def masks(self, batch: Batch) -> dict[int, Tensor]:
        """The masker's masks (B, N, H, W) of every view that the method masks."""
        assert self.masker is not None
        with self._autocast(batch[1].device):
            # The softmax may come out in half precision.
            return {v: wide(self.masker(batch[v])) for v in self.masked_views}

    def draw(self, slots: int, draws: Draws) -> Tensor | None:
        """One mask index an image (B,), uniform; ``None`` when all masks are used."""
        return None if self.settings.mask_use == "all" else draws.integers(slots)

    def draw_whole(self, draws: Draws) -> Tensor | None:
        """Which images' masked views are left whole, (B,); ``None`` for none of them."""
        share = self.settings.clean_share
        return draws.happens(share) if share > 0 else None

    def encoder_turn(
        self,
        batch: Batch,
        masks: Mapping[int, Tensor],
        index: Tensor | None,
        labels: Tensor | None = None,
        *,
        whole: Tensor | None = None,
    ) -> Turn:
        """Back-propagate the encoder's loss into the encoder, the heads and, with labels, the linear probe.

        Args:
            batch: the two views by number, (B, 3, H, W) each.
            masks: from :meth:`masks`; used without gradient.
            index: the mask of each image, or ``None`` for all.
            labels: (B,) for the online probe, -1 for unknown.
            whole: from :meth:`draw_whole`.
        """
        targets = Targets(fills=self._fills(batch))
        clean, features, replays = self._clean_pass(batch, targets, gradient=self._clean_has_gradient)
        leaves = {v: _cut_off(e) for v, e in clean.items()}
        total = torch.zeros((), device=batch[1].device)
        for k, cut in enumerate(self._cuts({v: m.detach() for v, m in masks.items()}, index, whole)):
            if k > 0:
                self._replay(targets.replays + replays)
            masked_targets, masked_replays = self._masked_targets(batch, cut, targets.fills)
            targets.masked.append(masked_targets)
            targets.masked_replays.append(masked_replays)
            loss = self.loss(leaves, self._masked_pass(batch, cut, masked_targets, targets.fills))
            loss.backward()  # type: ignore[no-untyped-call]
            total = total + loss.detach()
        if self._clean_has_gradient:
            _backward_through(clean, leaves)
        probe = accuracy = None
        if self.classifier is not None and labels is not None:
            probe, accuracy = self._probe(batch, features, replays, labels)
            self._count_probe_in_momentum(batch, targets)
        spread = deviation(self.processes.gather(clean[self.clean_views[0]].z.detach()))
        return Turn(total, total, probe, probe_accuracy=accuracy, deviation=spread, targets=targets)

    def masker_turn(
        self,
        batch: Batch,
        masks: Mapping[int, Tensor],
        index: Tensor | None,
        targets: Targets | None = None,
        *,
        whole: Tensor | None = None,
        loss_factor: float = 1.0,
    ) -> Turn:
        """Back-propagate minus the masker's objective into the masker, the other networks frozen.

        Args:
            batch: the two views by number, (B, 3, H, W) each.
            masks: from :meth:`masks`.  With their graph it is used up; without one they are made again once their
                gradients are known, so that the masker's graph and the encoder's are never in memory together.
            index: the mask of each image, or ``None`` for all.
            targets: the encoder turn's, for the same batch and masks.
            whole: from :meth:`draw_whole`, the encoder turn's.
            loss_factor: of the loss in the objective: 1 makes an adversary, -1 a partner of the encoder.
        """
        s = self.settings
        fresh = targets is None
        targets = targets or Targets(fills=self._fills(batch))
        leaves = {v: m.detach().requires_grad_() for v, m in masks.items()}
        total = torch.zeros((), device=batch[1].device)
        with _frozen(self.players()):
            clean, _, replays = self._clean_pass(batch, targets, gradient=False)
            for k, cut in enumerate(self._cuts(leaves, index, whole)):
                if k > 0 or not fresh:
                    self._replay(targets.replays)
                if k > 0:
                    self._replay(replays)
                if fresh or index is not None:
                    detached = {v: m.detach() for v, m in cut.items()}
                    masked_targets, _ = self._masked_targets(batch, detached, targets.fills)
                else:
                    masked_targets = targets.masked[k]
                    self._replay(targets.masked_replays[k])
                loss = self.loss(clean, self._masked_pass(batch, cut, masked_targets, targets.fills))
                (-loss_factor * loss).backward()  # type: ignore[no-untyped-call]
                total = total + loss.detach()
        sizes = [areas(m) for m in leaves.values()]
        spread, negative_entropy = sparsity(sizes), entropy(sizes, jointly=s.mask_use == "all")
        # The entropy is a sum over the batch, and gradients are averaged over the processes.
        negative_entropy = negative_entropy * self.processes.count
        # A weight of zero leaves its term out, so that an infinite penalty times zero is no NaN.
        penalty = torch.zeros_like(spread)
        penalty = penalty - s.alpha_sparsity * spread if s.alpha_sparsity else penalty
        penalty = penalty + s.alpha_entropy * negative_entropy if s.alpha_entropy else penalty
        if penalty.requires_grad:
            (-penalty).backward()  # type: ignore[no-untyped-call]
        if not any(m.requires_grad for m in masks.values()):
            masks = self.masks(batch)
        views = list(masks)
        torch.autograd.backward([masks[v] for v in views], [leaves[v].grad for v in views])
        return Turn(
            loss=total,
            objective=loss_factor * total + penalty.detach(),
            sparsity=spread.detach(),
            entropy=negative_entropy.detach(),
        )

    @torch.no_grad()
    def move_momentum(self, tau: float) -> None:
        """Move the momentum networks: p_t <- tau p_t + (1 - tau) p; buffers come from their own passes."""
        pairs = ((self.momentum_encoder, self.encoder), (self.momentum_projector, self.projector))
        for slow, fast in pairs:
            if slow is not None:
                for p_slow, p_fast in zip(slow.parameters(), fast.parameters(), strict=True):
                    p_slow.mul_(tau).add_(p_fast, alpha=1 - tau)

    def _cuts(
        self, masks: Mapping[int, Tensor], index: Tensor | None, whole: Tensor | None = None
    ) -> list[dict[int, Tensor]]:
        """The masks to cut out in turn, (B, 1, H, W) by view; nothing of the images that are left whole."""
        if index is None:
            slots = next(iter(masks.values())).shape[1]
            cuts = [{v: m[:, k : k + 1] for v, m in masks.items()} for k in range(slots)]
        else:
            cuts = [{v: m[torch.arange(len(m), device=m.device), index].unsqueeze(1) for v, m in masks.items()}]
        if whole is None:
            return cuts
        return [{v: m * ~whole[:, None, None, None] for v, m in cut.items()} for cut in cuts]

    def _fills(self, batch: Batch) -> dict[int, Tensor | None]:
        s = self.settings
        return {v: fill_of(batch[v], s.fill, s.fill_sigma) for v in self.masked_views}

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, self.dtype, enabled=self.dtype in (torch.bfloat16, torch.float16))

    def _embed(self, x: Tensor) -> tuple[Embedding, Tensor]:
        with self._autocast(x.device):
            features = self.encoder(x)
            z = self.projector(features)
            return Embedding(z, None if self.predictor is None else self.predictor(z)), features

    @torch.no_grad()
    def _target(self, x: Tensor) -> Tensor | None:
        if self.momentum_encoder is None or self.momentum_projector is None:
            return None
        with self._autocast(x.device):
            projection: Tensor = self.momentum_projector(self.momentum_encoder(x))
        return projection

    def _clean_pass(
        self, batch: Batch, targets: Targets, *, gradient: bool
    ) -> tuple[dict[int, Embedding], dict[int, Tensor], list[Replay]]:
        clean, features, replays = {}, {}, []
        for v in self.clean_views:
            if self.momentum_encoder is not None and v not in targets.clean:
                with self.statistics.recorded() as replay:
                    target = self._target(batch[v])
                assert target is not None
                targets.clean[v] = target
                targets.replays.append(replay)
            with self.statistics.recorded() as replay, torch.set_grad_enabled(gradient):
                clean[v], features[v] = self._embed(batch[v])
            clean[v].target = targets.clean.get(v)
            replays.append(replay)
        return clean, features, replays

    def _masked_targets(
        self, batch: Batch, cut: Mapping[int, Tensor], fills: Mapping[int, Tensor | None]
    ) -> tuple[dict[int, Tensor], list[Replay]]:
        found, replays = {}, []
        for v in self.masked_views if self.momentum_encoder is not None else ():
            with self.statistics.recorded() as replay, self.statistics.masked():
                target = self._target(cut_out(batch[v], cut[v], fills[v]))
            assert target is not None
            found[v] = target
            replays.append(replay)
        return found, replays

    def _masked_pass(
        self,
        batch: Batch,
        cut: Mapping[int, Tensor],
        targets: Mapping[int, Tensor],
        fills: Mapping[int, Tensor | None],
    ) -> dict[int, Embedding]:
        masked = {}
        with self.statistics.masked():
            for v in self.masked_views:
                masked[v], _ = self._embed(cut_out(batch[v], cut[v], fills[v]))
                masked[v].target = targets.get(v)
        return masked

    def _replay(self, replays: list[Replay], *, within: nn.Module | None = None) -> None:
        for replay in replays:
            self.statistics.replay(replay, within=within)

    def _probe(
        self, batch: Batch, features: Mapping[int, Tensor], replays: list[Replay], labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy and accuracy of the linear probe, means over both clean views, on detached features."""
        assert self.classifier is not None
        losses, hits = [], []
        # The mean over the labels of the whole batch, once gradients are averaged over the processes.
        known = self.processes.sum((labels >= 0).sum()).clamp(min=1) / self.processes.count
        for v, x in sorted(batch.items()):
            if v in features:
                self._replay([replays[self.clean_views.index(v)]], within=self.encoder)
                seen = features[v].detach()
            else:
                with torch.no_grad(), self._autocast(x.device):
                    seen = self.encoder(x)
            logits = self.classifier(wide(seen))
            losses.append(F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum") / known)
            hits.append((logits.argmax(dim=1) == labels).sum() / known)
        loss = torch.stack(losses).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), 100 * torch.stack(hits).mean()

    def _count_probe_in_momentum(self, batch: Batch, targets: Targets) -> None:
        """The authors' loop shows the probe's clean views to the momentum encoder too."""
        if self.momentum_encoder is None or self.settings.bn_statistics != "all":
            return
        self._replay(targets.replays, within=self.momentum_encoder)
        for v in sorted(set(batch) - set(targets.clean)):
            with torch.no_grad(), self._autocast(batch[v].device):
                self.momentum_encoder(batch[v])


def _cut_off(e: Embedding) -> Embedding:
    """The same values as leaves, which collect the gradient of every mask."""
    return Embedding(
        e.z.detach().requires_grad_(),
        None if e.p is None else e.p.detach().requires_grad_(),
        e.target,
    )


def _backward_through(clean: Mapping[int, Embedding], leaves: Mapping[int, Embedding]) -> None:
    pairs = [(clean[v].z, leaf.z) for v, leaf in leaves.items()]
    pairs += [(p, leaf.p) for v, leaf in leaves.items() if (p := clean[v].p) is not None and leaf.p is not None]
    collected = [(tensor, leaf.grad) for tensor, leaf in pairs if leaf.grad is not None]
    torch.autograd.backward([t for t, _ in collected], [g for _, g in collected])


@contextmanager
def _frozen(networks: list[nn.Module]) -> Iterator[None]:
    parameters = [p for n in networks for p in n.parameters() if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)
