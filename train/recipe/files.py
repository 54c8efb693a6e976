"""The recipes' files: those that come with the package by name, others by path; their YAML."""

from __future__ import annotations

import difflib
import re
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from adios_zoo.errors import ConfigError


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("adios_zoo.train") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def recipe_text(source: str) -> str:
    """What the file of a recipe holds.

    Args:
        source: name, or path ending in ``.yaml``, ``.yml`` or ``.json`` (such as a run's ``recipe.json``).

    Raises:
        ConfigError: there is no such recipe.
    """
    path = Path(source)
    if path.suffix in (".yaml", ".yml", ".json"):
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ConfigError(f"Recipe {source} cannot be read: {reason}.") from error
    if source in recipe_names():
        return (resources.files("adios_zoo.train") / "recipes" / f"{source}.yaml").read_text(encoding="utf-8")
    close = difflib.get_close_matches(source, recipe_names(), n=1)
    hint = f"did you mean {close[0]}?" if close else "`adios recipes` names them all."
    raise ConfigError(f"There is no recipe named {source!r}; {hint} A recipe of your own is a path ending in .yaml.")


def recipe_table() -> str:
    """The recipes that come with the package, a line each: the name, and the comment that its file begins with."""
    names = recipe_names()
    width = max(map(len, names))
    return "\n".join(f"{name:<{width}}  {recipe_text(name).partition(chr(10))[0].lstrip('# ')}" for name in names)


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as in JSON and as everybody expects; YAML 1.1 wants 1.0e-3."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+"), list("-+0123456789")
)


class _Dumper(yaml.SafeDumper):
    """Writes tuples as lists, which safe YAML has no tag for."""


_Dumper.add_representer(tuple, yaml.SafeDumper.represent_list)


def to_yaml(data: dict[str, Any]) -> str:
    """Plain data as YAML that :func:`parse_yaml` reads: groups of settings in blocks, in their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110)


def parse_yaml(text: str, what: str) -> Any:
    """Plain data from YAML (and so from JSON).

    Raises:
        ConfigError: it is not YAML; ``what`` names it.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{what} is not YAML: {' '.join(str(error).split())}") from error
