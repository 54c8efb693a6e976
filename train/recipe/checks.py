"""What no run can do: settings out of range, and combinations that exclude each other."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Iterator
from typing import Any

from adios_zoo.errors import ConfigError
from adios_zoo.models.masker import check_masker, default_blocks
from adios_zoo.strict import Mistake

from .settings import Recipe

_JUST_BELOW_0 = math.nextafter(0, -1)
_POSITIVE = (0.0, math.inf, "above 0")
_NOT_NEGATIVE = (_JUST_BELOW_0, math.inf, "at least 0")
_SHARE = (_JUST_BELOW_0, 1.0, "from 0 to 1")
_PROPER_SHARE = (0.0, 1.0, "above 0, at most 1")

# Dotted key: above the first number, at most the second, in words.  View settings are named without their view.
_RANGES = {
    "epochs": _POSITIVE,
    "batch_size": (1.0, math.inf, "at least 2 (batch norms and SimCLR compare images with one another)"),
    "accumulate": _POSITIVE,
    "image_size": (0.0, 4096.0, "from 1 to 4096 pixels"),
    "images": _POSITIVE,
    "shuffle_buffer": _POSITIVE,
    "max_bad_share": _SHARE,
    "checkpoint_minutes": _POSITIVE,
    "std": _POSITIVE,
    "masker.image_size": (0.0, 4096.0, "from 1 to 4096 pixels"),
    "masker.base_channels": (0.0, 1024.0, "from 1 to 1024"),
    "masker.every": _POSITIVE,
    "masker.freeze_after": _NOT_NEGATIVE,
    "masker.ratio": (0.0, 0.999999, "above 0 and below 1"),
    "masker.patch": _POSITIVE,
    "game.alpha_sparsity": _NOT_NEGATIVE,
    "game.alpha_entropy": _NOT_NEGATIVE,
    "game.temperature": _POSITIVE,
    "game.fill_sigma": _PROPER_SHARE,
    "game.clean_share": (_JUST_BELOW_0, 0.999999, "from 0 to below 1"),
    "game.projector_hidden": _POSITIVE,
    "game.projector_output": _POSITIVE,
    "game.predictor_hidden": _POSITIVE,
    "view.min_scale": _PROPER_SHARE,
    "view.max_scale": _PROPER_SHARE,
    "view.flip": _SHARE,
    "view.jitter": _SHARE,
    "view.brightness": _NOT_NEGATIVE,
    "view.contrast": _NOT_NEGATIVE,
    "view.saturation": _NOT_NEGATIVE,
    "view.hue": (_JUST_BELOW_0, 0.5, "from 0 to 0.5"),
    "view.grey": _SHARE,
    "view.blur": _SHARE,
    "view.blur_sigma": _NOT_NEGATIVE,
    "view.solarise": _SHARE,
    "optimiser.lr": _POSITIVE,
    "optimiser.masker_lr": _POSITIVE,
    "optimiser.probe_lr": _POSITIVE,
    "optimiser.weight_decay": _NOT_NEGATIVE,
    "optimiser.momentum": (_JUST_BELOW_0, 0.999999, "from 0 to below 1"),
    "optimiser.eta": _POSITIVE,
    "optimiser.warmup_epochs": _NOT_NEGATIVE,
    "optimiser.warmup_start_lr": _NOT_NEGATIVE,
    "optimiser.min_lr": _NOT_NEGATIVE,
    "optimiser.ends_early": _NOT_NEGATIVE,
    "optimiser.byol_tau": _SHARE,
    "watch.min_deviation": _SHARE,
    "watch.max_share": _SHARE,
    "watch.max_mask_entropy": _SHARE,
    "watch.patience": _POSITIVE,
}


def impossible(recipe: Recipe) -> list[Mistake]:
    """Everything that keeps the recipe from being run; a mistake's key names all settings that it concerns."""
    found = list(_out_of_range(recipe, ""))
    wrong = {m.key for m in found}
    for check in (_masker, _curriculum, _game, _views, _schedule, _encoder):
        found += [m for m in check(recipe) if not wrong & set(m.key.split())]
    return found


def _out_of_range(settings: Any, prefix: str) -> Iterator[Mistake]:
    for f in dataclasses.fields(settings):
        value, key = getattr(settings, f.name), prefix + f.name
        if dataclasses.is_dataclass(value):
            yield from _out_of_range(value, f"{key}.")
            continue
        values = list(value.values()) if isinstance(value, dict) else value
        numbers = [v for v in (values if isinstance(values, list | tuple) else [values]) if type(v) in (int, float)]
        above, most, words = _RANGES.get(re.sub(r"^view\d", "view", key), (-math.inf, math.inf, "finite"))
        if not all(math.isfinite(v) and above < v <= most for v in numbers):
            yield Mistake(key, f"{key} must be {words}, not {value}.")


def _masker(r: Recipe) -> Iterator[Mistake]:
    m = r.masker
    if not 1 <= m.slots <= 64 or (m.slots < 2 and m.kind == "learned"):
        least = "2 to 64 (one mask alone would be the whole image)" if m.kind == "learned" else "1 to 64"
        yield Mistake("masker.slots", f"masker.slots must be from {least}, not {m.slots}.")
    if m.kind != "learned":
        for size in sorted({r.image_size, *r.sizes.values()}) if m.kind in ("patches", "blocks") else ():
            cells = math.ceil(size / m.patch) ** 2
            if not 0 < round(m.ratio * cells) < cells:
                text = f"masker.patch {m.patch} makes {cells} patches of a view of {size} pixels, of which a share of "
                text += f"masker.ratio {m.ratio} hides none or all; choose a smaller patch."
                yield Mistake("masker.patch masker.ratio image_size sizes", text)
                break
        for name in ("loss_factor", "freeze_after"):
            if getattr(m, name) not in (None, {}):
                text = f"masker.{name} belongs to masker.kind=learned, not to {m.kind}; leave it out."
                yield Mistake(f"masker.{name} masker.kind", text)
        return
    blocks = default_blocks(m.image_size) if m.blocks is None else m.blocks
    try:
        check_masker(m.image_size, max(m.slots, 1), m.base_channels, m.norm, blocks)
    except ConfigError as error:
        near = f"did you mean {_nearest_size(m.image_size, blocks)}?"
        keys = "masker.image_size masker.blocks masker.base_channels masker.norm"
        text = f"masker (image_size {m.image_size}, blocks {blocks}, base_channels {m.base_channels}, norm {m.norm}): "
        yield Mistake(keys, text + str(error) + (f" For image_size, {near}" if "image size that" in str(error) else ""))


def _nearest_size(size: int, blocks: int) -> int:
    step = 1 << (blocks - 1)
    return max(1, round(size / step)) * step


def _curriculum(r: Recipe) -> Iterator[Mistake]:
    m = r.masker
    if late := [e for e in m.loss_factor if not 0 <= e <= r.epochs]:
        text = f"masker.loss_factor names epoch {late[0]}, which must be from 0 to epochs, {r.epochs}."
        yield Mistake("masker.loss_factor epochs", text)


def _game(r: Recipe) -> Iterator[Mistake]:
    g = r.game
    if g.terms and g.method != "simsiam":
        text = f"game.terms belong to game.method=simsiam, not to {g.method}; leave out {', '.join(g.terms)}."
        yield Mistake("game.terms game.method", text)
    if len(set(g.terms)) < len(g.terms):
        yield Mistake("game.terms", f"game.terms must name each term once, not {', '.join(g.terms)}.")


def _views(r: Recipe) -> Iterator[Mistake]:
    for v, view in r.views.items():
        for low, high, names in (
            (view.min_scale, view.max_scale, ("min_scale", "max_scale")),
            (*view.blur_sigma, ("blur_sigma[0]", "blur_sigma[1]")),
        ):
            if low > high:
                text = f"view{v}.{names[0]} must be at most {names[1]}, {high}, not {low}."
                yield Mistake(" ".join(f"view{v}.{n.partition('[')[0]}" for n in names), text)


def _schedule(r: Recipe) -> Iterator[Mistake]:
    o = r.optimiser
    if o.ends_early and not r.epochs - o.ends_early - o.warmup_epochs >= o.ends_early:
        text = f"optimiser.ends_early, {o.ends_early}, is too long a tail for epochs, {r.epochs}: the rate would climb "
        text += "back to its peak; set optimiser.ends_early=0."
        yield Mistake("optimiser.warmup_epochs optimiser.ends_early epochs", text)
    elif o.warmup_epochs > r.epochs - o.ends_early:
        early = f" less optimiser.ends_early, {o.ends_early}," if o.ends_early else ""
        text = f"optimiser.warmup_epochs must be at most epochs, {r.epochs},{early} not {o.warmup_epochs}."
        yield Mistake("optimiser.warmup_epochs optimiser.ends_early epochs", text)
    if o.byol_tau[0] > o.byol_tau[1]:
        yield Mistake(
            "optimiser.byol_tau", f"optimiser.byol_tau must not fall, from {o.byol_tau[0]} to {o.byol_tau[1]}."
        )
    if late := [e for e in r.sizes if not 0 <= e < r.epochs]:
        text = f"sizes names epoch {late[0]}, which must be from 0 to below epochs, {r.epochs}."
        yield Mistake("sizes epochs", text)
    if bad := [s for s in r.sizes.values() if not 0 < s <= 4096]:
        yield Mistake("sizes", f"sizes must be from 1 to 4096 pixels, not {bad[0]}.")


def _encoder(r: Recipe) -> Iterator[Mistake]:
    import timm

    e, key = r.encoder, "encoder.architecture"
    if not timm.is_model(e.architecture):
        close = difflib.get_close_matches(e.architecture, timm.list_models(), n=1)
        hint = f"did you mean {close[0]}?" if close else "timm.list_models() names them all."
        yield Mistake(key, f"{key} must be one of timm's, not {e.architecture!r}; {hint}")
        return
    cfg = timm.get_pretrained_cfg(e.architecture)
    if cfg is None or not cfg.fixed_input_size:
        return
    # A ViT is made for one size of images, in whole patches.
    free = bool(e.model_args.get("dynamic_img_size"))
    made_for = e.model_args.get("img_size", cfg.input_size[-1])
    keys = "encoder.model_args encoder.architecture image_size sizes"
    in_name = re.search(r"patch(\d+)", e.architecture)
    patch = e.model_args.get("patch_size", int(in_name[1]) if in_name else 1)
    for size in sorted({r.image_size, *r.sizes.values()}):
        if isinstance(patch, int) and patch > 0 and size % patch and not e.model_args.get("dynamic_img_pad"):
            below = max(patch, size // patch * patch)
            text = f"image_size must be a multiple of the patch of {e.architecture}, {patch}, not {size}; "
            yield Mistake(keys, text + f"did you mean {below}?")
        elif not free and size != made_for:
            text = f"encoder.model_args: {e.architecture} takes {made_for} pixels, and views of {size} are asked for; "
            args = ", ".join(f"{name}: {value}" for name, value in {**e.model_args, "img_size": size}.items())
            hint = f"set encoder.model_args={{{args}}}."
            yield Mistake(keys, text + (hint if not r.sizes else "add dynamic_img_size: true, or leave sizes out."))
