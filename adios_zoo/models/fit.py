"""Tensors of a file into a module of exactly their shapes; modules no larger than the files that fill them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from adios_zoo.errors import IntegrityError

_SLACK = 1 << 24  # elements of tables and temporaries that a module may have beside its parameters
_NAMED = 3  # keys that a message names


# torch's own modes are not annotated, hence the two ignores.
class no_larger_than(TorchDispatchMode):  # type: ignore[no-untyped-call]  # noqa: N801 (used as a function)
    """Within, new tensors may have ``elements`` elements together, twice over; more raise before memory is taken.

    A card can name any size.  Its model is no larger than its files, whose size is known before it is built.

    Raises:
        IntegrityError: more is asked for.
    """

    def __init__(self, elements: int, what: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._left, self._what = 2 * elements + _SLACK, what

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count what an operation makes anew, then let it run."""
        if args and isinstance(args[0], list | tuple) and all(isinstance(side, int) for side in args[0]):
            self._left -= math.prod(args[0])  # empty, zeros, randn, ...: the first argument is the shape
            if self._left < 0:
                raise IntegrityError(f"{self._what} describes a far larger model than its files hold.")
        return func(*args, **(kwargs or {}))


def fill(module: nn.Module, tensors: Mapping[str, Tensor], *, what: str) -> None:
    """Copy the tensors into the module, which must have exactly these.

    Args:
        module: to be filled; unchanged if anything is wrong.
        tensors: by name in the module's state dict; floating-point ones may have another precision.
        what: names their source in the message.

    Raises:
        IntegrityError: a tensor is missing, left over, of another shape or kind; the first few are named.
    """
    wanted = module.state_dict()
    mistakes = [
        *_named("it lacks", [name for name in wanted if name not in tensors]),
        *_named("it has no place for", [name for name in tensors if name not in wanted]),
        *_named(
            "other shapes have",
            [
                f"{name} ({_shape(tensors[name])} instead of {_shape(own)})"
                for name, own in wanted.items()
                if name in tensors and tensors[name].shape != own.shape
            ],
        ),
        *_named(
            "other kinds of numbers have",
            [name for name, own in wanted.items() if name in tensors and _kind(tensors[name]) != _kind(own)],
        ),
    ]
    if mistakes:
        raise IntegrityError(f"{what} does not fit: {'; '.join(mistakes)}.")
    with torch.no_grad():
        module.load_state_dict(dict(tensors))


def _named(fault: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return [f"{fault} {', '.join(ascii(n)[1:-1][:120] for n in names[:_NAMED])}{more}"]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _kind(tensor: Tensor) -> str:
    if tensor.is_floating_point():
        return "real"
    return "complex" if tensor.is_complex() else "whole"
