"""k-NN against the authors' numbers and a plain, slow oracle."""

from __future__ import annotations

import json
import math
from collections import defaultdict

import pytest
import torch

from adios_zoo.errors import ConfigError
from adios_zoo.search.knn import Cell, knn, knn_grid
from tests.conftest import golden
from tests.reference import read

FOLDER = golden("knn.json", "knn.safetensors")
RESULTS = json.loads((FOLDER / "knn.json").read_text())["results"]
_, T = read(FOLDER / "knn.safetensors")


@pytest.mark.parametrize("case", RESULTS, ids=lambda c: f"{c['distance']}-{c['k']}-{c['temperature']}")
def test_reference(case: dict[str, float]) -> None:
    found = knn(
        T["train_features"],
        T["train_targets"],
        T["test_features"],
        T["test_targets"],
        k=case["k"],
        temperature=case["temperature"] or 1.0,
        distance=case["distance"],
    )
    assert found.acc1 == pytest.approx(case["acc1"], abs=1e-6)
    # With few neighbours some classes have no vote, and their order among each other is arbitrary.
    assert case["acc5_if_ties_lose"] - 1e-6 <= found.acc5 <= case["acc5_if_ties_win"] + 1e-6


def test_a_grid_is_its_cells() -> None:
    sets = T["train_features"], T["train_targets"], T["test_features"], T["test_targets"]
    cells = [Cell(c["k"], c["distance"], c["temperature"]) for c in RESULTS]
    for case, found in zip(RESULTS, knn_grid(*sets, cells), strict=True):
        assert found.acc1 == pytest.approx(case["acc1"], abs=1e-6)
        assert case["acc5_if_ties_lose"] - 1e-6 <= found.acc5 <= case["acc5_if_ties_win"] + 1e-6


def test_a_low_temperature_is_the_nearest_neighbours_word() -> None:
    sets = T["train_features"], T["train_targets"], T["test_features"], T["test_targets"]
    assert knn(*sets, k=50, temperature=1e-4).acc1 == knn(*sets, k=1).acc1


def test_against_a_slow_oracle() -> None:
    generator = torch.Generator().manual_seed(0)
    train, test = torch.randn(60, 8, generator=generator), torch.randn(20, 8, generator=generator)
    labels = torch.randint(0, 9, (60,), generator=generator)
    wanted = torch.randint(0, 9, (20,), generator=generator)
    hits = 0
    for query, label in zip(test, wanted.tolist(), strict=True):
        similarities = [float(torch.cosine_similarity(query, row, dim=0)) for row in train]
        votes: dict[int, float] = defaultdict(float)
        for similarity, i in sorted(((s, i) for i, s in enumerate(similarities)), reverse=True)[:5]:
            votes[int(labels[i])] += math.exp(similarity / 0.07)
        hits += max(votes, key=lambda c: votes[c]) == label
    assert knn(train, labels, test, wanted, k=5).acc1 == pytest.approx(100 * hits / 20)


@pytest.mark.parametrize("changes", [{"k": 0}, {"k": 401}, {"distance": "manhattan"}, {"temperature": 0.0}])
def test_impossible_settings(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        knn(T["train_features"], T["train_targets"], T["test_features"], T["test_targets"], **changes)
