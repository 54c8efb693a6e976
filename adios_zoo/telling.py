"""What is told beside the results: lines and progress bars on stderr, where there is one.

A daemon or a notebook may have none, a closed one, or an object of its own in its place, and a terminal may lack the
letters of a file's name.  None of that is worth an error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


def tell(text: object) -> None:
    """Write a line on stderr, above any progress bar."""
    from tqdm import tqdm

    stream = _stderr()
    if stream is not None:
        with suppress(OSError, ValueError, AttributeError):
            tqdm.write(_writable(str(text), stream), file=stream)


def on_terminal() -> bool:
    """Whether someone looks at stderr."""
    try:
        return bool(sys.stderr.isatty())
    except (AttributeError, ValueError):  # none, one that cannot say, one that is closed
        return False


def progress_bar(images: Iterable[Any] | None = None, *, show: bool | None = True, **options: Any) -> tqdm[Any]:
    """A progress bar on stderr; ``show=None`` shows it on a terminal only."""
    from tqdm import tqdm

    hidden = not show if show is not None else not on_terminal()
    stream = _stderr()
    if hidden or stream is None:
        return tqdm(images, disable=True, file=_Nowhere(), **options)
    return tqdm(images, file=stream, **options)


def open_streams() -> None:
    """Make stdout and stderr of a program take all that is written: where they are closed, and letters they lack.

    A closed stream is opened on nothing: else the next file that is opened takes its number, and messages of
    libraries would be written into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 (for as long as we run)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _stderr() -> IO[str] | None:
    stream = sys.stderr
    usable = stream is not None and hasattr(stream, "write") and not getattr(stream, "closed", False)
    return stream if usable else None


def _writable(text: str, stream: IO[str]) -> str:
    """The text with escapes for what the stream's encoding lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    except LookupError:  # an encoding that is none
        return text.encode("ascii", "backslashreplace").decode()


class _Nowhere:
    """A stream that drops what is written."""

    def write(self, text: str) -> int:
        """Drop it."""
        return len(text)

    def flush(self) -> None:
        """Do nothing."""
