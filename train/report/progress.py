"""How far a run is: what a checkpoint keeps of it beside the tensors."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: batches done.
        seconds: spent on them, over all sessions.
        data: fingerprint of the images.
        log_bytes: length of the log that belongs to these steps.
        code: versions of the code that took the steps, in order.
    """

    step: int = 0
    seconds: float = 0.0
    data: str = ""
    log_bytes: int = 0
    code: list[str] = field(default_factory=list)
