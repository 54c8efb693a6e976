"""How fast the ONNX encoders of a model folder are beside each other.

``python -m adios_zoo.export.speed FOLDER --batch 8 32`` times forward passes of every precision that the folder has, in
turns, so that whatever else the machine does meets all of them alike, and prints medians and their ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch

from adios_zoo.cores import usable_cpus
from adios_zoo.errors import ConfigError
from adios_zoo.features.onnx_backend import make_session
from adios_zoo.models.card import Precision, check_facts, onnx_encoder
from adios_zoo.zoo.fetch import locate

from .compare import photographs


@dataclass(frozen=True)
class Speed:
    """Median images a second of one precision at one batch size, and its ratio to float32's."""

    precision: str
    batch: int
    images_per_second: float
    ratio: float


def measure(source: str, batches: Sequence[int], *, rounds: int, threads: int | None = None) -> list[Speed]:
    """Time the encoders of a folder.

    Args:
        source: of a model with ONNX files.
        batches: sizes.
        rounds: forward passes of each precision at each size.
        threads: of a forward pass; ``None`` is one for each core that this process may use.

    Raises:
        ConfigError: the folder has no ONNX encoder.
        IntegrityError: a file is not the one that its card describes.
    """
    card, folder = locate(source)
    names = {p: onnx_encoder(p) for p in ("fp32", *get_args(Precision)) if onnx_encoder(p) in card.files}
    if "fp32" not in names:
        raise ConfigError(f"{source} has no ONNX encoder; write it with `adios export {source} -o FOLDER`.")
    sessions = {}
    for precision, name in names.items():
        check_facts(folder / name, card.files[name])
        sessions[precision] = make_session(str(folder / name), "cpu", fallback=False, threads=threads or usable_cpus())
    found = []
    for batch in batches:
        x = photographs(batch, (3, card.input_size, card.input_size), torch.float32).numpy()
        taken: dict[str, list[float]] = {precision: [] for precision in sessions}
        for i in range(rounds + 1):
            for precision, session in sessions.items():
                start = time.perf_counter()
                session.run(["features"], {"pixel_values": x})
                if i:  # the first pass takes memory
                    taken[precision].append(time.perf_counter() - start)
        medians = {precision: statistics.median(times) for precision, times in taken.items()}
        found += [Speed(p, batch, batch / m, medians["fp32"] / m) for p, m in medians.items()]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table of :func:`measure`."""
    parser = argparse.ArgumentParser(description="Times the ONNX encoders of a model folder.")
    parser.add_argument("folder")
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int)
    o = parser.parse_args(arguments)
    print("| precision | batch | images/s | ratio to fp32 |\n|---|---|---|---|")
    for s in measure(o.folder, o.batch, rounds=o.rounds, threads=o.threads):
        print(f"| {s.precision} | {s.batch} | {s.images_per_second:.0f} | {s.ratio:.2f} |")


if __name__ == "__main__":
    main()
