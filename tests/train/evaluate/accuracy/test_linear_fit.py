"""The fast linear probe against scikit-learn's optimum, and what it does without being told."""

from __future__ import annotations

import pytest
import torch
from adios_zoo.train.evaluate.accuracy.linear import DECAYS, fit_linear
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from adios_zoo.errors import ConfigError


def blobs(count: int, *, noise: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Three classes in 6 dimensions of very different scales, one of them constant."""
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.eye(3, 6)
    labels = torch.arange(count) % 3
    x = centres[labels] + noise * torch.randn(count, 6, generator=generator)
    x[:, 5] = 0
    return x * torch.tensor([1e-3, 1.0, 1e3, 1.0, 10.0, 1.0]) + 5, labels


def test_the_optimum_is_scikit_learns() -> None:
    x, labels = blobs(300)
    probe = fit_linear(x, labels, classes=3, seed=0, weight_decay=10.0)
    standardised = (x - x.mean(0)) / x.std(0, correction=0).where(x.std(0) > 1e-4, 1.0)
    expected = LogisticRegression(C=1 / 10.0, max_iter=5000, tol=1e-8).fit(standardised, labels)
    probabilities = torch.from_numpy(expected.predict_proba(standardised)).float()
    torch.testing.assert_close(probe(x).softmax(1), probabilities, atol=5e-3, rtol=0)


def test_the_decay_is_chosen_by_what_is_held_out() -> None:
    clear, noise = fit_linear(*blobs(600, noise=0.1), classes=3, seed=0), torch.randn(200, 40)
    nothing = fit_linear(noise, torch.randint(3, (200,)), classes=3, seed=0)
    assert clear.weight_decay == DECAYS[0]
    assert nothing.weight_decay >= 100  # labels that have nothing to do with the features
    x, labels = blobs(90, noise=0.1, seed=1)
    assert torch.equal(clear(x).argmax(1), labels)


def test_a_seed_gives_one_probe() -> None:
    x, labels = blobs(90)
    probes = [fit_linear(x, labels, classes=4, seed=seed, steps=50) for seed in (1, 1)]
    assert torch.equal(probes[0](x), probes[1](x))
    assert probes[0](x).shape == (90, 4)
    with torch.inference_mode():
        fit_linear(x.clone(), labels, classes=3, seed=0, weight_decay=1.0, steps=2)


def test_impossible_settings() -> None:
    x, labels = blobs(9)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        fit_linear(x, labels, classes=2, seed=0)
    with pytest.raises(ConfigError, match="at least two"):
        fit_linear(x[:1], labels[:1], classes=3, seed=0)
    for wrong in ({"steps": 0}, {"weight_decay": -1.0}, {"weight_decay": float("nan")}):
        with pytest.raises(ConfigError, match=r"steps is .* takes 0 or more"):
            fit_linear(x, labels, classes=3, seed=0, **wrong)
