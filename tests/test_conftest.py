"""The guard that keeps tests from the network."""

from __future__ import annotations

import socket
import threading

import pytest

from tests.conftest import NetworkUsedError


def reach() -> None:
    try:
        with socket.socket() as made:
            made.connect(("192.0.2.1", 80))
    except Exception:  # as code has that takes any error for a network that is down
        pass


def test_the_guard_is_no_exception_that_code_catches(reached: list[object]) -> None:
    with pytest.raises(NetworkUsedError, match=r"192\.0\.2\.1"):
        reach()
    assert reached == [("192.0.2.1", 80)]
    reached.clear()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_a_thread_reaches_for_is_known(reached: list[object]) -> None:
    thread = threading.Thread(target=reach)
    thread.start()
    thread.join()
    assert reached == [("192.0.2.1", 80)]
    reached.clear()
