"""The weighted k-nearest-neighbour probe: how well a label is read off the closest training features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from adios_zoo.errors import ConfigError

Distance = Literal["cosine", "euclidean"]
_CHUNK = 1024
_EUCLIDEAN_EPSILON = 1e-5


@dataclass(frozen=True)
class Cell:
    """One setting of the probe: neighbours that vote, their distance, and the temperature of cosine votes.

    Raises:
        ConfigError: k is below 1, the distance is unknown, or a temperature is not above 0.
    """

    k: int = 20
    distance: Distance = "cosine"
    temperature: float | None = 0.07

    def __post_init__(self) -> None:
        """Refuse what is impossible with any features."""
        if self.k < 1:
            raise ConfigError(f"k takes 1 or more, not {self.k}.")
        if self.distance not in ("cosine", "euclidean"):
            raise ConfigError(f"The distance is one of cosine, euclidean, not {self.distance!r}.")
        if self.distance == "cosine" and not (self.temperature or 0) > 0:
            raise ConfigError(f"The temperature of cosine votes is a number above 0, not {self.temperature}.")


@dataclass(frozen=True)
class KnnAccuracy:
    """Share of test features whose label wins, or is among the best five, in percent."""

    acc1: float
    acc5: float


def knn(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    k: int = 20,
    temperature: float = 0.07,
    distance: Distance = "cosine",
) -> KnnAccuracy:
    """Weighted k-NN accuracy in one setting; see :func:`knn_grid`, whose errors are those of this."""
    return knn_grid(train_features, train_labels, test_features, test_labels, [Cell(k, distance, temperature)])[0]


def knn_grid(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    cells: Sequence[Cell],
) -> list[KnnAccuracy]:
    """Weighted k-NN accuracy, as in Wu et al., 2018, and solo-learn, in each of several settings.

    Each of the k most similar training features votes for its label: with ``cosine`` by
    ``exp(similarity / temperature)``, with ``euclidean`` by ``1 / (distance + 1e-5)``.

    Args:
        train_features: (n, D).
        train_labels: (n,) from 0.
        test_features: (m, D).
        test_labels: (m,).
        cells: the settings; neighbours are searched once for each distance.

    Raises:
        ConfigError: some k is above n.
    """
    if (most := max((cell.k for cell in cells), default=0)) > len(train_features):
        raise ConfigError(f"k takes 1 to {len(train_features)}, the number of training images, not {most}.")
    classes = int(max(train_labels.max(), test_labels.max())) + 1
    hits = [[0, 0] for _ in cells]
    for distance in dict.fromkeys(cell.distance for cell in cells):
        here = [i for i, cell in enumerate(cells) if cell.distance == distance]
        most = max(cells[i].k for i in here)
        for near, neighbours, labels in _neighbours(train_features, test_features, test_labels, distance, most):
            for i in here:
                k = cells[i].k
                weights = _weights(near[:, :k], cells[i])
                votes = weights.new_zeros(len(labels), classes).scatter_add_(
                    1, train_labels[neighbours[:, :k]], weights
                )
                hit = votes.topk(min(5, k, classes)).indices == labels[:, None]
                hits[i][0] += int(hit[:, 0].sum())
                hits[i][1] += int(hit.any(dim=1).sum())
    return [KnnAccuracy(100 * first / len(test_labels), 100 * five / len(test_labels)) for first, five in hits]


def _neighbours(
    train: Tensor, test: Tensor, test_labels: Tensor, distance: Distance, k: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Similarities or distances of the k nearest, nearest first, their numbers, and the labels of some test rows."""
    if distance == "cosine":
        train, test = F.normalize(train, dim=1), F.normalize(test, dim=1)
    for queries, labels in zip(torch.split(test, _CHUNK), torch.split(test_labels, _CHUNK), strict=True):
        if distance == "cosine":
            near, neighbours = (queries @ train.T).topk(k)
        else:
            near, neighbours = torch.cdist(queries, train).topk(k, largest=False)
        yield near, neighbours, labels


def _weights(near: Tensor, cell: Cell) -> Tensor:
    if cell.distance == "euclidean":
        return 1 / (near + _EUCLIDEAN_EPSILON)
    assert cell.temperature is not None
    # Relative to the nearest: the ranking is the same, and a low temperature does not overflow.
    return ((near - near[:, :1]) / cell.temperature).exp()
