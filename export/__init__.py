"""Export of encoders and maskers to other runtimes, and proof that an export does what its card says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adios_zoo.late import looked_up

if TYPE_CHECKING:
    from .to_onnx import export as export
    from .verification import verify as verify

_HOME = {
    "export": "adios_zoo.export.to_onnx",
    "verify": "adios_zoo.export.verification",
}

__all__ = [
    "export",
    "verify",
]

__getattr__, __dir__ = looked_up(__name__, _HOME)
