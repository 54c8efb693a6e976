"""Reads plain data (from JSON or YAML) into dataclasses, and lists every mistake at once."""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from adios_zoo.errors import AdiosError

T = TypeVar("T")


def build(kind: type[T], data: object, *, what: str, error: type[AdiosError]) -> T:
    """An instance of the dataclass ``kind`` from ``data``.

    Unknown keys, missing keys and ill-typed values are all collected.

    Args:
        kind: a dataclass; nested dataclasses, ``Literal``, tuples, dicts, optional values are understood.
        data: what a JSON or YAML file held.
        what: names the source in the message.
        error: raised with one line a mistake.
    """
    value, mistakes = read(kind, data)
    if mistakes:
        raise error(f"{what}: " + "\n".join(m.text for m in mistakes))
    assert value is not None
    return value


@dataclass(frozen=True)
class Mistake:
    """What is wrong: one sentence that names the ``key``."""

    key: str
    text: str


def read(kind: type[T], data: object) -> tuple[T | None, list[Mistake]]:
    """An instance of ``kind`` from what is right in ``data``, and the mistakes.

    A wrong value leaves its default; where there is none, there is no instance.
    """
    mistakes: list[Mistake] = []
    return _value(kind, data, "", mistakes), mistakes


def _value(kind: Any, data: Any, where: str, mistakes: list[Mistake]) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return data
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, data, where, mistakes)
    if origin is Literal:
        if data in args and not isinstance(data, bool):
            return data
        return _wrong(where, f"one of {', '.join(map(str, args))}", data, mistakes)
    if origin in (Union, types.UnionType):
        if data is None and type(None) in args:
            return None
        (inner,) = [a for a in args if a is not type(None)]
        return _value(inner, data, where, mistakes)
    if origin is tuple:
        return _tuple(args, data, where, mistakes)
    if origin is dict:
        if not isinstance(data, Mapping):
            return _wrong(where, "a mapping", data, mistakes)
        key, inner = args
        return {
            # JSON has no keys but texts.
            _value(key, int(k) if key is int and str(k).isdecimal() else k, f"{where} key", mistakes): _value(
                inner, v, f"{where}.{k}", mistakes
            )
            for k, v in data.items()
        }
    return _scalar(kind, data, where, mistakes)


def _dataclass(kind: Any, data: Any, where: str, mistakes: list[Mistake]) -> Any:
    if not isinstance(data, Mapping):
        return _wrong(where or "the whole", "a mapping", data, mistakes)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    hints = get_type_hints(kind)
    prefix = f"{where}." if where else ""
    for key in data:
        if key not in fields:
            close = difflib.get_close_matches(str(key), list(fields), n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(fields)}."
            mistakes.append(Mistake(f"{prefix}{key}", f"{prefix}{key} is unknown; {hint}"))
    values = {}
    whole = True
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if name in data:
            known = len(mistakes)
            value = _value(hints[name], data[name], prefix + name, mistakes)
            if len(mistakes) == known or dataclasses.is_dataclass(value):
                values[name] = value
                continue
        elif required:
            mistakes.append(Mistake(prefix + name, f"{prefix}{name} is missing."))
        whole = whole and not required
    if not whole:
        return None
    try:
        return kind(**values)
    except ValueError as problem:
        mistakes.append(Mistake(where, f"{where or 'the whole'}: {problem}"))
        return None


def _tuple(args: tuple[Any, ...], data: Any, where: str, mistakes: list[Mistake]) -> Any:
    if not isinstance(data, list | tuple):
        return _wrong(where, "a list", data, mistakes)
    if len(args) == 2 and args[1] is Ellipsis:
        args = (args[0],) * len(data)
    if len(args) != len(data):
        return _wrong(where, f"a list of {len(args)}", data, mistakes)
    return tuple(_value(a, d, f"{where}[{i}]", mistakes) for i, (a, d) in enumerate(zip(args, data, strict=True)))


def _scalar(kind: Any, data: Any, where: str, mistakes: list[Mistake]) -> Any:
    if kind is float and isinstance(data, int) and not isinstance(data, bool) and abs(data) < 1 << 1000:
        return float(data)
    if isinstance(data, kind) and not (kind is int and isinstance(data, bool)):
        return data
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return _wrong(where, names.get(kind, str(kind)), data, mistakes)


def _wrong(where: str, expected: str, data: Any, mistakes: list[Mistake]) -> None:
    mistakes.append(Mistake(where, f"{where} must be {expected}, not {data!r}."))
