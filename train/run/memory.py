"""How much memory this process takes, or its part of a GPU."""

from __future__ import annotations

import resource
from pathlib import Path

import torch


def bytes_now(device: torch.device) -> int:
    """Bytes in use."""
    return int(torch.cuda.memory_allocated()) if device.type == "cuda" else _of_process("VmRSS")


def peak_bytes(device: torch.device) -> int:
    """The most bytes that were in use."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return _of_process("VmHWM")


def _of_process(what: str) -> int:
    status = Path("/proc/self/status")
    if not status.exists():  # only Linux tells the present from the peak, and this process's from its parent's
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(f"{what}:"))
