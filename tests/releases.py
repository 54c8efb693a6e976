"""Releases in the layout of the authors' archives, with tensors drawn from a seed."""

from __future__ import annotations

import json
import math
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.conftest import golden


def official(name: str) -> Any:
    """A file of ``official_keys/``."""
    name = f"official_keys/{name}.json"
    return json.loads((golden(name) / name).read_text())


ARGS: dict[str, dict[str, Any]] = official("args_example")
RUN = "1a2b3c4d"


def keys_of(archive: str) -> dict[str, tuple[list[int], str]]:
    return official(f"{ARGS[archive]['method']}_{ARGS[archive]['encoder']}")


def tensors_of(keys: dict[str, tuple[list[int], str]], *, only: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Tensors of these shapes, of a size at which features neither vanish nor explode; ``only`` some networks."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for key, (shape, dtype) in keys.items():
        if only and not key.startswith(only):
            continue
        if dtype == "int64":
            found[key] = torch.tensor(7)
            continue
        noise = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            noise *= 1 / math.sqrt(max(1, math.prod(shape[1:])))
        else:
            noise = noise * 0.1 + float(not key.endswith(("bias", "running_mean")))
        found[key] = noise.abs() if key.endswith("running_var") else noise
    return found


def checkpoint_of(state: dict[str, Tensor], *, extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """A checkpoint as the trainer's version 1.4 writes it."""
    name, tensor = next(iter(state.items()))
    optimiser = {"state": {0: {"momentum_buffer": tensor * 0.5}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    as_modules_write_it: OrderedDict[str, Tensor] = OrderedDict(state)
    as_modules_write_it._metadata = OrderedDict({"": {"version": 1}})
    return {
        "epoch": 499,
        "global_step": 12345,
        "pytorch-lightning_version": "1.4.7",
        "state_dict": as_modules_write_it,
        "callbacks": {},
        "optimizer_states": [optimiser, optimiser],
        "lr_schedulers": [{"warmup_epochs": 10, "base_lrs": [0.1], "last_epoch": 500, "_last_lr": [1e-4]}],
        "name of the first": name,
        **(extra or {}),
    }


def write_run(folder: Path, args: dict[str, Any], checkpoint: object) -> Path:
    """``folder``/<run>/ with ``args.json`` and the checkpoint; bytes are written as they are."""
    run = folder / RUN
    run.mkdir(parents=True)
    (run / "args.json").write_text(json.dumps(args))
    path = run / f"{args.get('name', 'x')}-{RUN}-ep=499.ckpt"
    if isinstance(checkpoint, bytes):
        path.write_bytes(checkpoint)
    else:
        torch.save(checkpoint, path)
    return run


def zipped(folder: Path, path: Path, *, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.write(folder, folder.name)
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent).as_posix())
    return path


def release(folder: Path, archive: str, *, only: tuple[str, ...] = (), **changes: object) -> Path:
    """The zip archive of one of the nine published releases."""
    args = ARGS[archive] | changes
    write_run(folder / archive, args, checkpoint_of(tensors_of(keys_of(archive), only=only)))
    return zipped(folder / archive, folder / f"{archive}.zip")


def small_args(**changes: object) -> dict[str, Any]:
    """Settings of a release whose masker is small."""
    return ARGS["simclr_adios_imagenet100s"] | {"mask_fbase": 8, "N": 2} | changes


def small_state() -> dict[str, Tensor]:
    """Tensors of :func:`small_args`, without heads."""
    from adios_zoo.models.encoder import create_encoder
    from adios_zoo.models.masker import Masker

    encoder = {f"encoder.{k}": v for k, v in create_encoder("resnet18").state_dict().items()}
    masker = Masker(96, 2, 8, "in", 5).state_dict()
    theirs = {
        ("mask_head.0" + k.removeprefix("head") if k.startswith("head") else f"mask_encoder.{k}"): v
        for k, v in masker.items()
    }
    shapes = {k: (list(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in (encoder | theirs).items()}
    return tensors_of(shapes)


def with_foreign_class(module: str, name: str, use: Callable[[Any], None]) -> None:
    """Call ``use`` with a class that pickles as ``module.name``; neither can be imported afterwards."""
    made = [".".join(module.split(".")[: i + 1]) for i in range(module.count(".") + 1)]
    made = [part for part in made if part not in sys.modules]
    for part in made:
        sys.modules[part] = types.ModuleType(part)
    kind = type(name, (), {"__module__": module})
    setattr(sys.modules[module], name, kind)
    try:
        use(kind)
    finally:
        for part in made:
            del sys.modules[part]
