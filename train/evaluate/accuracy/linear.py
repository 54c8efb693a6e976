"""The linear probe: a softmax classifier on features; fitted to them in seconds, or trained on augmented images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from adios_zoo.errors import ConfigError

from ...chance import generator_for
from ..features import check_labels, matched
from ..protocol import Training
from ..task import Task, accuracies, check_seeds, over_seeds
from .supervised import Classifier, TrainingImages, seeded

# Strengths of the decay that are tried.  One is that of a prior of variance 1 on each weight, whatever the number of
# images, so that what was chosen on a part of them holds for all.
DECAYS = (1.0, 10.0, 100.0, 1000.0)
HELD_OUT = 0.1  # share of the training images that chooses
_MOST_TO_CHOOSE = 20_000  # training images that the choice is made with
_BATCH, _STEPS, _LR = 1024, 1000, 0.01
_BATCH_TO_CHOOSE, _STEPS_TO_CHOOSE = 512, 300


class LinearProbe(nn.Module):
    """Logits (B, C) of features (B, D), which are standardised first.

    Attributes:
        linear: of the standardised features.
        weight_decay: that it was fitted with.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, linear: nn.Linear, weight_decay: float) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.linear, self.weight_decay = linear, weight_decay

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, C) of features (B, D)."""
        logits: Tensor = self.linear((features - self.mean) / self.std)
        return logits


def fit_record(*, chosen: bool = True, steps: int = _STEPS) -> dict[str, Any]:
    """What a record says of :func:`fit_linear`; ``chosen``: the weight decay was not given."""
    choice = {
        "from": list(DECAYS),
        "on": f"a held-out {HELD_OUT:.0%} of the training images",
        "fitted_to": f"at most {_MOST_TO_CHOOSE} of the others",
        "steps": _STEPS_TO_CHOOSE,
        "batch_size": _BATCH_TO_CHOOSE,
    }
    return {
        "fit": {"optimiser": "adam", "schedule": "cosine", "lr": _LR, "batch_size": _BATCH, "steps": steps},
        "weight_decay_chosen": choice if chosen else None,
    }


def fit_linear(
    features: Tensor,
    labels: Tensor,
    *,
    classes: int,
    seed: int,
    weight_decay: float | None = None,
    steps: int = _STEPS,
) -> LinearProbe:
    """A softmax classifier with weight decay on standardised features.

    It minimises the mean cross-entropy plus ``weight_decay / (2 n) |W|^2`` by Adam in batches of 1,024, the rate
    falling along half a cosine.

    Args:
        features: (n, D), n at least 2.
        labels: (n,) from 0 to ``classes`` - 1.
        classes: C.
        seed: of the order of the images and of those that are held out.
        weight_decay: strength of the decay; ``None`` takes the one of ``DECAYS`` that does best on a held-out tenth of
            these images, and then fits all of them.
        steps: of the last fit.

    Returns:
        The probe, in evaluation mode, on the device of the features.

    Raises:
        ConfigError: there are too few features, labels beyond the classes, or an impossible decay or number of steps.
    """
    if len(features) < 2 or len(features) != len(labels):
        raise ConfigError(f"A linear probe takes at least two features with a label each, not {len(features)}.")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ConfigError(f"The labels of a probe of {classes} classes are from 0 to {classes - 1}.")
    _check_fit(weight_decay, steps)
    with torch.inference_mode(False), torch.enable_grad():
        features = features.detach().float()
        mean = features.mean(dim=0)
        std = features.std(dim=0, correction=0)
        std = torch.where(std > 1e-5 * mean.abs(), std, 1.0)  # what is constant up to round-off tells nothing
        x = (features - mean) / std
        if weight_decay is None:
            weight_decay = _choose(x, labels, classes, seed)
        weights, biases = _fit(
            x, labels, classes, [weight_decay], batch=_BATCH, steps=steps, generator=generator_for(seed, "probe")
        )
    linear = nn.Linear(features.shape[1], classes, device=features.device)
    linear.load_state_dict({"weight": weights[0].T, "bias": biases[0]})
    return LinearProbe(mean, std, linear, weight_decay).eval().requires_grad_(False)


def _check_fit(weight_decay: float | None, steps: int) -> None:
    if steps < 1 or not (weight_decay is None or 0 <= weight_decay < math.inf):
        raise ConfigError(f"steps is {steps} and takes 1 or more; weight_decay is {weight_decay} and takes 0 or more.")


def _choose(x: Tensor, labels: Tensor, classes: int, seed: int) -> float:
    """The decay whose classifier has the least cross-entropy on images that it was not fitted to."""
    order = torch.randperm(len(x), generator=generator_for(seed, "held out")).to(x.device)
    count = max(1, round(HELD_OUT * len(x)))
    held, used = order[:count], order[count:][:_MOST_TO_CHOOSE]
    weights, biases = _fit(
        x[used],
        labels[used],
        classes,
        DECAYS,
        batch=_BATCH_TO_CHOOSE,
        steps=_STEPS_TO_CHOOSE,
        generator=generator_for(seed, "choice"),
    )
    losses = [
        float(F.cross_entropy(x[held] @ weight + bias, labels[held]))
        for weight, bias in zip(weights, biases, strict=True)
    ]
    return DECAYS[min(range(len(losses)), key=losses.__getitem__)]


def _fit(
    x: Tensor, labels: Tensor, classes: int, decays: Sequence[float], *, batch: int, steps: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Weights (K, D, C) and biases (K, C) for each of K decays, all fitted at once by one matrix product a step."""
    n, width = x.shape
    weights = torch.zeros(width, len(decays), classes, device=x.device, requires_grad=True)
    biases = torch.zeros(len(decays), classes, device=x.device, requires_grad=True)
    strength = torch.tensor(decays, device=x.device)[None, :, None] / n
    optimiser = torch.optim.Adam([weights, biases], lr=_LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    batch = min(batch, n)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < batch:
            order = torch.randperm(n, generator=generator)
        chosen, order = order[:batch].to(x.device), order[batch:]
        logits = (x[chosen] @ weights.flatten(1)).view(batch, *biases.shape) + biases
        losses = F.cross_entropy(logits.flatten(0, 1), labels[chosen].repeat_interleave(len(decays)))
        # The mean over the K fits, each of which the optimiser moves as if it were alone.
        loss = losses + (strength * weights.square()).sum() / (2 * len(decays))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return weights.detach().permute(1, 0, 2), biases.detach()


def evaluate_linear(
    task: Task, *, seeds: Sequence[int] = (0, 1, 2), weight_decay: float | None = None, steps: int = _STEPS
) -> dict[str, Any]:
    """Accuracy of linear probes that are fitted to features, see :func:`fit_linear`.

    Args:
        task: the model and the images.
        seeds: for each of which a probe is fitted.
        weight_decay: see :func:`fit_linear`; the test images have no part in the choice.
        steps: of a fit.

    Raises:
        ConfigError: an impossible setting.
        DataError: images without labels, or classes that differ.
    """
    seeds = check_seeds(seeds)
    _check_fit(weight_decay, steps)
    train, test = task.sets
    classes = check_labels(train.labelled, test.labelled)
    probes = [
        fit_linear(train.features, train.labels, classes=classes, seed=seed, weight_decay=weight_decay, steps=steps)
        for seed in seeds
    ]
    figures = over_seeds([accuracies(probe(test.features), test.labels) for probe in probes])
    return task.record("linear", train=train.record, test=test.record) | {
        "classes": classes,
        "augmented": False,
        **fit_record(chosen=weight_decay is None, steps=steps),
        "weight_decay": [probe.weight_decay for probe in probes],
        "seeds": seeds,
        "figures": figures,
    }


def evaluate_linear_augmented(
    task: Task, training: Training, *, seeds: Sequence[int] = (0,), workers: int | None = None
) -> dict[str, Any]:
    """Accuracy of linear layers that are trained on augmented images, which the frozen encoder sees anew each time.

    Args:
        task: the model and the images, which are no stored features.
        training: of the layer.
        seeds: for each of which one is trained.
        workers: see :class:`~adios_zoo.train.evaluate.accuracy.supervised.TrainingImages`.

    Raises:
        ConfigError: an impossible setting, or stored features.
        DataError: images without labels, or classes that differ.
    """
    seeds = check_seeds(seeds)
    data = TrainingImages(task, training, workers=workers)
    test = matched(task.test_set, data.labelled)
    runs, losses = [], []
    for seed in seeds:
        with seeded(seed, "head"):
            classifier = Classifier(task.encoder.encoder, data.classes, task.card, frozen=True).to(data.device)
        losses.append(data.train(classifier, seed=seed, progress=task.progress))
        with torch.inference_mode():
            logits = classifier.head(test.features.to(data.device)).cpu()
        runs.append(accuracies(logits, test.labels))
    return task.record("linear", train=data.record, test=test.record) | {
        "classes": data.classes,
        "augmented": True,
        "training": asdict(training),
        "last_losses": losses,
        "seeds": seeds,
        "figures": over_seeds(runs),
    }
