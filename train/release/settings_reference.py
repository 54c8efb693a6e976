"""The settings reference in docs/training.md, made from the settings' classes.

``python -m adios_zoo.train.release.settings_reference docs/training.md`` brings a file up to date, between its two
markers.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

from adios_zoo.errors import ConfigError
from adios_zoo.files import write_text

from ..recipe.settings import Recipe

BEGIN = "<!-- settings: made by `python -m adios_zoo.train.release.settings_reference docs/training.md` -->"
END = "<!-- /settings -->"


def settings_reference() -> str:
    """Every group of settings as a Markdown table: key, what it takes, default, meaning."""
    return "\n\n".join(f"### {title}\n\n{table}" for title, table in _tables())


def with_reference(text: str) -> str:
    """The text of a document with its settings reference up to date.

    Raises:
        ConfigError: it has no markers.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ConfigError(f"The document has no single pair of markers {BEGIN} and {END}.")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{settings_reference()}\n\n{END}{rest.partition(END)[2]}"


def _tables() -> Iterator[tuple[str, str]]:
    yield "The run", _table(Recipe, "")
    groups: dict[Any, list[str]] = {}
    for f in dataclasses.fields(Recipe):
        if dataclasses.is_dataclass(kind := get_type_hints(Recipe)[f.name]):
            groups.setdefault(kind, []).append(f.name)
    for kind, names in groups.items():
        summary = inspect.cleandoc(kind.__doc__).partition("\n\n")[0].replace("\n", " ")
        title = ", ".join(f"`{name}`" for name in names)
        yield title, f"{_linked(summary)}\n\n{_table(kind, names[0] + '.')}"


def _table(kind: Any, prefix: str) -> str:
    hints, meanings = get_type_hints(kind), attributes(kind)
    rows = ["| setting | takes | default | meaning |", "|---|---|---|---|"]
    for f in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[f.name]):
            continue
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        cells = (f"`{prefix}{f.name}`", _takes(hints[f.name]), f"`{_shown(default)}`", _linked(meanings[f.name]))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def attributes(kind: Any) -> dict[str, str]:
    """What the docstring of a class says of each attribute."""
    text = inspect.cleandoc(kind.__doc__).partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", text, re.MULTILINE)
    return {name: " ".join(meaning.split()) for name, meaning in found}


def _takes(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) else str(hint)
    text = text.replace("typing.", "").replace("NoneType", "None")
    for literal in re.findall(r"Literal\[[^]]*\]", text):
        text = text.replace(literal, ", ".join(re.findall(r"'([^']*)'", literal)))
    words = {"int": "whole number", "float": "number", "str": "text", "bool": "true or false", "None": "null"}
    text = re.sub(r"\b(int|float|str|bool|None)\b", lambda m: words[m[0]], text.replace(" | ", " or "))
    text = re.sub(r"dict\[(.*), (.*)\]", r"{\1: \2}", text)
    return re.sub(r"tuple\[(.*?)(, \.\.\.)?\]", r"list of \1", text)


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _linked(text: str) -> str:
    """Without the marks of docstrings: roles and double backticks."""
    text = re.sub(r":(?:func|class|meth):`(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`")


if __name__ == "__main__":
    document = Path(sys.argv[1])
    write_text(document, with_reference(document.read_text(encoding="utf-8")))
