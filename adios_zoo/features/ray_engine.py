"""Features by Ray Data: actors over the machines of a cluster, each with the encoder loaded once.

:class:`RayExtractor` stands in for a :class:`~adios_zoo.features.extractor.FeatureExtractor` in
``adios extract --engine ray``: it is given images and gives back the same rows in the same order, so that whatever
writes, names failures, shards and resumes does so for both.
:class:`FeatureActor` is the callable for Ray data sets of one's own.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adios_zoo import errors
from adios_zoo.errors import AdiosError, BackendError, ConfigError, DataError
from adios_zoo.features.extractor import FeatureExtractor, metadata_of
from adios_zoo.features.feature_stream import Batch, FeatureStream
from adios_zoo.features.journal import Failure
from adios_zoo.features.write_file import Features
from adios_zoo.images.image import ImageError, ImageRef, encoded_ref, file_ref, pixels_ref
from adios_zoo.sources.source import Source
from adios_zoo.zoo.fetch import locate
from adios_zoo.zoo.registry import DEFAULT_MODEL

if TYPE_CHECKING:
    import pyarrow as pa

_PIECE = 1024  # images that an actor is given at a time: some batches, so that decoding and encoding overlap
_CPUS_AN_ACTOR = 4


class FeatureActor:
    """A callable class for ``map_batches`` of a Ray data set: it appends features to tables of images.

    ::

        images = ray.data.read_binary_files("photos/", include_paths=True)  # columns bytes, path
        rows = images.map_batches(
            FeatureActor, batch_format="pyarrow", batch_size=1024, concurrency=4, num_gpus=1,
            fn_constructor_kwargs={"model": "resnet18_tin200", "column": "bytes"},
        )
        rows.write_parquet("features/")

    Every actor loads the encoder once.  Its tables lose the column of images, unless that holds paths, and gain
    ``feature`` (D float32; NaN where an image cannot be read) and ``reason`` (why, else null).

    Args:
        model: what ``load_model`` takes.
        column: which column has the images: paths (strings), contents of image files (binary), or pixels.
        on_error: ``nan``, or ``raise``, which ends the job with the first image that cannot be read.
        settings: of :class:`~adios_zoo.features.extractor.FeatureExtractor`: backend, device, precision, batch_size,
            num_workers.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        column: str = "path",
        on_error: str = "nan",
        **settings: Any,
    ) -> None:
        if on_error not in ("raise", "nan"):
            raise ConfigError(f"on_error is {on_error!r}; give 'raise' or 'nan'.")
        self.column = column
        self.on_error = on_error
        self.extractor = FeatureExtractor(model, **settings)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One table of images in, one of features out, row by row."""
        import pyarrow as pa

        if self.column not in batch.column_names:
            raise DataError(
                f"The batch has no column {self.column!r}; its columns are {', '.join(batch.column_names)}."
            )
        refs = [_ref(number, value) for number, value in enumerate(_values(batch.column(self.column)))]
        features, reasons = self.extractor.rows(refs)
        if reasons and self.on_error == "raise":
            number, reason = next(iter(reasons.items()))
            raise DataError(f"{refs[number].id}: {reason}.")
        if not pa.types.is_string(batch.schema.field(self.column).type):
            batch = batch.drop_columns([self.column])
        batch = batch.append_column("feature", _feature_array(features))
        batch = batch.replace_schema_metadata({**(batch.schema.metadata or {}), **metadata_of(self.extractor)})
        return batch.append_column("reason", pa.array(map(reasons.get, range(len(refs))), pa.string()))


class RayExtractor:
    """Stands in for a FeatureExtractor: the images are read and encoded by the actors of a Ray cluster.

    Ray is started on this machine unless it is running, or ``RAY_ADDRESS`` names a cluster.  There, images, model and
    this package must be found under the same paths on every machine.

    Args:
        source: what ``load_model`` takes, not a loaded model.
        actors: how many; "auto" is one for each GPU of the cluster, or one for four cores where it has none.
        settings: of :class:`~adios_zoo.features.extractor.FeatureExtractor`, for each actor.  ``num_workers``, decoding
            threads, is also the number of cores that Ray sets aside for an actor; "auto" is up to four.

    Raises BackendError where Ray is missing, and what the model's source raises.
    """

    def __init__(
        self, source: str | os.PathLike[str] = DEFAULT_MODEL, *, actors: int | str = "auto", **settings: Any
    ) -> None:
        _ray()
        if actors != "auto" and (not isinstance(actors, int) or actors < 1):
            raise ConfigError(f"actors is {actors!r}; give 'auto' or a whole number from 1 up.")
        self.source = os.fspath(source)
        self._card = locate(self.source)[0]
        self.name = self._card.name
        self.actors = actors
        self._settings = settings

    @property
    def settings(self) -> dict[str, str]:
        """What a row depends on besides its image, by name."""
        return {
            "engine": "ray",
            "model": self.name,
            "weights": sha256(repr(sorted(self._card.files.items())).encode()).hexdigest(),
            "backend": str(self._settings.get("backend", "torch")),
            "precision": str(self._settings.get("precision", "fp32")),
            "batch size": str(self._settings.get("batch_size", "auto")),
        }

    def _run(self, refs: Iterable[ImageRef], skip_bad: bool) -> FeatureStream:
        """The rows of these images, and what failed."""
        return FeatureStream(lambda failures: self._encoded(refs, skip_bad, failures))

    def _encoded(
        self, refs: Iterable[ImageRef], skip_bad: bool, failures: list[Failure]
    ) -> Generator[Batch, None, None]:
        if not isinstance(refs, Source):
            raise DataError("Ray's actors take images by number, and this source is a stream; use the local engine.")
        with _running() as ray:
            for table in self._tables(ray, refs):
                for mistake in table.column("mistake").drop_null().to_pylist():
                    kind, _, text = mistake.partition(":")
                    raise getattr(errors, kind)(text)
                ids, reasons = table.column("path").to_pylist(), table.column("reason").to_pylist()
                for id, reason in zip(ids, reasons, strict=True):
                    if reason is not None:
                        if not skip_bad:
                            raise ImageError(id, reason)
                        failures.append(Failure(id, reason))
                good = [i for i, reason in enumerate(reasons) if reason is None]
                if good:
                    yield [ids[i] for i in good], _feature_rows(table)[good]

    def _tables(self, ray: Any, refs: Source) -> Iterator[pa.Table]:
        """Tables of path, feature, reason and mistake, in order."""
        resources = ray.cluster_resources()
        gpus = 0.0 if self._settings.get("device") == "cpu" else resources.get("GPU", 0.0)
        cpus = int(resources.get("CPU", 1))
        largest = int(max(node["Resources"].get("CPU", 1) for node in ray.nodes() if node["Alive"]))
        actors = int(gpus) or max(1, cpus // _CPUS_AN_ACTOR) if self.actors == "auto" else int(self.actors)
        threads = self._settings.get("num_workers", "auto")
        if threads == "auto":
            threads = max(1, min(_CPUS_AN_ACTOR, largest, cpus // actors))
        size = _piece(len(refs), actors, self._settings.get("batch_size", "auto"), on_gpu=bool(gpus))
        starts = range(0, len(refs), size)
        pieces = ray.data.from_items(
            [{"start": start, "stop": min(start + size, len(refs))} for start in starts],
            override_num_blocks=len(starts),
        )
        pieces.context.execution_options.preserve_order = True
        pieces.context.enable_progress_bars = False  # there is one already
        environment = {name: value for name, value in os.environ.items() if name.startswith("ADIOS_")}
        rows = pieces.map_batches(
            _PieceActor,
            batch_size=1,
            batch_format="pyarrow",
            fn_constructor_args=(refs, str(Path.cwd()), self.source, {**self._settings, "num_workers": threads}),
            compute=ray.data.ActorPoolStrategy(size=min(actors, len(starts))),
            num_cpus=max(1, min(int(threads), largest)),  # Ray would wait for ever for a larger machine
            num_gpus=min(1.0, gpus / actors),
            runtime_env={"env_vars": environment} if environment else None,
        )
        yield from rows.iter_batches(batch_size=None, batch_format="pyarrow")


class _PieceActor:
    """Reads and encodes images by their numbers.  A mistake goes back as a row: Ray would wrap the exception."""

    def __init__(self, images: Source, folder: str, source: str, settings: dict[str, Any]) -> None:
        self.images = images
        self.mistake: str | None = None
        try:
            if not Path(folder).is_dir():
                raise DataError(f"{folder}: no such folder on {platform.node()}; Ray needs the same paths everywhere.")
            os.chdir(folder)  # which relative paths are relative to; an actor is a process of its own
            self.extractor = FeatureExtractor(source, **settings)
        except AdiosError as error:
            self.mistake = _mistake(error)

    def __call__(self, piece: pa.Table) -> pa.Table:
        """The rows of one piece (start, stop)."""
        if self.mistake is not None:
            return _table([""], np.zeros((1, 1), np.float32), {}, self.mistake)
        (start,), (stop,) = piece.column("start").to_pylist(), piece.column("stop").to_pylist()
        try:
            refs = list(self.images.iterate(start, stop))
            features, reasons = self.extractor.rows(refs)
        except AdiosError as error:
            return _table([""], np.zeros((1, 1), np.float32), {}, _mistake(error))
        return _table([ref.id for ref in refs], features, reasons)


def _mistake(error: AdiosError) -> str:
    kind = next(cls.__name__ for cls in type(error).__mro__ if cls.__module__ == errors.__name__)
    return f"{kind}:{error}"


def _piece(images: int, actors: int, batch_size: int | str, *, on_gpu: bool) -> int:
    """Images of a piece: whole batches, so that these are the local engine's, and some pieces for every actor."""
    batch = batch_size if isinstance(batch_size, int) else 256 if on_gpu else 32
    fair = images / (4 * actors)
    return batch * max(1, round(min(_PIECE, fair) / batch))


def _table(ids: list[str], features: Features, reasons: dict[int, str], mistake: str | None = None) -> pa.Table:
    import pyarrow as pa

    columns = {
        "path": pa.array(ids, pa.string()),
        "feature": _feature_array(features),
        "reason": pa.array([reasons.get(row) for row in range(len(ids))], pa.string()),
        "mistake": pa.array([mistake] * len(ids), pa.string()),
    }
    return pa.table(columns)


def _feature_array(features: Features) -> pa.FixedSizeListArray:
    """A column as feature files have it."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])


def _feature_rows(table: pa.Table) -> Features:
    column = table.column("feature").combine_chunks()
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(len(table), -1)


def _values(column: pa.ChunkedArray) -> Iterator[Any]:
    """The images of a column: strings, bytes or pixels."""
    import pyarrow as pa

    if isinstance(column.type, pa.FixedShapeTensorType):
        return (image for chunk in column.chunks for image in chunk.to_numpy_ndarray())
    if isinstance(column.type, pa.ExtensionType):  # Ray's own tensors
        return (image for chunk in column.chunks for image in chunk.to_numpy(zero_copy_only=False))
    return iter(column.to_pylist())


def _ref(number: int, value: Any) -> ImageRef:
    if isinstance(value, str):
        return file_ref(value)
    if value is None or isinstance(value, bytes):
        return encoded_ref(f"#{number}", value)
    return pixels_ref(f"#{number}", value)


@contextmanager
def _running() -> Iterator[Any]:
    """Ray, started if it is not running yet, and then shut down at the end."""
    ray = _ray()
    started = not ray.is_initialized()
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # its execution plans are no news to a user
    if started:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield ray
    finally:
        if started:
            ray.shutdown()


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told of a run
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its processes report to the terminal of the run
    try:
        import ray.data
    except ImportError as error:
        raise BackendError('The engine ray needs Ray Data: pip install "adios-zoo[ray]".') from error
    return ray
