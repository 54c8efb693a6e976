"""torch.hub entries made from the cards."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from adios_zoo.zoo import registry

if TYPE_CHECKING:
    from adios_zoo.models.card import Card
    from adios_zoo.models.model import AdiosModel

Entry = Callable[..., "AdiosModel"]


def entries() -> dict[str, Entry]:
    """One entry for every name of the zoo, with a docstring."""
    return {name: _entry(name, registry.card(name)) for name in registry.list_models()}


def _entry(name: str, card: Card) -> Entry:
    def entry(*, pretrained: bool = True, device: str = "cpu") -> AdiosModel:
        # Imported here: hubconf's dependencies are checked before an entry runs, but after hubconf was imported.
        from adios_zoo.zoo import load

        found = load.load_model(name) if pretrained else load.random_model(name)
        return found.to(device)

    entry.__name__ = entry.__qualname__ = name
    alias = "" if name == card.name else f" Another name for ``{card.name}``."
    entry.__doc__ = (
        f"{card.summary}{alias}\n\n"
        f"    {card.architecture} encoder, {card.input_size} x {card.input_size} pixels, "
        f"{card.masker.slots if card.masker else 'no'} masks, trained with {card.method}.\n\n"
        "    Args:\n"
        "        pretrained: load the weights; else they are random.\n"
        "        device: where the model goes.\n\n"
        "    Returns:\n"
        "        A module that maps normalised images (B, 3, H, W) to features (B, D), with ``masks``,\n"
        "        ``transform`` and ``card``; PIL image -> tensor is ``transform``.\n"
    )
    return entry
