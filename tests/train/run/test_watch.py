"""When a run is stopped."""

from __future__ import annotations

import math

import pytest
from adios_zoo.train.recipe.settings import WatchSettings
from adios_zoo.train.run.watch import CollapseError, Watch, check_finite

GOOD = {"loss": 1.0, "deviation": 0.8, "area_0": 0.4, "area_1": 0.6, "mask_entropy": 0.7}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"deviation": 0.001}, "embeddings of all images are alike"),
        ({"area_0": 0.001, "area_1": 0.999}, "one slot owns 99.9 %"),
        ({"mask_entropy": 0.99999}, "share every pixel evenly"),
    ],
)
def test_collapse_stops_a_run_when_it_lasts(change: dict[str, float], reason: str) -> None:
    watch = Watch(WatchSettings(patience=3))
    for _ in range(2):
        watch.see(GOOD | change, 5)
        assert watch.worried
    watch.see(GOOD, 6)
    assert not watch.worried
    watch.see(GOOD | change, 7)
    watch.see(GOOD | change, 8)
    with pytest.raises(CollapseError, match=f"{reason}.*at step 9, 3 records in a row"):
        watch.see(GOOD | change, 9)


def test_limits_at_the_ends_of_their_ranges_never_stop_a_run() -> None:
    watch = Watch(WatchSettings(min_deviation=0, max_share=1, max_mask_entropy=1, patience=1))
    watch.see({"deviation": 0.0, "area_0": 1.0, "area_1": 0.0, "mask_entropy": 1.0}, 0)


def test_one_mask_owns_everything_by_right() -> None:
    Watch(WatchSettings(patience=1)).see({"area_0": 1.0, "mask_entropy": 1.0}, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite(value: float) -> None:
    check_finite(GOOD, 3)
    with pytest.raises(CollapseError, match="objective is not finite at step 3"):
        check_finite(GOOD | {"objective": value}, 3)
