"""Opening what ``adios extract`` wrote: a feature file, or the shards of one extraction in a folder."""

from __future__ import annotations

import glob
from pathlib import Path

import numpy as np

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.features.feature_file import FeatureFile
from adios_zoo.features.feature_formats import (
    CsvFeatureFile,
    NpyFeatureFile,
    ParquetFeatureFile,
    SafetensorsFeatureFile,
)
from adios_zoo.features.write_file import Features
from adios_zoo.images.image import PathLike

_KINDS: dict[str, type[FeatureFile]] = {
    ".parquet": ParquetFeatureFile,
    ".npy": NpyFeatureFile,
    ".safetensors": SafetensorsFeatureFile,
    ".csv": CsvFeatureFile,
}


def open_features(path: PathLike, *, cache_bytes: int = 256 << 20) -> FeatureFile:
    """Open what ``adios extract`` wrote: a file (parquet, npy, safetensors, csv), or a folder or glob of .parquet.

    ``cache_bytes`` bounds the groups that :meth:`FeatureFile.take` keeps; the last one read is always kept.

    Raises ConfigError for another suffix, DataError for a file that is missing or not of this form.
    """
    path = Path(path)
    if path.is_dir() or (glob.has_magic(str(path)) and not path.exists()):
        pattern = str(Path(glob.escape(str(path))) / "*.parquet") if path.is_dir() else str(path)
        files = sorted(Path(name) for name in glob.iglob(pattern, recursive=True))  # noqa: PTH207 (takes no absolute pattern)
        if not files or any(file.suffix.lower() != ".parquet" for file in files):
            raise DataError(f"{path}: no .parquet files, or not only such; several files are read only as parquet.")
        return ParquetFeatureFile(path, cache_bytes, files)
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(
            f"{path}: cannot tell the format; features are read from {', '.join(_KINDS)} files or a folder of .parquet."
        )
    return kind(path, cache_bytes)


def read_features(path: PathLike) -> tuple[list[str], Features]:
    """Read all ids (n) and features (n, D) of what :func:`open_features` opens; its errors are that one's."""
    file = open_features(path)
    return list(file.ids()), np.concatenate(list(file.features()))
