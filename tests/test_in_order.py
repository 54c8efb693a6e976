from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from adios_zoo.in_order import chunks, in_order, threads


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_results_are_in_the_order_of_the_items(workers: int) -> None:
    def work(i: int) -> int:
        time.sleep(0.002 * (i % 3))
        return i * i

    with threads(workers, "test") as pool:
        assert list(in_order(pool, work, iter(range(20)), 5)) == [(i, i * i) for i in range(20)]


def test_only_so_many_are_begun() -> None:
    taken = []

    def items() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    with threads(2, "test") as pool:
        next(in_order(pool, lambda i: i, items(), 3))
        assert len(taken) == 3


def test_an_error_of_the_items_comes_after_what_was_before_it() -> None:
    def items() -> Iterator[int]:
        yield from (0, 1)
        raise ValueError("gone")

    with threads(2, "test") as pool:
        results = in_order(pool, lambda i: i, items(), 5)
        assert [next(results), next(results)] == [(0, 0), (1, 1)]
        with pytest.raises(ValueError, match="gone"):
            next(results)


def test_chunks() -> None:
    assert list(chunks(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
