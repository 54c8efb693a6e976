"""One extractor, or transformer, in several threads: what fails is told to the call that was given it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from adios_zoo import FeatureExtractor, FeatureTransformer
from adios_zoo.errors import DataError
from adios_zoo.features.journal import Failure
from tests.small_models import exported_model
from tests.tiny import small_images

SECONDS = 60  # that a test waits for another thread before it gives up


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_model(tmp_path_factory.mktemp("threads") / "model")


@pytest.fixture
def good(tmp_path: Path) -> list[str]:
    return sorted(map(str, small_images(tmp_path / "good").iterdir()))


@pytest.fixture
def bad(tmp_path: Path, good: list[str]) -> list[str]:
    """One picture and three files that are none."""
    names = [str(tmp_path / f"{i}.jpg") for i in range(3)]
    for name in names:
        Path(name).write_text("no picture")
    return [good[0], *names]


@contextmanager
def meanwhile(extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch) -> Iterator[Event]:
    """Within, the first batch waits until the block ends; the event says that it is there."""
    encode, begun, ended = extractor.backend.encode, Event(), Event()

    def waits(pixels: object) -> object:
        if not begun.is_set():
            begun.set()
            assert ended.wait(SECONDS)
        return encode(pixels)

    with monkeypatch.context() as patch:
        patch.setattr(extractor.backend, "encode", waits)
        try:
            yield begun
        finally:
            ended.set()


@pytest.mark.parametrize("backend", ["torch", "onnx"])
@pytest.mark.parametrize("workers", [0, 2])
def test_failures_belong_to_the_call(
    model: Path, good: list[str], bad: list[str], backend: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = FeatureExtractor(model, backend=backend, device="cpu", batch_size=4, num_workers=workers)
    expected = extractor.extract(good)
    own: list[Failure] = []
    others: list[Failure] = []
    with ThreadPoolExecutor(1) as pool:
        with meanwhile(extractor, monkeypatch) as begun:
            slow = pool.submit(extractor.extract, good, skip_bad=True, failures=own)
            assert begun.wait(SECONDS)
            assert len(extractor.extract(bad, skip_bad=True, failures=others)) == 1
        np.testing.assert_allclose(slow.result(SECONDS), expected, rtol=1e-5, atol=1e-6)
    assert own == []
    assert [failure.id for failure in others] == bad[1:]

    # Two at once in one thread are as good as two threads.
    first, second = extractor.stream(good, skip_bad=True), extractor.stream(bad, skip_bad=True)
    next(first), list(second), list(first)
    assert first.failures == []
    assert second.failures == others


@pytest.mark.parametrize("backend", ["torch", "onnx"])
@pytest.mark.parametrize("on_error", ["raise", "nan"])
def test_nobody_is_blamed_for_anothers_file(
    model: Path, good: list[str], bad: list[str], backend: str, on_error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformer = FeatureTransformer(model, backend=backend, device="cpu", on_error=on_error).fit(good)
    expected = transformer.transform(good)
    with warnings.catch_warnings(record=True) as told, ThreadPoolExecutor(1) as pool:
        warnings.simplefilter("always")
        with meanwhile(transformer._extractor(), monkeypatch) as begun:
            slow = pool.submit(transformer.transform, good)
            assert begun.wait(SECONDS)
            if on_error == "raise":
                with pytest.raises(DataError, match=r"0\.jpg: not an image"):
                    transformer.transform(bad)
            else:
                assert np.isnan(transformer.transform(bad)).all(axis=1).tolist() == [False, True, True, True]
        np.testing.assert_allclose(slow.result(SECONDS), expected, rtol=1e-5, atol=1e-6)
    said = [str(warning.message).split(";")[0] for warning in told]
    assert said == ([] if on_error == "raise" else ["3 of 4 images have rows of NaN"])


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_many_threads_have_each_their_rows_and_failures(
    model: Path, good: list[str], bad: list[str], backend: str
) -> None:
    extractor = FeatureExtractor(model, backend=backend, device="cpu", batch_size=2, num_workers=1)
    requests = [good, bad, good[3:], [*bad, *good], bad[1:2] + good[5:7]]
    wanted = dict(zip(good, extractor.extract(good), strict=True))

    def ask(paths: list[str]) -> None:
        failures: list[Failure] = []
        rows = extractor.extract(paths, skip_bad=True, failures=failures)
        read = [path for path in paths if path in wanted]
        np.testing.assert_allclose(rows, [wanted[path] for path in read], rtol=1e-4, atol=1e-5)
        assert [failure.id for failure in failures] == [path for path in paths if path not in wanted]

    with ThreadPoolExecutor(4) as pool:
        for answer in [pool.submit(ask, paths) for paths in requests * 4]:
            answer.result(SECONDS)
