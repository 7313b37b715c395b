"""The entry point of `pad-pipeline`: errors become exit codes, log lines go to stderr."""

from __future__ import annotations

import logging
import shlex
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import nullcontext

from pad_pipeline import __version__
from pad_pipeline.cli.commands import build_commands
from pad_pipeline.cli.options import to_flag
from pad_pipeline.cli.parsing import PROGRAM, parse_early, run_command
from pad_pipeline.cli.stderr import native_ray_lines_hidden
from pad_pipeline.errors import Setting, UserError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; `arguments` without the program's name, by default the process's.

    Exit codes: 0 done, 1 not done because of an error (one line on stderr, a traceback with
    --debug), 2 arguments that cannot be parsed, 3 done, but more images failed than are allowed,
    130 interrupted.
    """
    argv = list(sys.argv[1:] if arguments is None else arguments)
    early = parse_early(argv)
    if early.version:
        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        return
    # `ray job stop` and batch systems send SIGTERM: leave as on Ctrl-C, with everything on disk.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    hidden = nullcontext() if early.debug or early.ray_logs else native_ray_lines_hidden()
    try:
        with hidden:
            _log_to_stderr(early.debug)
            run_command(build_commands(early.preset, early.stage), argv)
    except BrokenPipeError:
        raise SystemExit(1) from None
    except (UserError, OSError) as error:
        if early.debug:
            raise
        if isinstance(error, UserError):
            message = error.spell(to_flag)
        else:
            message = f"{error} (--debug shows where)"
        sys.stderr.write(f"{PROGRAM}: error: {message}\n")
        raise SystemExit(error.exit_code if isinstance(error, UserError) else 1) from None
    except KeyboardInterrupt:
        sys.stderr.write(
            f"{PROGRAM}: interrupted; what was finished is kept, the same command continues: "
            f"{shlex.join([PROGRAM, *argv])}\n"
        )
        raise SystemExit(130) from None


class _FlagFormatter(logging.Formatter):
    """Writes the settings among a log line's arguments as flags."""

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record.args, tuple):
            record.args = tuple(
                to_flag(part) if isinstance(part, Setting) else part for part in record.args
            )
        return super().format(record)


def _log_to_stderr(debug: bool) -> None:
    """Our log lines as plain sentences on stderr; other libraries' and warnings with --debug."""
    handler = logging.StreamHandler(sys.stderr)
    pattern = "%(asctime)s %(name)s: %(message)s" if debug else "%(message)s"
    handler.setFormatter(_FlagFormatter(pattern))
    logger = logging.getLogger("pad_pipeline")
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.propagate = False
    if debug:
        logging.basicConfig(level=logging.INFO)
    else:
        warnings.simplefilter("ignore")
