"""Shared by all tests: where the golden numbers lie, and no network."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

# The folder of golden numbers; ADIOS_REFERENCE names a fuller one.
GOLDEN = Path(os.environ.get("ADIOS_REFERENCE") or Path(__file__).parent / "golden")

# Real images: tiny-imagenet/ (parquet) and photos/ (JPEG).  Tests that need them skip where there are none.
DATA = Path(os.environ.get("ADIOS_DATA") or "no-such-folder")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def only_loopback(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and not str(address).startswith(("('127.", "('::1", "('localhost")):
            raise AssertionError(f"a test reached for the network: {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", only_loopback)


@pytest.fixture
def golden() -> Path:
    return GOLDEN
