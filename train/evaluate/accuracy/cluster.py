"""Evaluation by k-means: do the clusters of the features agree with the classes?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adios_zoo.errors import ConfigError

from ..features import Features, check_labels
from ..task import Task, check_seeds, over_seeds

Labels = NDArray[np.int64]


def evaluate_cluster(
    task: Task, *, seeds: Sequence[int] = (0, 1, 2), clusters: int | None = None, starts: int = 10
) -> dict[str, Any]:
    """k-means on the features of each set by itself, and how far its clusters are the classes.

    Args:
        task: the model and the images; where it has training images these are clustered too.
        seeds: of k-means, for each of which there is a run.
        clusters: how many, by default the protocol's.
        starts: of k-means in each run, the best of which counts.

    Raises:
        ConfigError: an impossible number.
        DataError: images without labels.
    """
    seeds = check_seeds(seeds)
    for name, count in (("clusters", clusters), ("starts", starts)):
        if count is not None and count < 1:
            raise ConfigError(f"{name} is {count} and takes 1 or more.")
    sets = {"test": task.test_set} if not task.train else dict(zip(("train", "test"), task.sets, strict=True))
    classes = check_labels(*(features.labelled for features in sets.values()))
    if clusters is None:
        # The authors took the highest training label for the number of classes.
        clusters = classes if task.protocol.all_classes else int(next(iter(sets.values())).labels.max())
        if not clusters:
            raise ConfigError(
                "All images are of one class, of which the protocol paper makes no cluster; give their number by "
                "--clusters."
            )
    least = min(len(features) for features in sets.values())
    if clusters > least:
        raise ConfigError(f"clusters is {clusters} and takes 1 to {least}, the number of images.")
    runs = [
        {
            name if role == "test" else f"{role} {name}": value
            for role, features in sets.items()
            for name, value in _agreement(features, clusters, seed, starts).items()
        }
        for seed in seeds
    ]
    records = {role: features.record for role, features in sets.items()}
    record = task.record("cluster", packages=["scikit-learn"], **records)
    return record | {
        "classes": classes,
        "clusters": clusters,
        "starts": starts,
        "seeds": seeds,
        "figures": over_seeds(runs),
    }


def _agreement(features: Features, clusters: int, seed: int, starts: int) -> dict[str, float]:
    from sklearn.cluster import KMeans

    means = KMeans(clusters, n_init=starts, random_state=seed)
    return agreement(features.labels.numpy(), means.fit_predict(features.features.numpy()).astype(np.int64))


def agreement(labels: Labels, clusters: Labels) -> dict[str, float]:
    """How far clusters (n,) are the classes ``labels`` (n,).

    Returns:
        FMI (Fowlkes-Mallows index), ARI (adjusted Rand index) and NMI (normalised mutual information), at most 1; and
        ``accuracy`` in percent, when each cluster is taken for one class so that most images are right.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, fowlkes_mallows_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    counts = contingency_matrix(labels, clusters)
    matched = counts[linear_sum_assignment(counts, maximize=True)].sum()
    return {
        "accuracy": 100 * float(matched) / len(labels),
        "FMI": float(fowlkes_mallows_score(labels, clusters)),
        "ARI": float(adjusted_rand_score(labels, clusters)),
        "NMI": float(normalized_mutual_info_score(labels, clusters)),
    }
