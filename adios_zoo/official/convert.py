"""The authors' release -> a model folder."""

from __future__ import annotations

import re
import secrets
import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from adios_zoo.errors import ConfigError, IntegrityError
from adios_zoo.files import explained, write_tensors
from adios_zoo.models.card import HEADS, Card, card_of_folder
from adios_zoo.models.encoder import feature_width
from adios_zoo.models.fit import fill
from adios_zoo.models.model import AdiosModel, build, write_card
from adios_zoo.official.archive import Release, open_release, shown
from adios_zoo.official.card import card_of_args, differences
from adios_zoo.official.checkpoint import read_state_dict

# Networks of a release that no feature and no mask needs.
_LEFT_OUT = {"classifier", "momentum_encoder", "momentum_projector", "momentum_classifier"}

# Layers of the heads by number: w weight, b bias, s running statistics.
_HEADS = {
    "simclr": {"projector": "0wb 2wb"},
    "byol": {"projector": "0wb 1wbs 3wb", "predictor": "0wb 1wbs 3wb"},
    "simsiam": {"projector": "0w 1wbs 3w 4wbs 6wb 7s", "predictor": "0w 1wbs 3wb"},
}
_TENSORS = {"w": ("weight",), "b": ("bias",), "s": ("running_mean", "running_var", "num_batches_tracked")}


def convert(
    release: Path,
    out: Path,
    *,
    card: Card | None = None,
    known: Mapping[str, Card] | None = None,
    heads: bool = False,
) -> Card:
    """Turn a release of the authors into a model folder; nothing is written unless all of it fits.

    Args:
        release: a published zip archive, the folder that it unpacks to, or the run's folder in that.
        out: the model folder; must be absent or empty.
        card: what the zoo states of this release; ``None`` takes it from the release's own ``args.json``.
        known: without ``card``, the zoo's cards by name, whose words are used; see :func:`card_of_args`.
        heads: also write projector and predictor, to ``heads.safetensors``.

    Returns:
        The card of the folder.

    Raises:
        ConfigError: there is no such release, or ``out`` is in use.
        IntegrityError: the release is not what it should be: see :mod:`adios_zoo.official.archive`,
            :mod:`adios_zoo.official.checkpoint`; a tensor is missing, left over or of another shape;
            ``card`` disagrees.
        DataError: the folder cannot be written.
    """
    out = Path(out).resolve()
    _check_free(out)
    with open_release(Path(release)) as found:
        stated = card_of_args(found.args, found.what, known)
        return _converted(found, out, stated if card is None else _agreed(card, stated, found.what), heads)


def renamed(tensors: Mapping[str, Tensor], architecture: str) -> dict[str, Tensor]:
    """Tensors of an encoder under the names that today's timm has.

    Older Swins shrink the map at the end of a stage, today's at the start of the next, and they stored tables that
    follow from the window size.
    """
    if not architecture.startswith("swin_") or "layers.0.downsample.reduction.weight" not in tensors:
        return dict(tensors)
    return {
        re.sub(r"^layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", name): tensor
        for name, tensor in tensors.items()
        if not name.endswith((".relative_position_index", ".attn_mask"))
    }


def _converted(release: Release, out: Path, card: Card, heads: bool) -> Card:
    """On return no tensor is left that is mapped from the release: Windows deletes no file in use."""
    groups = _networks(read_state_dict(release.checkpoint, what=release.what), release.what)
    model = _filled(card, groups, release.what)
    extra = _heads(card, model, groups, release.what) if heads else {}
    return _write(model, extra, out)


def _check_free(out: Path) -> None:
    with explained(out):
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise ConfigError(f"{out} is in use; name a folder with -o that does not exist or is empty.")


def _agreed(card: Card, stated: Card, what: str) -> Card:
    wrong = [f"{n} is {getattr(stated, n)} there, {getattr(card, n)} here" for n in differences(card, stated)]
    if wrong:
        raise IntegrityError(f"{what} is not the release of {card.name}: {'; '.join(wrong)}.")
    return card.replace(recipe=stated.recipe)


def _networks(state: Mapping[str, Tensor], what: str) -> dict[str, dict[str, Tensor]]:
    """The tensors of each network, by bare names; the masker's under ours."""
    groups: dict[str, dict[str, Tensor]] = defaultdict(dict)
    strange = []
    for key, tensor in state.items():
        group, _, name = key.partition(".")
        if group == "mask_encoder" and not name.startswith("head."):
            groups["masker"][name] = tensor
        elif group == "mask_head" and name.startswith("0."):
            groups["masker"]["head." + name.removeprefix("0.")] = tensor
        elif group in {"encoder", "projector", "predictor", *_LEFT_OUT}:
            groups[group][name] = tensor
        else:
            strange.append(shown(key))
    if strange:
        raise IntegrityError(
            f"{what}: no network of ADIOS has {', '.join(strange[:3])}; {len(strange)} unknown in all."
        )
    return groups


def _filled(card: Card, groups: Mapping[str, Mapping[str, Tensor]], what: str) -> AdiosModel:
    encoder = renamed(groups.get("encoder", {}), card.architecture)
    masker = groups.get("masker", {})
    model = build(card, sum(t.numel() for t in (*encoder.values(), *masker.values())), what=what)
    assert model.masker is not None  # card_of_args gives every release one
    for name, module, tensors in (("encoder", model.encoder, encoder), ("masker", model.masker, masker)):
        fill(module, tensors, what=f"{what}: its {name}")
        _check_finite(name, module, what)
    return model


def _check_finite(name: str, module: nn.Module, what: str) -> None:
    bad = [key for key, tensor in module.state_dict().items() if not tensor.isfinite().all()]
    if bad:
        raise IntegrityError(f"{what}: its {name} holds values that are not finite, in {', '.join(bad[:3])}.")


def _heads(card: Card, model: AdiosModel, groups: Mapping[str, Mapping[str, Tensor]], what: str) -> dict[str, Tensor]:
    """Projector and predictor, which must have the method's layers, each as wide as the one before gives."""
    width = feature_width(model.encoder)
    found = {}
    for head, layers in _HEADS[card.method].items():
        tensors = groups.get(head, {})
        names = [f"{layer[0]}.{name}" for layer in layers.split() for letter in layer[1:] for name in _TENSORS[letter]]
        if set(names) != set(tensors):
            odd = sorted(set(names) ^ set(tensors))
            raise IntegrityError(f"{what}: its {head} does not fit: missing or left over are {shown(odd[:3])}.")
        for name in names:
            shape = tuple(tensors[name].shape)
            if name.endswith("num_batches_tracked"):
                fits = shape == ()
            elif len(shape) == 2:
                fits = shape[1] == width
                width = shape[0]
            else:
                fits = shape == (width,)
            if not fits:
                raise IntegrityError(f"{what}: its {head} does not fit: {name} has the shape {list(shape)}.")
            found[f"{head}.{name}"] = tensors[name]
    return found


def _write(model: AdiosModel, extra: Mapping[str, Tensor], out: Path) -> Card:
    new = out.with_name(f".{out.name.lstrip('.')}.{secrets.token_hex(4)}.partial")
    try:
        with explained(out):
            model.save_pretrained(new)
            card = card_of_folder(new).replace(origin=model.card.origin)
            if extra:
                write_tensors(new / HEADS, extra, {"format": "pt"})
            card = write_card(card, new, also=[new / HEADS] if extra else [])
            if out.exists():
                out.rmdir()
            new.rename(out)
            return card
    finally:
        shutil.rmtree(new, ignore_errors=True)
