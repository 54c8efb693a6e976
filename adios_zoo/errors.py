"""What can go wrong, by kind.  Every message is one sentence that names the thing and the remedy."""

from __future__ import annotations


class AdiosError(Exception):
    """Base of every error that this package raises on purpose.

    ``exit_code`` is what the command line answers: 2 for a mistake in the call, 1 for everything else.
    """

    exit_code = 1


class ConfigError(AdiosError):
    """A setting, a recipe or an option is wrong."""

    exit_code = 2


class UnknownModelError(AdiosError):
    """No model of that name is in the zoo, and no folder of that name exists."""

    exit_code = 2


class CardError(AdiosError):
    """A model card has a missing, unknown or ill-typed entry."""


class DownloadError(AdiosError):
    """Weights could not be fetched."""


class IntegrityError(AdiosError):
    """A file is not what its card says: wrong size, wrong hash, wrong keys or shapes."""


class DataError(AdiosError):
    """Images or features could not be read or written."""


class DiskFullError(DataError):
    """There is no room for what is to be written."""


class BackendError(AdiosError):
    """A device, precision or inference backend is not available here."""
