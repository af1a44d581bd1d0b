"""The command line: one file per command, and the one place where errors become a line and an exit status.

Exit status: 0 good, 1 the verdict is negative, 2 usage, 3 the input is malformed, 4 something of the environment is
missing.
"""

import os
import sys
from typing import Annotated

import typer

from imarium import __version__
from imarium.cli.attest import attest
from imarium.cli.keep import keep
from imarium.cli.log import app as log_app
from imarium.cli.replay import replay
from imarium.cli.rot import app as rot_app
from imarium.cli.show import show
from imarium.cli.verify import verify
from imarium.errors import ImariumError, MissingComponent

__all__ = ["app", "main"]

app = typer.Typer(
    name="imarium",
    help="Keep, prove and appraise the measurement list of Linux IMA.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(replay)
app.command()(show)
app.add_typer(rot_app, name="rot")
app.command()(keep)
app.add_typer(log_app, name="log")
app.command()(attest)
app.command()(verify)

_ClickUsageError: type[Exception] = typer.BadParameter.__bases__[0]
_BROKEN_PIPE = 128 + 13
_INTERRUPTED = 128 + 2


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"imarium {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Keep, prove and appraise the measurement list of Linux IMA."""


def main() -> None:
    """Run the command line and exit with its status."""
    sys.exit(_run())


def _run() -> int:
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except ImariumError as error:
        return _complain(str(error), error.exit_status)
    except _ClickUsageError as error:
        return _complain(f"{_usage_message(error)}", 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _complain(f"{place}{error.strerror or error}", MissingComponent.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", _INTERRUPTED)
    return status if isinstance(status, int) else 0


def _usage_message(error: Exception) -> str:
    message = getattr(error, "format_message", lambda: str(error))()
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "imarium"
    return f"{message} Try '{path} --help'."


def _complain(message: str, status: int) -> int:
    line = " ".join(message.split("\n"))
    sys.stderr.write(f"imarium: {line}\n")
    return status
