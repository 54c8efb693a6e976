"""The command line: ``adios``.  The commands themselves are in ``commands/``."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence

from adios_zoo.commands import evaluating, exporting, features, masking, models, training
from adios_zoo.commands.arguments import Commands, name_columns
from adios_zoo.errors import AdiosError
from adios_zoo.telling import open_streams, tell
from adios_zoo.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``adios`` with these arguments (the process's, if none are given) and return its exit code.

    0 is success, 2 a mistake in the call, 1 everything else; a mistake is one line on stderr.
    """
    open_streams()
    options = _parsed(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        name_columns(options)
        return run(options)
    except KeyboardInterrupt:
        tell("adios: stopped.")
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; a second failure at interpreter exit helps nobody.
        sys.stderr.close()
        return 1
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        if isinstance(error, AdiosError):
            tell(f"adios: {error}")
            return error.exit_code
        reason = str(error).partition("\n")[0] or type(error).__name__
        tell(f"adios: unexpected {type(error).__name__}: {reason} (--debug shows where)")
        return 1


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options, left = parser.parse_known_args(arguments)
    if hasattr(options, "settings"):  # argparse finds those only that stand before all options, or after all
        options.settings += [word for word in left if not word.startswith("-")]
        left = [word for word in left if word.startswith("-")]
    if left:
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="adios", description="ADIOS encoders and maskers.")
    parser.add_argument("--version", action="version", version=f"adios-zoo {__version__}")
    commands = Commands(parser)
    for about in (models, features, training, evaluating, masking, exporting):
        about.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
