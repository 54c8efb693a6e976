"""Cuts the golden numbers of this folder from the whole ones: ``python tests/golden/cut.py REFERENCE_FOLDER``.

The whole files hold eight method files and twelve U-Nets, 29 MB. What is kept of them, under 4 MB:

* ``byol_adios``: three steps and the states after them. ``simclr_adios_s`` and ``simsiam_adios_nomask_both``: the
  first batch, with masks, losses, gradients and the first step of both traces; the states after three steps need
  three batches, so they are left out. Together these have every method and both uses of the masks; what
  none of them has (SimSiam's symmetric terms, one mask for two views) is compared with the plain game.
* ``unet``: instance norm with 5 blocks and no norm with 6, on one image each; group norm with 4 blocks is in the
  method files.
* ``segmentation``: without the predicted labels, which are the argmax of the masks beside them; the true ones as
  one byte each.
* everything else as it is, ``schedules.json`` without its white space.

What the tests compute with (images, labels, initial weights, prescribed gradients) is whole. Of a tensor that they
compare with, if it has more than ``WHOLE`` values, every n-th value of the flattened tensor is kept; ``strides`` in
the file's header has the n, and the test takes the same values of what it computed. ``cut_from`` in the header is
the SHA-256 of the whole file, ``left_out`` names the groups of tensors that are gone. Running this again gives the
same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

WHOLE = 512
METHODS = {"byol_adios": 3, "simclr_adios_s": 1, "simsiam_adios_nomask_both": 1}  # steps kept
UNETS = [{"img_size": 64, "num_blocks": 5, "norms": ["in"]}, {"img_size": 64, "num_blocks": 6, "norms": ["no"]}]
AS_THEY_ARE = ["knn.json", "knn.safetensors", "lars.safetensors", "recipes.json", "segmentation.json"]

Header = dict[str, Any]
Tensors = dict[str, Tensor]


def cut_method(header: Header, tensors: Tensors, steps: int) -> tuple[Header, Tensors]:
    kept = dict(tensors)
    if steps < header["steps"]:
        header = {**header, "steps": steps, "left_out": ["final", "final_peak"]}
        kept = {name: t for name, t in kept.items() if not name.startswith(("final.", "final_peak."))}
        for name, t in kept.items():
            if name in ("x1", "x2", "labels", "mask_index") or name.startswith("trace"):
                kept[name] = t[:steps]
    return thinned(header, kept, [n for n in kept if n.startswith(("grad_", "masks_", "final"))])


def cut_unet(header: Header, tensors: Tensors) -> tuple[Header, Tensors]:
    kept = {}
    for case in UNETS:
        size = f"{case['img_size']}_{case['num_blocks']}"
        kept[f"{size}.input"] = tensors[f"{size}.input"][:1]
        for norm in case["norms"]:
            prefix = f"{norm}_{size}."
            kept |= {name: t for name, t in tensors.items() if name.startswith(prefix)}
            kept[f"{prefix}masks"] = tensors[f"{prefix}masks"][:1]
    return thinned({**header, "configurations": UNETS}, kept, [n for n in kept if n.endswith(".masks")])


def cut_segmentation(header: Header, tensors: Tensors) -> tuple[Header, Tensors]:
    kept = {name: t for name, t in tensors.items() if not name.endswith(".pred_labels")}
    return header, kept | {"gt_labels": kept["gt_labels"].to(torch.uint8)}


def thinned(header: Header, tensors: Tensors, names: list[str]) -> tuple[Header, Tensors]:
    """Of the large ones among the tensors ``names``, every n-th value."""
    strides = {name: stride_of(tensors[name]) for name in names if tensors[name].numel() > WHOLE}
    thin = {name: tensors[name].flatten()[::n] for name, n in strides.items()}
    return {**header, "strides": strides}, tensors | thin


def stride_of(tensor: Tensor) -> int:
    """Prime to the number of values, so that it meets every row, column and channel instead of the same few."""
    n = tensor.numel() // WHOLE
    while math.gcd(n, tensor.numel()) > 1:
        n += 1
    return n


def cut(source: Path) -> bytes:
    """The bytes of the cut file of the whole safetensors file ``source``."""
    with safe_open(source, "pt") as file:
        header = {name: json.loads(value) for name, value in file.metadata().items()}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if source.stem in METHODS:
        header, tensors = cut_method(header, tensors, METHODS[source.stem])
    elif source.stem == "unet":
        header, tensors = cut_unet(header, tensors)
    else:
        header, tensors = cut_segmentation(header, tensors)
    header["cut_from"] = hashlib.sha256(source.read_bytes()).hexdigest()
    return packed(header, tensors)


def packed(header: Header, tensors: Tensors) -> bytes:
    """A safetensors file with its header in alphabetical order: the library writes the metadata in a random one."""
    written = save(
        {name: t.contiguous() for name, t in tensors.items()},
        {name: json.dumps(value, sort_keys=True) for name, value in header.items()},
    )
    size = int.from_bytes(written[:8], "little")
    first = json.dumps(json.loads(written[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    first += b" " * (-len(first) % 8)  # the tensors begin at a multiple of eight
    return len(first).to_bytes(8, "little") + first + written[8 + size :]


def main(reference: Path) -> None:
    here = Path(__file__).parent
    for name in [*METHODS, "unet", "segmentation"]:
        (here / f"{name}.safetensors").write_bytes(cut(reference / f"{name}.safetensors"))
    schedules = json.loads((reference / "schedules.json").read_text())
    (here / "schedules.json").write_text(json.dumps(schedules, separators=(",", ":")) + "\n")
    (here / "official_keys").mkdir(exist_ok=True)
    keys = sorted(path.relative_to(reference) for path in (reference / "official_keys").glob("*.json"))
    for path in [*map(Path, AS_THEY_ARE), *keys]:
        shutil.copyfile(reference / path, here / path)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
