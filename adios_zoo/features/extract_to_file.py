"""Features of images into a file: whole or not at all, in shards, and going on where a killed run was."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, replace
from pathlib import Path

from adios_zoo.errors import ConfigError, DataError, DiskFullError
from adios_zoo.features.extractor import Engine, all_failed, metadata_of
from adios_zoo.features.journal import Failure, Journal, unfinished_file
from adios_zoo.features.read_file import open_features
from adios_zoo.features.write_file import Features, check_suffix, csv_lines, open_writer
from adios_zoo.files import only_writer, replacing
from adios_zoo.images.image import ImageRef
from adios_zoo.sources.open import Images, open_images
from adios_zoo.sources.source import Source, Span, Stream
from adios_zoo.telling import on_terminal, progress_bar, tell


@dataclass(frozen=True)
class ExtractionReport:
    """What a run wrote: ``rows`` features of ``dim`` numbers in ``seconds``, and what it had to leave out.

    ``finished_before``: nothing was left to do, and the rows are those that were there.
    """

    rows: int
    dim: int
    failures: tuple[Failure, ...]
    seconds: float
    skip_bad: bool = False
    finished_before: bool = False

    @property
    def exit_code(self) -> int:
        """1 when an image failed and that was not allowed, else 0."""
        return 1 if self.failures and not self.skip_bad else 0


def extract_to_file(
    source_images: Images,
    output: Path,
    *,
    extractor: Engine,
    progress: bool = True,
    skip_bad: bool = False,
    resume: bool = False,
    force: bool = False,
    shard: str | None = None,
) -> ExtractionReport:
    """Write features to ``output`` (.parquet, .npy, .safetensors or .csv), one row for each image that can be read.

    Each one that cannot is named on stderr and in ``<output>.failed.csv`` (path, reason); when all could be
    read there is no such file.  ``skip_bad`` changes only the report's ``exit_code``.  ``progress`` shows a
    bar with images/s on stderr.

    A parquet file of images with labels (class folders, say) has them too, where they can be reached by number.

    Until ``output`` is complete its rows are kept in ``<output>.unfinished``.  ``resume`` goes on with what such
    a file holds, if there is one; the rows are those of an unbroken run.  Where ``output`` is finished already,
    ``resume`` does nothing, and the report has the rows of the file and is marked ``finished_before``.  ``force``
    begins anew, over a finished file or an unfinished run, which are else left alone.

    ``shard`` "i/n" takes the i-th, from 0, of n runs of neighbouring images, of nearly the same length: the
    outputs of all shards, one after the other, are the output of the whole.

    Raises DataError, and leaves ``output`` as it was, when no image can be read or the file not be written,
    also while another run writes it.  ConfigError for another suffix or shard, an unfinished run without ``resume``,
    one of other settings or model, or an ``output`` that is there already without ``resume`` or ``force``.
    """
    start = time.perf_counter()
    images = open_images(source_images)
    check_suffix(output)
    if resume and isinstance(images, Iterator):
        raise ConfigError("images that come one by one cannot be resumed; give a list or a SOURCE.")
    with only_writer(output):
        if not check_not_finished(output, resume=resume, force=force):
            return _finished_before(output, extractor)
        if force:
            unfinished_file(output).unlink(missing_ok=True)
        report = _extract(images, output, extractor, progress=progress, resume=resume, shard=shard)
    return replace(report, seconds=time.perf_counter() - start, skip_bad=skip_bad)


def check_not_finished(output: Path, *, resume: bool, force: bool) -> bool:
    """Whether there is something to do: False where ``resume`` finds ``output`` finished.

    Raises:
        ConfigError: ``output`` is there and nothing allows to write over it, or both options are given.
    """
    if resume and force:
        raise ConfigError("--resume goes on and --force begins anew; give one of them.")
    if force or not output.is_file() or unfinished_file(output).exists():
        return True
    if resume:
        return False
    raise ConfigError(f"{output} is there already; add --force to write it anew, or name another file with -o.")


def _extract(
    images: Iterable[ImageRef], output: Path, extractor: Engine, *, progress: bool, resume: bool, shard: str | None
) -> ExtractionReport:
    # Images in an iterator cannot be known before they come.
    identity = images.fingerprint() if isinstance(images, Stream) else ""
    depends = {**extractor.settings, "images": identity, "shard": shard or "0/1"}
    if shard is not None:
        images = _shard(images, shard)
    with Journal(output, depends, resume=resume) as journal:
        try:
            _go_on(images, journal, extractor, progress)
            return _finish(output, journal, extractor, images)
        except DiskFullError as error:
            if not journal.path.exists():
                raise
            raise DataError(f"{output}: the disk is full; free some space, then go on with --resume.") from error


def _finished_before(output: Path, extractor: Engine) -> ExtractionReport:
    """Report the file that is there, if this model made it, as far as its format says."""
    file = open_features(output)
    now = metadata_of(extractor)
    for name in sorted(now.keys() & file.metadata.keys() - {"adios.model"}):  # a path may have another form
        if file.metadata[name] != now[name]:
            raise ConfigError(
                f"{output} is finished, with another {name.removeprefix('adios.')} ({file.metadata[name]}, not "
                f"{now[name]}); add --force instead of --resume to write it anew, or name another file with -o."
            )
    return ExtractionReport(len(file), file.dim, (), 0.0, finished_before=True)


def _go_on(images: Iterable[ImageRef], journal: Journal, extractor: Engine, progress: bool) -> None:
    """Bring the journal to the end of the images."""
    total = len(images) if isinstance(images, Sized) else None
    # In a log each refresh is a line of its own, so a few must do.
    often = 0.1 if on_terminal() else 10.0
    told = 0
    with progress_bar(total=total, initial=journal.position, unit=" images", show=progress, mininterval=often) as bar:

        def keep(ids: list[str], features: Features | None) -> None:
            nonlocal told
            new = stream.failures[told:]
            told += len(new)
            for failure in new:
                tell(f"{failure.id}: {failure.reason}")
            journal.add(ids, features, new)
            bar.update(journal.position - bar.n)

        stream = extractor._run(_rest(images, journal.position), True)
        for ids, features in stream:
            keep(ids, features)
        keep([], None)


def _finish(output: Path, journal: Journal, extractor: Engine, images: Iterable[ImageRef]) -> ExtractionReport:
    """Write the journal's rows and failures where they belong."""
    failures = [failure for _, _, some in journal.frames() for failure in some]
    dim = 0
    if journal.rows:
        classes = _classes(images)
        refs = _by_number(images) if isinstance(images, Source) and classes is not None else None
        with open_writer(output, metadata_of(extractor), classes=classes) as writer:
            for ids, features, _ in journal.frames():
                if ids:  # a frame may hold failures alone
                    labels = [next(ref.label for ref in refs if ref.id == id) for id in ids] if refs else []
                    writer.write(ids, features, labels)
            dim = writer.dim
    _write_failures(output.with_name(f"{output.name}.failed.csv"), failures)
    journal.remove()
    if not journal.rows:
        raise all_failed(failures)
    return ExtractionReport(journal.rows, dim, tuple(failures), 0.0)


def _classes(images: Iterable[ImageRef]) -> tuple[str, ...] | None:
    """The names of the images' classes, if they have labels that can be looked up again at no cost."""
    if not isinstance(images, Source) or all(images[i].label < 0 for i in range(len(images))):
        return None
    return images.classes


def _by_number(images: Source) -> Iterator[ImageRef]:
    """Refer to all images; unlike in reading them in passing, none is read."""
    return (images[i] for i in range(len(images)))


def _shard(images: Iterable[ImageRef], shard: str) -> Source:
    number, slash, count = shard.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise ConfigError(f"shard is {shard!r}; give i/n, such as 0/4, 1/4, 2/4 and 3/4 for the parts of a whole.")
    if not isinstance(images, Source):
        raise ConfigError("a stream has no length and so no shards; give images that can be counted.")
    length, i, n = len(images), int(number), int(count)
    return Span(images, i * length // n, (i + 1) * length // n)


def _rest(images: Iterable[ImageRef], position: int) -> Iterable[ImageRef]:
    """Return the images from ``position`` on."""
    if not position:
        return images
    if isinstance(images, Source):
        return Span(images, position, len(images))
    assert isinstance(images, Stream)  # others are not resumed
    return images.iterate(position)


def _write_failures(path: Path, failures: list[Failure]) -> None:
    if not failures:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as file:
        file.write(csv_lines([["path", "reason"], *failures]))
