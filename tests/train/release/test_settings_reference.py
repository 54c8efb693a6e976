"""The settings reference in the docs says what the settings' classes say."""

from __future__ import annotations

import dataclasses
from typing import get_type_hints

from adios_zoo.train.recipe.settings import Recipe
from adios_zoo.train.release.settings_reference import attributes, settings_reference, with_reference

from tests.conftest import ROOT

DOCUMENT = ROOT / "docs" / "training.md"


def test_the_document_is_up_to_date() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == with_reference(text), "run: python -m adios_zoo.train.release.settings_reference docs/training.md"


def test_every_setting_is_explained() -> None:
    kinds = [Recipe, *{k for k in get_type_hints(Recipe).values() if dataclasses.is_dataclass(k)}]
    for kind in kinds:
        settings = {
            f.name for f in dataclasses.fields(kind) if not dataclasses.is_dataclass(get_type_hints(kind)[f.name])
        }
        assert settings == set(attributes(kind)), kind


def test_a_row() -> None:
    row = "| `optimiser.schedule_by` | epoch, step | `epoch` | `epoch`, as the authors do, or `step`, which"
    assert row in settings_reference()
