"""The encoder as a step of a scikit-learn pipeline: images or their paths in, features out."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, TransformerMixin

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.features.write_file import Features
from adios_zoo.images.image import ImageRef, file_ref, pixels_ref
from adios_zoo.sources.open import open_images
from adios_zoo.zoo.registry import DEFAULT_MODEL

if TYPE_CHECKING:
    from adios_zoo.features.extractor import FeatureExtractor


_FORMS = "paths (n,), images (n, H, W, 3) or (n, H, W), or one image (H, W, 3), uint8"


_CHANNELS = (1, 3, 4)  # of an image with a last axis of its own for them


class FeatureTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no annotations
    """Turns images into features (n, D), float32: a transformer that learns nothing.

    ``X`` is one of

    - a sequence, array, Series or one-column DataFrame of paths; PIL images and arrays may be among them;
    - an array or tensor of images: (n, H, W, 3) or (n, H, W, 4), or grey (n, H, W), uint8;
    - one image, which has one row: a PIL image, or an array (H, W, 3), (H, W, 4) or (H, W, 1), which is never taken
      for H grey images;
    - a folder, glob or other SOURCE, as :meth:`FeatureExtractor.extract` takes it, in its order.

    Each item of a sequence has one row, always: an image that cannot be read raises DataError, or with
    ``on_error="nan"`` has a row of NaN and a warning that says why.

    The model is loaded by ``fit``, or by the first ``transform``, and is no part of a pickle or clone: these hold
    the parameters alone, and load the model where they are used.  Column names are f0, f1, ..., as in a feature
    file.

    Args:
        model: what ``load_model`` takes: a name, a folder, ``hf-hub:ORG/NAME``; not a loaded model.
        backend: ``torch`` or ``onnx``; this and the next four are those of :class:`FeatureExtractor`.
        device: ``auto``, or a device's name.
        precision: ``fp32``, or what the device has.
        batch_size: images of a forward pass, or ``auto``.
        num_workers: decoding threads, or ``auto``.
        on_error: ``raise`` or ``nan``.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        backend: str = "torch",
        device: str = "auto",
        precision: str = "fp32",
        batch_size: int | str = "auto",
        num_workers: int | str = "auto",
        on_error: str = "raise",
    ) -> None:
        self.model = model
        self.backend = backend
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.on_error = on_error

    def fit(self, X: Any, y: Any = None) -> FeatureTransformer:  # noqa: N803 (scikit-learn's name)
        """Check the parameters and the form of ``X``, and load the model; no image is read."""
        _plain(X)
        self._extractor()
        return self

    def transform(self, X: Any) -> Features:  # noqa: N803
        """Features (n, D), float32, one row an image.

        Raises:
            ConfigError: a parameter, or ``X``, is of another form.
            DataError: an image cannot be read, unless ``on_error`` is ``nan``.
        """
        refs = _refs(X)
        features, reasons = self._extractor().rows(refs)
        if reasons:
            row, reason = next(iter(reasons.items()))
            told = f"{refs[row].id}: {reason}"
            if self.on_error == "raise":
                raise DataError(f"{told}; on_error='nan' gives such images a row of NaN.")
            warnings.warn(f"{len(reasons)} of {len(refs)} images have rows of NaN; the first: {told}.", stacklevel=2)
        return features

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names of the columns: f0, f1, ..."""
        return np.array([f"f{i}" for i in range(self._extractor().dim)], dtype=object)

    def _extractor(self) -> FeatureExtractor:
        """The extractor for the parameters as they are now."""
        from adios_zoo.features.extractor import FeatureExtractor

        if self.on_error not in ("raise", "nan"):
            raise ConfigError(f"on_error is {self.on_error!r}; give 'raise' or 'nan'.")
        if not isinstance(self.model, str | os.PathLike):
            raise ConfigError("model is a loaded model, which a pickle would hold; give its name or folder.")
        settings = {
            name: value for name, value in self.get_params(deep=False).items() if name not in ("model", "on_error")
        }
        wanted = (os.fspath(self.model), settings)
        loaded = self.__dict__.get("_loaded")
        if loaded is None or loaded[0] != wanted:
            loaded = (wanted, FeatureExtractor(self.model, **settings))
            self._loaded = loaded
        extractor: FeatureExtractor = loaded[1]
        return extractor

    def __getstate__(self) -> dict[str, Any]:
        """The parameters, without the model."""
        return {name: value for name, value in super().__getstate__().items() if name != "_loaded"}

    def __sklearn_is_fitted__(self) -> bool:
        """Nothing is learnt, so that it can be used at once."""
        return True

    def __sklearn_tags__(self) -> Any:
        """Images are no matrix of numbers, and nothing is learnt of them."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.transformer_tags.preserves_dtype = []  # features are float32, whatever images are
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags


def _refs(images: Any) -> list[ImageRef]:
    """One reference for each image; the items of a sequence are never expanded."""
    images = _plain(images)
    if isinstance(images, str | os.PathLike):
        return list(open_images(images))
    return [
        file_ref(os.fspath(item)) if isinstance(item, str | os.PathLike) else pixels_ref(f"#{number}", item)
        for number, item in enumerate(images)
    ]


def _plain(images: Any) -> Any:
    """``X`` as a SOURCE, or as a sequence or array with an item for each image."""
    if isinstance(images, Image.Image):
        return [images]
    if isinstance(images, bytes | bytearray):
        raise ConfigError(f"X is one {type(images).__name__}; give {_FORMS}.")
    if issparse(images):
        raise ConfigError(f"X is a sparse matrix; give {_FORMS}.")
    if hasattr(images, "to_numpy"):  # a Series or a DataFrame
        images = images.to_numpy()
    elif hasattr(images, "__array__"):  # a tensor, whose rows must not be taken for images
        images = _array(images)
    if isinstance(images, np.ndarray) and images.ndim == 2 and images.shape[1] == 1:
        images = images[:, 0]
    if isinstance(images, np.ndarray) and images.ndim not in (1, 3, 4):
        raise ConfigError(f"X is an array of shape {images.shape}; give {_FORMS}.")
    if isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[2] in _CHANNELS:
        return images[None]  # one image, as for the extractor: rows of its pixels are no images
    return images


def _array(tensor: Any) -> NDArray[Any]:
    try:
        return np.asarray(tensor)
    except Exception as error:  # one on a GPU, say; which error that is depends on the library
        raise ConfigError(f"X is a {type(tensor).__name__} that numpy cannot read; give {_FORMS}.") from error
