"""What feeds the running statistics: replayed passes equal real ones; ``clean`` ignores masked passes."""

from __future__ import annotations

import pytest
import torch
from adios_zoo.train.game.batch_norm import RunningStatistics
from torch import nn

from adios_zoo.errors import ConfigError


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5))


def buffers(net: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in net.named_buffers()}


def test_a_replay_counts_as_a_pass() -> None:
    x = torch.randn(6, 3, 12, 12)
    real, shared = network(), network()
    for _ in range(3):
        real(x)
    statistics = RunningStatistics([shared], "all")
    with statistics.recorded() as replay:
        shared(x)
    statistics.replay(replay)
    statistics.replay(replay)
    for name, value in buffers(real).items():
        torch.testing.assert_close(buffers(shared)[name], value, rtol=1e-5, atol=1e-6)


def test_a_replay_may_be_limited_to_a_network() -> None:
    first, second = network(), network()
    statistics = RunningStatistics([first, second], "all")
    x = torch.randn(6, 3, 12, 12)
    with statistics.recorded() as replay:
        first(x)
        second(x)
    once = buffers(second)
    statistics.replay(replay, within=first)
    assert int(first[1].num_batches_tracked) == 2
    assert all(torch.equal(v, once[k]) for k, v in buffers(second).items())


def test_a_replay_leaves_waiting_graphs_alone() -> None:
    net = network()
    statistics = RunningStatistics([net], "all")
    with statistics.recorded() as replay:
        loss = net(torch.randn(6, 3, 12, 12)).square().sum()
    statistics.replay(replay)
    loss.backward()


def test_clean_ignores_masked_passes_and_gives_the_same_output() -> None:
    x = torch.randn(6, 3, 12, 12)
    net = network()
    statistics = RunningStatistics([net], "clean")
    before = buffers(net)
    with statistics.masked():
        masked = net(x)
    assert all(torch.equal(v, before[k]) for k, v in buffers(net).items())
    assert torch.equal(masked, net(x))
    assert int(net[1].num_batches_tracked) == 1


def test_all_remembers_masked_passes() -> None:
    net = network()
    statistics = RunningStatistics([net], "all")
    with statistics.masked():
        net(torch.randn(6, 3, 12, 12))
    assert int(net[1].num_batches_tracked) == 1


def test_unknown_modes() -> None:
    with pytest.raises(ConfigError, match="all, clean"):
        RunningStatistics([], "masked")
