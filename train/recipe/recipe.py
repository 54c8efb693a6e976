"""A recipe: everything that decides what a pretraining run computes, read from one YAML file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from adios_zoo.errors import ConfigError
from adios_zoo.strict import Mistake, read

from .checks import impossible
from .files import parse_yaml, recipe_text
from .settings import Recipe


def read_recipe(source: str, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe of a name or a file's path, with ``key=value`` settings on top.

    A key is dotted (``optimiser.lr=0.2``), a value is YAML (``sizes={0: 32, 5: 64}``).

    Raises:
        ConfigError: unknown recipe, or one line for every mistake in it and in the settings on top.
    """
    data = parse_yaml(recipe_text(source), f"Recipe {source}") or {}
    if not isinstance(data, dict):
        raise ConfigError(f"Recipe {source}: a mapping of settings was expected.")
    mistakes = [mistake for override in overrides for mistake in _put(data, override)]
    return _checked(data, mistakes, what=f"Recipe {source}")


def parse_recipe(data: object, *, what: str) -> Recipe:
    """The recipe that plain data describe; ``what`` names them in the error.

    Raises:
        ConfigError: one line for every mistake.
    """
    return _checked(data, [], what=what)


def _checked(data: object, mistakes: list[Mistake], *, what: str) -> Recipe:
    recipe, more = read(Recipe, data)
    mistakes = mistakes + more
    if recipe is not None:
        wrong = {m.key for m in mistakes}
        mistakes += [m for m in impossible(recipe) if not wrong & set(m.key.split())]
    if mistakes or recipe is None:
        lines = list(dict.fromkeys(m.text for m in mistakes))
        raise ConfigError("\n".join(f"{what}: {line}" for line in lines))
    return recipe


def _put(data: dict[str, Any], override: str) -> list[Mistake]:
    """Put a ``key=value`` into the data; what is wrong with it."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        return [Mistake("", f"{override!r} is no setting; write key=value, such as optimiser.lr=0.2.")]
    try:
        value = parse_yaml(text, dotted)
    except ConfigError as error:
        return [Mistake(dotted, str(error))]
    *groups, last = dotted.split(".")
    for depth, key in enumerate(groups):
        inner = data.get(key, {})
        if not isinstance(inner, dict):
            return [Mistake(dotted, f"{dotted} is unknown; {'.'.join(groups[: depth + 1])} is no group of settings.")]
        data[key] = dict(inner)  # YAML's aliases are one and the same object
        data = data[key]
    data[last] = value
    return []
