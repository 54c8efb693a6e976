"""Work in a process of its own, asked for over a pipe: its time and its peak memory are its own."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

from adios_zoo.errors import BackendError
from adios_zoo.features.write_file import Features

Work: TypeAlias = "tuple[Callable[[], Features | None], int]"  # and how many images it takes
Maker: TypeAlias = "tuple[Callable[..., Work], tuple[Any, ...]]"


@contextmanager
def own_process(maker: Maker) -> Iterator[Connection]:
    """Give the line to a process that prepares its work, does it once, says so, and waits to do it again."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, *maker), daemon=True)
    process.start()
    there.close()
    with closing(here):
        try:
            yield here
        finally:
            process.kill()
            process.join()


def _serve(line: Connection, make: Callable[..., Work], arguments: tuple[Any, ...]) -> None:
    try:
        work, images = make(*arguments)
        features = work()
        line.send(True)
        while line.recv() == "go":
            start = time.perf_counter()
            work()
            line.send((time.perf_counter() - start) / images)
        line.send((_peak_megabytes(), features))
    except Exception as error:
        line.send(error if isinstance(error, BackendError) else BackendError(str(error) or type(error).__name__))


def asked(line: Connection, question: str) -> Any:
    """What the process answers; raises BackendError for what went wrong there."""
    line.send(question)
    return answer(line)


def answer(line: Connection) -> Any:
    """Its next word; raises BackendError as :func:`asked`."""
    try:
        answer = line.recv()
    except EOFError as error:
        raise BackendError("a process of the benchmark has died; was there enough memory?") from error
    if isinstance(answer, Exception):
        raise answer
    return answer


def _peak_megabytes() -> float:
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, ValueError, IndexError):  # not Linux
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
