"""Nearest neighbours by cosine similarity in a feature file, exactly, and in bounded memory.

A question asked once must read the whole file in any case, and an approximate index (HNSW, inverted lists) takes far
longer to build than the file to scan.  So each group of rows is searched by scikit-learn's brute force, and the best of
all groups are kept: exact, nothing to build, and no dependency that the package does not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adios_zoo.errors import ConfigError, DataError, UnknownModelError
from adios_zoo.features.feature_file import FeatureFile
from adios_zoo.features.journal import Failure
from adios_zoo.features.read_file import open_features
from adios_zoo.features.write_file import Features
from adios_zoo.images.image import ImageRef, file_ref
from adios_zoo.sources.open import open_images

_SAME_MODEL = 0.95  # cosine of two features of one image: other precisions stay above, other weights do not


@dataclass(frozen=True)
class Answer:
    """A query with its nearest rows of the file: their ids and cosine similarities, the nearest first."""

    query: str
    neighbours: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Query:
    """What is looked for: an image, or a row of the file, which is then no neighbour of its own."""

    id: str
    row: int | None
    image: ImageRef | None = None


def find_neighbours(
    queries: Sequence[str],
    path: str | Path,
    *,
    k: int = 5,
    model: str | None = None,
    backend: str = "torch",
    device: str = "auto",
) -> tuple[list[Answer], list[Failure]]:
    """Answer each query with its ``k`` nearest rows of the feature file ``path``; list the images that failed.

    A query is the id of a row, or else what ``adios extract`` takes: image files, folders, globs, ``.txt`` lists.
    Images are encoded by the model that made the file, which a parquet file names; ``model`` names it for other
    files, or where it lies elsewhere by now.  No model is loaded for ids alone.

    Raises ConfigError where the model is not the one of the file, or none is known; DataError for a query that is
    neither a row nor an image.
    """
    if k < 1:
        raise ConfigError(f"k is {k}; give a whole number from 1 up.")
    file = open_features(path)
    _check_model(file, model)
    asked = _queries(file, queries)
    features = np.empty((len(asked), file.dim), np.float32)
    known = [i for i, query in enumerate(asked) if query.row is not None]
    features[known] = file.take([row for query in asked if (row := query.row) is not None])
    images = {i: query.image for i, query in enumerate(asked) if query.image is not None}
    failed = {
        i: Failure(asked[i].id, f"its row in {file.path} has no feature")
        for i in known
        if not np.isfinite(features[i]).all()
    }
    if images:
        rows, reasons = _encoded(file, list(images.values()), model, backend, device)
        features[list(images)] = rows
        failed |= {i: Failure(asked[i].id, reasons[j]) for j, i in enumerate(images) if j in reasons}
    good = [i for i in range(len(asked)) if i not in failed]
    found = nearest(file.features(), features[good], k, own=[asked[i].row for i in good]) if good else []
    ids = iter(file.take_ids([row for answer in found for row, _ in answer]))
    answers = [
        Answer(asked[i].id, tuple((next(ids), cosine) for _, cosine in answer))
        for i, answer in zip(good, found, strict=True)
    ]
    return answers, list(failed.values())


def nearest(
    groups: Iterable[Features], queries: Features, k: int, *, own: Sequence[int | None] = ()
) -> list[list[tuple[int, float]]]:
    """For each query (q, D) the ``k`` rows of highest cosine similarity, as (row, cosine), the highest first.

    The rows are those of all ``groups`` (rows, D), counted on; ``own`` names for each query a row that is left out.
    Of rows alike the earlier comes first.  A feature of zeros has similarity zero to all, and a
    row with numbers that are not finite is nobody's neighbour.
    """
    from sklearn.neighbors import NearestNeighbors

    own = own or [None] * len(queries)
    best_rows: NDArray[np.int64] = np.empty((len(queries), 0), np.int64)
    best: NDArray[np.float64] = np.empty((len(queries), 0), np.float64)
    start = 0
    for group in groups:
        whole = np.flatnonzero(np.isfinite(group).all(axis=1))
        count = min(k + 1, len(whole))  # one more, for the query's own row
        start += len(group)
        if not count:
            continue
        search = NearestNeighbors(n_neighbors=count, algorithm="brute", metric="cosine").fit(group[whole])
        distances, rows = search.kneighbors(queries)
        best_rows = np.hstack([best_rows, whole[rows] + start - len(group)])
        best = np.hstack([best, 1 - distances])
        order = np.lexsort((best_rows, -best), axis=1)[:, : k + 1]
        best_rows, best = np.take_along_axis(best_rows, order, 1), np.take_along_axis(best, order, 1)
    answers = [
        [(row, cosine) for row, cosine in zip(rows, cosines, strict=True) if row != mine]
        for rows, cosines, mine in zip(best_rows.tolist(), best.tolist(), own, strict=True)
    ]
    return [answer[:k] for answer in answers]


def table(answers: Sequence[Answer]) -> str:
    """The answers as text: a line for each query, and below it one for each neighbour."""
    lines = []
    for answer in answers:
        lines.append(answer.query)
        lines += [f"  {rank:>3}  {cosine:6.3f}  {id}" for rank, (id, cosine) in enumerate(answer.neighbours, 1)]
    return "\n".join(lines)


def _queries(file: FeatureFile, queries: Sequence[str]) -> list[Query]:
    rows = file.rows_of(queries)
    asked: list[Query] = []
    for text in queries:
        if text in rows:
            asked.append(Query(text, rows[text]))
            continue
        try:
            refs = list(open_images(text))
        except DataError as error:
            raise DataError(f"{text} is no id in {file.path}, and no image: {error}") from error
        inside = file.rows_of(ref.id for ref in refs)
        asked += [Query(ref.id, inside[ref.id]) if ref.id in inside else Query(ref.id, None, ref) for ref in refs]
    return asked


def _check_model(file: FeatureFile, model: str | None) -> None:
    """Refuse a model that is not the file's."""
    from adios_zoo.zoo.fetch import locate

    made_by = file.metadata.get("adios.card")
    if model is None or made_by is None:
        return
    name = locate(model)[0].name
    if name != made_by:
        raise ConfigError(
            f"{file.path} holds features of {made_by}, not of {name}; leave --model out, or extract anew with it."
        )


def _encoded(
    file: FeatureFile, images: Sequence[ImageRef], model: str | None, backend: str, device: str
) -> tuple[Features, dict[int, str]]:
    """Features of images by the model of the file."""
    from adios_zoo.features.extractor import FeatureExtractor

    source = model or file.metadata.get("adios.model")
    if source is None:
        raise ConfigError(f"{file.path} does not say which model made it; name that with --model.")
    try:
        extractor = FeatureExtractor(source, backend=backend, device=device)
    except UnknownModelError as error:
        raise ConfigError(
            f"{file.path} was made by {source}, which is not here ({error}); say where with --model."
        ) from error
    made_by = file.metadata.get("adios.card", extractor.name)
    if (extractor.name, extractor.dim) != (made_by, file.dim):
        raise ConfigError(
            f"{file.path} holds {file.dim} features of {made_by}, and {source} is {extractor.name} with "
            f"{extractor.dim}; name the model that made the file with --model."
        )
    first = next(file.ids())
    rows, reasons = extractor.rows([*images, file_ref(first)])
    # Models trained anew keep their name and size; where the first image is still there, it tells them apart.
    if len(images) not in reasons and _cosine(rows[-1], file.take([0])[0]) < _SAME_MODEL:
        raise ConfigError(
            f"{file.path} holds another feature of {first} than {source} gives it: name the model that made the file "
            "with --model, or extract anew if the model or the image has changed."
        )
    return rows[:-1], reasons


def _cosine(a: Features, b: Features) -> float:
    return float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30)
