"""The encoder in scikit-learn: rows that never shift, pipelines, pickles, frames, and scikit-learn's own checks."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import Parallel, delayed
from PIL import Image
from scipy.sparse import csr_array, issparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from adios_zoo import FeatureExtractor, FeatureTransformer
from adios_zoo.errors import ConfigError, DataError
from tests.small_models import saved_model, small_model

RED, BLUE = (200, 30, 30), (30, 30, 200)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Twelve reddish and bluish pictures, in turn."""
    random = np.random.default_rng(0)
    names = [str(tmp_path / f"{i:02}.png") for i in range(12)]
    for i, name in enumerate(names):
        pixels = np.array(BLUE if i % 2 else RED) + random.integers(-25, 25, (40, 40, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(name)
    return names


def test_every_form_of_images_has_the_extractors_features(model: Path, paths: list[str]) -> None:
    transformer = FeatureTransformer(model)
    expected = FeatureExtractor(model).extract(paths)
    pictures = [Image.open(path) for path in paths]
    arrays = np.stack([np.asarray(picture) for picture in pictures])
    frame = pd.DataFrame({"path": paths})
    folder = str(Path(paths[0]).parent)
    mixed = [paths[0], pictures[1], arrays[2], Path(paths[3]), *paths[4:]]
    for images in (paths, np.array(paths), pictures, arrays, frame["path"], frame, folder, f"{folder}/*.png", mixed):
        np.testing.assert_allclose(transformer.fit_transform(images), expected, rtol=1e-5, atol=1e-6)
    grey = transformer.transform(arrays[..., 0])  # (n, H, W) is n grey images
    np.testing.assert_array_equal(grey, transformer.transform([Image.fromarray(a) for a in arrays[..., 0]]))
    assert grey.shape == expected.shape


def test_one_image_has_one_row(model: Path, paths: list[str]) -> None:
    transformer = FeatureTransformer(model)
    expected = FeatureExtractor(model).extract(paths[:1])
    picture = Image.open(paths[0])
    pixels = np.asarray(picture)
    opaque = np.asarray(picture.convert("RGBA"))
    for image in (picture, pixels, opaque, pixels[None], torch.from_numpy(pixels.copy()), [pixels]):
        np.testing.assert_allclose(transformer.fit_transform(image), expected, rtol=1e-5, atol=1e-6)
    grey = np.asarray(picture.convert("L"))
    expected = transformer.transform([grey])
    for image in (grey[None], grey[..., None], grey[None, ..., None]):
        np.testing.assert_array_equal(transformer.transform(image), expected)
    for width in (1, 3, 4):  # as wide as a pixel has channels, and one row all the same
        thin = np.zeros((40, width, 3), np.uint8)
        assert transformer.transform(thin).shape == expected.shape
    assert transformer.set_output(transform="pandas").transform(pixels).shape == expected.shape


def test_a_tensor_of_images_is_an_array_of_them(model: Path, paths: list[str]) -> None:
    images = np.stack([np.asarray(Image.open(path)) for path in paths])
    expected = FeatureExtractor(model).extract(images)
    np.testing.assert_array_equal(FeatureTransformer(model).transform(torch.from_numpy(images)), expected)


def test_rows_never_shift(model: Path, paths: list[str], tmp_path: Path) -> None:
    whole = FeatureTransformer(model).transform(paths)
    (tmp_path / "text.jpg").write_text("no picture")
    broken = [paths[0], str(tmp_path / "text.jpg"), paths[1], str(tmp_path), None, *paths[2:]]
    with pytest.raises(DataError, match=r"text\.jpg: not an image.*on_error='nan'"):
        FeatureTransformer(model).transform(broken)
    with pytest.warns(UserWarning, match=r"3 of 15 images have rows of NaN; the first: .*text\.jpg: not an image"):
        features = FeatureTransformer(model, on_error="nan").transform(broken)
    assert np.isnan(features).all(axis=1).tolist() == [False, True, False, True, True] + 10 * [False]
    np.testing.assert_allclose(features[[0, 2, *range(5, 15)]], whole, rtol=1e-5, atol=1e-6)
    with pytest.warns(UserWarning, match="1 of 1"):
        assert np.isnan(FeatureTransformer(model, on_error="nan").transform([None])).all()


def test_in_a_pipeline_with_a_search(model: Path, paths: list[str]) -> None:
    colours = ["red", "blue"] * 6
    pipeline = make_pipeline(FeatureTransformer(model, on_error="nan"), LogisticRegression())
    grid = {"logisticregression__C": [0.1, 1.0], "featuretransformer__on_error": ["raise", "nan"]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(paths, colours)
    assert search.best_score_ == 1
    assert search.predict(paths[:2]).tolist() == colours[:2]
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict_proba(paths), search.predict_proba(paths))


def test_clones_and_pickles_hold_the_parameters_alone(model: Path, paths: list[str]) -> None:
    fitted = FeatureTransformer(model, batch_size=2).fit(paths)
    assert clone(fitted).get_params() == fitted.get_params()
    assert fitted.get_params()["model"] == model
    content = pickle.dumps(fitted)
    assert len(content) < 1000
    np.testing.assert_array_equal(pickle.loads(content).transform(paths), fitted.transform(paths))
    halves = Parallel(n_jobs=2, backend="threading")(
        delayed(clone(fitted).transform)(half) for half in (paths[:6], paths[6:])
    )
    np.testing.assert_array_equal(np.concatenate(halves), fitted.transform(paths))


def test_other_processes_load_the_model_themselves(model: Path, paths: list[str]) -> None:
    fitted = FeatureTransformer(model, batch_size=2, num_workers=0).fit(paths)
    (there,) = Parallel(n_jobs=2)([delayed(fitted.transform)(paths)])
    np.testing.assert_allclose(there, fitted.transform(paths), rtol=1e-5, atol=1e-6)


def test_changed_parameters_take_effect(model: Path, paths: list[str], tmp_path: Path) -> None:
    transformer = FeatureTransformer(model).fit(paths)
    before = transformer.transform(paths)
    other = small_model(mean=(0.1, 0.1, 0.1)).save_pretrained(tmp_path / "other")
    assert not np.allclose(transformer.set_params(model=other).transform(paths), before)


def test_frames_have_named_columns_and_the_rows_own_index(model: Path, paths: list[str]) -> None:
    frame = pd.DataFrame({"path": paths, "size": range(12)}, index=[f"row{i}" for i in range(12)])
    features = FeatureTransformer(model).set_output(transform="pandas").fit_transform(frame["path"])
    assert list(features.columns[:2]) == ["f0", "f1"]
    assert list(features.index) == list(frame.index)
    columns = ColumnTransformer([("image", FeatureTransformer(model), "path"), ("rest", "passthrough", ["size"])])
    both = columns.set_output(transform="pandas").fit_transform(frame)
    assert [both.columns[0], both.columns[-1]] == ["image__f0", "rest__size"]
    np.testing.assert_array_equal(both.iloc[:, :-1].to_numpy(), features.to_numpy())


def test_mistakes(model: Path, paths: list[str]) -> None:
    with pytest.raises(ConfigError, match="on_error is 'skip'; give 'raise' or 'nan'"):
        FeatureTransformer(model, on_error="skip").fit(paths)
    with pytest.raises(ConfigError, match="give its name or folder"):
        FeatureTransformer(small_model()).fit(paths)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(ConfigError, match=r"shape \(12, 2\); give paths \(n,\)"):
        FeatureTransformer(model).transform(np.zeros((12, 2)))
    with pytest.raises(ConfigError, match="X is a sparse matrix"):
        FeatureTransformer(model).transform(csr_array(np.eye(3)))
    with pytest.raises(ConfigError, match=r"shape \(9, 8\)"):  # which may as well be a matrix of numbers
        FeatureTransformer(model).transform(np.zeros((9, 8), np.uint8))
    with pytest.raises(ConfigError, match="X is one bytes; give paths"):
        FeatureTransformer(model).transform(Path(paths[0]).read_bytes())
    with pytest.raises(ConfigError, match="X is a Tensor that numpy cannot read"):
        FeatureTransformer(model).transform(torch.empty((2, 9, 9, 3), device="meta"))


class OfRows(FeatureTransformer):
    """For scikit-learn's checks, which know only matrices: each row of numbers is made a grey image."""

    def fit(self, X: Any, y: Any = None) -> OfRows:  # noqa: N803 (scikit-learn's name)
        super().fit(self.pictures(X))
        return self

    def transform(self, X: Any) -> Any:  # noqa: N803
        return super().transform(self.pictures(X))

    @staticmethod
    def pictures(matrix: Any) -> Any:
        if issparse(matrix):
            return matrix
        rows = np.asarray(matrix, float)
        wide = np.repeat(rows, 5, axis=1)  # a width of 3 or 4 would be taken for the channels of one picture
        return (np.abs(wide)[:, None] * 50 % 256).astype(np.uint8)  # (n, 1, 5 D)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


SPARSE = "a sparse matrix is refused, but by a ConfigError, where the check wants a TypeError or ValueError"


def test_scikit_learns_own_checks(model: Path) -> None:
    names = ("check_estimator_sparse_array", "check_estimator_sparse_matrix", "check_estimator_sparse_tag")
    expected = dict.fromkeys(names, SPARSE)
    results = check_estimator(OfRows(model, num_workers=0), expected_failed_checks=expected, on_skip=None, on_fail=None)
    wrong = [f"{r['check_name']}: {r['exception']!r}" for r in results if r["status"] == "failed"]
    assert not wrong, "\n".join(wrong)
    assert len([r for r in results if r["status"] == "passed"]) > 30
