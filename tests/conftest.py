"""Shared by all tests: where the golden numbers lie, and no network."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The golden numbers, cut to a size that travels; ADIOS_REFERENCE names a folder with whole files, some or all.
OWN_GOLDEN = Path(__file__).parent / "golden"
GOLDEN = Path(os.environ.get("ADIOS_REFERENCE") or OWN_GOLDEN)

# Real images: tiny-imagenet/ (parquet) and photos/ (JPEG).  Tests that need them skip where there are none.
DATA = Path(os.environ.get("ADIOS_DATA") or "no-such-folder")


def pytest_configure() -> None:
    if not GOLDEN.is_dir():
        raise pytest.UsageError(f"ADIOS_REFERENCE names {GOLDEN}, which is no folder.")


def golden(*names: str) -> Path:
    """The folder to read these files from: that of ADIOS_REFERENCE if it has them all, or else the project's own.

    Files that belong together, as results and what they come from, are named together.
    """
    return GOLDEN if all((GOLDEN / name).is_file() for name in names) else OWN_GOLDEN


class NetworkUsedError(BaseException):
    """A test reached for the network; no ``except Exception`` takes it for a network that is down."""


@pytest.fixture(autouse=True)
def reached(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """The addresses that were reached for; if there are any at the end, the test fails."""
    connect = socket.socket.connect
    addresses: list[object] = []

    def only_loopback(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and not str(address).startswith(("('127.", "('::1", "('localhost")):
            addresses.append(address)  # a thread's exception may get lost
            raise NetworkUsedError(f"a test reached for the network: {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_loopback)
    yield addresses
    assert not addresses, f"a test reached for the network: {addresses}"
