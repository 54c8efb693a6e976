"""Which passes feed the running statistics of batch normalisation.

In training mode a repeated forward pass gives the same output (but for dropout and its kin, which draw anew), so the
game runs each pass once.  The running statistics are all that a repeat would change.  ``all`` gives them exactly the
mix of the authors' loop, which encodes the clean view once for every mask: the pass is not run again, its effect on
the statistics is.
``clean`` feeds them from clean views alone, which is what the deployed encoder sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adios_zoo.errors import ConfigError

from ..recipe.settings import Mode

Replay = list[tuple[_BatchNorm, Tensor, Tensor]]


class RunningStatistics:
    """Decides, pass by pass, what the batch norms of some networks remember."""

    def __init__(self, networks: Iterable[nn.Module], mode: Mode) -> None:
        if mode not in ("all", "clean"):
            raise ConfigError(f"bn_statistics is one of all, clean, not {mode!r}.")
        self.mode = mode
        self.layers = [
            m for network in networks for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats
        ]

    @contextmanager
    def recorded(self) -> Iterator[Replay]:
        """Within, a pass of clean views; yields what :meth:`replay` needs to count the pass again."""
        replay: Replay = []
        before = [(m, *self._snapshot(m)) for m in self.layers] if self.mode == "all" else []
        yield replay
        for layer, mean, var, version in before:
            after_mean, after_var, after_version = self._snapshot(layer)
            if after_version != version:
                keep = 1 - cast("float", layer.momentum)
                replay.append((layer, after_mean.sub_(mean, alpha=keep), after_var.sub_(var, alpha=keep)))

    @contextmanager
    def masked(self) -> Iterator[None]:
        """Within, a pass of masked views: remembered in mode ``all`` only."""
        if self.mode == "clean":
            with self.ignored():
                yield
        else:
            yield

    @contextmanager
    def ignored(self) -> Iterator[None]:
        """Within, a pass that leaves no trace in the statistics."""
        for layer in self.layers:
            layer.track_running_stats = False
        try:
            yield
        finally:
            for layer in self.layers:
                layer.track_running_stats = True

    def replay(self, replay: Replay, *, within: nn.Module | None = None) -> None:
        """Count a recorded pass once more, in the layers of the network ``within`` alone if one is given."""
        layers = None if within is None else set(within.modules())
        for layer, mean, var in replay:
            if layers is None or layer in layers:
                keep = 1 - cast("float", layer.momentum)
                # .data: graphs that still wait for their backward pass keep these buffers, but do not read them.
                cast("Tensor", layer.running_mean).data.mul_(keep).add_(mean)
                cast("Tensor", layer.running_var).data.mul_(keep).add_(var)
                cast("Tensor", layer.num_batches_tracked).data.add_(1)

    @staticmethod
    def _snapshot(layer: _BatchNorm) -> tuple[Tensor, Tensor, int]:
        mean, var = cast("Tensor", layer.running_mean), cast("Tensor", layer.running_var)
        # How often the counter was written, not its value, for which a GPU would have to be waited for.
        return mean.clone(), var.clone(), cast("Tensor", layer.num_batches_tracked)._version
