"""A web page that runs encoder and masker in the browser: a static folder that any web server can serve.

::

    index.html, *.js, style.css, icon.svg    the page, as it lies in ``page/``
    runtime/                                 ONNX Runtime for browsers
    model/model.json                         the facts of the card that the page needs
    model/encoder.onnx, model/masker.onnx    the networks
    gallery/features.bin                     (n, D) float32, little-endian: features of the gallery's photographs
    gallery/0001.jpg, ...                    the photographs, small

The page fetches nothing from elsewhere and sends nothing anywhere; its security policy forbids both.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from adios_zoo.errors import ConfigError
from adios_zoo.features.extractor import FeatureExtractor
from adios_zoo.files import explained
from adios_zoo.images.image import ImageRef
from adios_zoo.models.card import ONNX_FOLDER, Card, check_facts
from adios_zoo.models.preprocess import resized_size
from adios_zoo.pictures.draw import slot_colour
from adios_zoo.sources.open import open_images
from adios_zoo.zoo.fetch import locate

from .to_onnx import export
from .web_runtime import web_runtime

NETWORKS = ("encoder", "masker")
MOST_IMAGES = 1000  # of a gallery: every visitor fetches all its features

_THUMBNAIL = 384  # pixels of the longer side


def export_web(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    gallery: str | os.PathLike[str] | None = None,
    runtime: str | os.PathLike[str] | None = None,
) -> Path:
    """Write the page of a model into a folder, whole or not at all.

    Args:
        source: of the model, see :func:`adios_zoo.load_model`; ONNX files that it has are taken, else they are
            made and compared with torch as :func:`adios_zoo.export.to_onnx.export` does.
        folder: absent or empty.
        gallery: a folder, glob, list or file of images, among which the page finds the nearest; they become part of
            the page, small and without metadata.
        runtime: an ``onnxruntime-web`` package, see :func:`adios_zoo.export.web_runtime.web_runtime`.

    Returns:
        The folder.

    Raises:
        ConfigError: the folder is in use, the gallery too large, or the runtime is none.
        BackendError: the runtime cannot be had, or the model cannot be exported.
        DataError: an image cannot be read, or the folder cannot be written.
        IntegrityError: a file of the model is not what its card says.
    """
    out = Path(folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is in use; name a folder that is absent or empty.")
    refs = [] if gallery is None else list(open_images(gallery))
    if len(refs) > MOST_IMAGES:
        raise ConfigError(f"{gallery} has {len(refs)} images; the gallery of a page takes at most {MOST_IMAGES}.")
    card, _ = locate(os.fspath(source))
    if card.masker is None:
        raise ConfigError(f"{card.name} has no masker, which the page would show; choose a model that has one.")
    web = web_runtime(Path(runtime) if runtime is not None else None)
    new = out.with_name(f".{out.name.lstrip('.')}.{secrets.token_hex(4)}.partial")
    try:
        with explained(out), TemporaryDirectory() as scratch:
            _copy_page(new)
            # Not every server knows .mjs for a script, and a browser runs nothing else as one.
            _write_all(new / "runtime", {name.replace(".mjs", ".js"): data for name, data in web.files.items()})
            card, model = _exported(source, Path(scratch))
            graphs = [model / ONNX_FOLDER / f"{name}.onnx" for name in NETWORKS]
            _write_all(new / "model", {path.name: path.read_bytes() for path in graphs})
            facts = {**_facts(card, new), "runtime": web.version, "gallery": _gallery(refs, model, new)}
            (new / "model" / "model.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
            if out.exists():
                out.rmdir()
            new.rename(out)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return out


def _copy_page(folder: Path) -> None:
    page = resources.files("adios_zoo.export") / "page"
    _write_all(folder, {file.name: file.read_bytes() for file in page.iterdir()})


def _write_all(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _exported(source: str | os.PathLike[str], scratch: Path) -> tuple[Card, Path]:
    """The card and folder of the model with its ONNX files, made in ``scratch`` if it has none."""
    card, folder = locate(os.fspath(source))
    names = [f"{ONNX_FOLDER}/{name}.onnx" for name in NETWORKS]
    if not all(name in card.files and (folder / name).is_file() for name in names):
        export(source, scratch)
        return locate(f"local-dir:{scratch}")
    for name in names:
        check_facts(folder / name, card.files[name])
    return card, folder


def _facts(card: Card, new: Path) -> dict[str, Any]:
    """What the page must know of the model."""
    assert card.masker is not None
    return {
        "name": card.name,
        "summary": card.summary,
        "license": card.license,
        "pixels": card.input_size,
        "resize": resized_size(card, 1, 1)[0],
        "squash": card.crop_mode == "squash",
        "interpolation": card.interpolation,
        "mean": card.mean,
        "std": card.std,
        "masker_pixels": card.masker.image_size,
        "slots": card.masker.slots,
        "colours": [slot_colour(slot) for slot in range(card.masker.slots)],
        "networks": {name: (new / "model" / f"{name}.onnx").stat().st_size for name in NETWORKS},
    }


def _gallery(refs: list[ImageRef], model: Path, new: Path) -> list[dict[str, str]]:
    """Write the gallery; the name and the file of each of its photographs."""
    if not refs:
        return []
    features = FeatureExtractor(model, backend="onnx").extract(ref.read() for ref in refs)
    (new / "gallery").mkdir()
    (new / "gallery" / "features.bin").write_bytes(features.astype("<f4").tobytes())
    entries = []
    for number, ref in enumerate(refs, 1):
        small = ref.read()
        small.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
        name = f"gallery/{number:04}.jpg"
        small.save(new / name, quality=85)
        entries.append({"name": Path(ref.id).stem.replace("_", " "), "file": name})
    return entries
