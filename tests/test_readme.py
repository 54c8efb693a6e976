"""What the README and the model cards say of the zoo is made from the cards.

``ADIOS_UPDATE=1 python -m pytest tests/test_readme.py`` writes the README's parts anew.
"""

from __future__ import annotations

import os
import re

import adios_zoo
from adios_zoo.models.card import Figure
from adios_zoo.models.card_texts import figures_table, readme_of
from adios_zoo.zoo.registry import list_models, table
from tests.conftest import ROOT
from tests.small_models import small_card

README = ROOT / "README.md"


def with_part(text: str, name: str, content: str) -> str:
    part = re.compile(rf"(<!-- {name}:[^>]*-->\n).*?(<!-- /{name} -->)", re.DOTALL)
    assert part.search(text), name
    return part.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text)


def test_the_readmes_tables_are_the_cards() -> None:
    text = README.read_text()
    made = with_part(text, "zoo", f"```\n{table(list_models())}\n```")
    made = with_part(made, "figures", figures_table(adios_zoo.card("resnet18_tin200")))
    if os.environ.get("ADIOS_UPDATE"):
        README.write_text(made)
    assert README.read_text() == made


def test_a_model_cards_readme() -> None:
    card = small_card(training={"images": 48}, figures=(Figure("k-NN top-1", 12.5, "%", "adios evaluate knn"),))
    text = readme_of(card)
    assert text.startswith("---\nlibrary_name: timm\n")
    assert "`test_resnet`, input 32 x 32 pixels" in text
    assert "images: 48" in text
    assert "| k-NN top-1 | 12.5 % | `adios evaluate knn` |" in text
