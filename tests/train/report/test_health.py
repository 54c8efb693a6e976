"""Verdicts on runs that are well and on runs that are not."""

from __future__ import annotations

import math
from typing import Any

import pytest
from adios_zoo.train.report.health import verdicts
from adios_zoo.train.report.record import columns_of

LIMITS = {"min_deviation": 0.02, "max_share": 0.99, "max_mask_entropy": 0.9999}


def levels(records: list[dict[str, Any]], **facts: int) -> dict[str, str]:
    facts = {"classes": 10, "queries": 500, "unreadable": 0, "images": 1000} | facts
    return {v.title: v.level for v in verdicts(columns_of(records), LIMITS, **facts)}


def records(count: int = 8, **values: float) -> list[dict[str, Any]]:
    usual = {"loss": 2.0, "deviation": 0.95, "area_0": 0.4, "area_1": 0.3, "area_2": 0.3, "mask_entropy": 0.5}
    return [{"step": 20 * k, **usual, **values} for k in range(count)]


def test_all_is_well() -> None:
    found = levels([{"step": 0, "knn_top1": 12.0}, *records(), {"step": 160, "knn_top1": 40.0}])
    assert found == {
        "No collapse": "good",
        "Every mask has its share": "good",
        "The masks have decided": "good",
        "The features got better": "good",
    }


@pytest.mark.parametrize(
    ("values", "title", "level"),
    [
        ({"deviation": 0.01}, "The embeddings have collapsed", "bad"),
        ({"deviation": 0.2}, "The embeddings are close together", "warning"),
        ({"area_0": 0.995, "area_1": 0.003, "area_2": 0.002}, "One mask owns the whole image", "bad"),
        ({"area_0": 0.8, "area_1": 0.1, "area_2": 0.1}, "One mask owns most of the image", "warning"),
        ({"area_0": 0.5, "area_1": 0.495, "area_2": 0.005}, "A mask is hardly used", "warning"),
        ({"mask_entropy": 0.99995}, "The masks are uniform", "bad"),
        ({"mask_entropy": 0.95}, "The masks are undecided", "warning"),
        ({"objective": math.inf}, "Numbers got out of hand", "bad"),
    ],
)
def test_what_is_wrong_is_said(values: dict[str, float], title: str, level: str) -> None:
    assert levels(records(**values))[title] == level


def test_the_latest_records_count() -> None:
    assert "No collapse" in levels([*records(deviation=0.01), *records()])


@pytest.mark.parametrize(
    ("accuracy", "title"),
    [
        ((10.0, 12.0), "The features are not clearly better than at first"),  # chance, with 500 images
        ((10.0, 50.0, 30.0), "The features have been better"),
        ((10.0, 50.0, 48.0), "The features got better"),
    ],
)
def test_features(accuracy: tuple[float, ...], title: str) -> None:
    assert title in levels([{"step": k, "knn_top1": a} for k, a in enumerate(accuracy)])


def test_a_run_that_knows_nothing_has_no_verdict() -> None:
    assert levels([]) == {}
    assert levels([{"step": 0, "loss": 1.0}], classes=0) == {}
    assert levels([], unreadable=10) == {"Some images are missing": "warning"}
