"""A column of labels as numbers of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adios_zoo.errors import DataError


def label_numbers(labels: Any, what: str) -> NDArray[np.int64]:
    """A column of labels as numbers of classes, -1 where there is none (null or NaN).

    Args:
        labels: pyarrow's, of any type.
        what: names the column in messages.

    Raises:
        DataError: they are no whole numbers.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    is_type = pa.types
    try:
        if is_type.is_floating(labels.type):  # of a table in which some had no label, for one
            numbers = np.asarray(labels.to_numpy(zero_copy_only=False), np.float64)
            numbers = np.where(np.isnan(numbers), -1, numbers)
            if bool((np.abs(numbers) < 2**53).all() and (numbers == np.floor(numbers)).all()):
                return numbers.astype(np.int64)
        elif is_type.is_integer(labels.type) or is_type.is_boolean(labels.type) or is_type.is_null(labels.type):
            return np.asarray(pc.fill_null(labels.cast(pa.int64()), -1).to_numpy(zero_copy_only=False), np.int64)
    except pa.ArrowInvalid:  # beyond 64 bits
        pass
    raise DataError(
        f"{what} holds {labels.type} values that are no whole numbers; put the number of each image's class, from 0."
    )
