"""Work in threads, with results in the order of the items and only so many of them begun."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _InTurn(Executor):
    """Does at once what it is given, in the caller's thread."""

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        future: Future[R] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def threads(count: int, name: str) -> Iterator[Executor]:
    """Give a pool of threads, which serve: Pillow, torch and ONNX Runtime let go of the interpreter lock."""
    pool = ThreadPoolExecutor(count, thread_name_prefix=f"adios-{name}") if count else _InTurn()
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut into lists of ``size``; the last may be shorter."""
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk


def in_order(pool: Executor, work: Callable[[T], R], items: Iterator[T], ahead: int) -> Iterator[tuple[T, R]]:
    """Yield (item, work(item)) in the order of the items, with at most ``ahead`` of them begun beforehand.

    An error of ``items`` comes after the results of those before it.
    """
    pending: deque[tuple[T, Future[R]]] = deque()
    error: Exception | None = None
    while True:
        while error is None and len(pending) < ahead:
            try:
                item = next(items)
            except Exception as raised:
                error = raised
            else:
                pending.append((item, pool.submit(work, item)))
        if not pending:
            break
        item, future = pending.popleft()
        yield item, future.result()
    if error is not None and not isinstance(error, StopIteration):
        raise error
