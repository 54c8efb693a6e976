"""The weighted k-nearest-neighbour probe: how well a label is read off the closest training features."""

from __future__ import annotations

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
    """Weighted k-NN accuracy, as in Wu et al., 2018, and solo-learn.

    Each of the k most similar training features votes for its label: with ``cosine`` by
    ``exp(similarity / temperature)``, with ``euclidean`` by ``1 / (distance + 1e-5)``.

    Args:
        train_features: (n, D).
        train_labels: (n,) from 0.
        test_features: (m, D).
        test_labels: (m,).
        k: neighbours that vote.
        temperature: of the cosine votes.
        distance: ``cosine`` or ``euclidean``.

    Raises:
        ConfigError: k is not between 1 and n, or the distance is unknown.
    """
    if not 1 <= k <= len(train_features):
        raise ConfigError(f"k must be between 1 and {len(train_features)}, the number of training images, not {k}.")
    if distance not in ("cosine", "euclidean"):
        raise ConfigError(f"The distance is one of cosine, euclidean, not {distance!r}.")
    if distance == "cosine":
        train_features, test_features = F.normalize(train_features, dim=1), F.normalize(test_features, dim=1)
    classes = int(max(train_labels.max(), test_labels.max())) + 1
    top = min(5, k, classes)
    hits1 = hits5 = 0
    for queries, labels in zip(torch.split(test_features, _CHUNK), torch.split(test_labels, _CHUNK), strict=True):
        if distance == "cosine":
            similarity, neighbours = (queries @ train_features.T).topk(k)
            weights = (similarity / temperature).exp()
        else:
            apart, neighbours = torch.cdist(queries, train_features).topk(k, largest=False)
            weights = 1 / (apart + _EUCLIDEAN_EPSILON)
        votes = weights.new_zeros(len(queries), classes).scatter_add_(1, train_labels[neighbours], weights)
        hit = votes.topk(top).indices == labels[:, None]
        hits1 += int(hit[:, 0].sum())
        hits5 += int(hit.any(dim=1).sum())
    return KnnAccuracy(100 * hits1 / len(test_labels), 100 * hits5 / len(test_labels))
