"""The command line: one file per command, and the one place where errors become a line and an exit status.

Exit status: 0 good, 1 the verdict is negative or the operation was refused because it would lose something, 2 usage,
3 the input is malformed, 4 something of the environment is missing. A command's module is imported when the command is
asked for, so that none waits for another's libraries.
"""

import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from imarium import __version__
from imarium.errors import ImariumError, MissingComponent

__all__ = ["app", "main"]

_COMMANDS = ("replay", "show", "rot", "registers", "keep", "log", "attest", "challenge", "verify", "engine", "demo")
"""Each is a module here with a function of its name, or with an ``app`` that has commands of its own."""


class _Commands(TyperGroup):
    """The commands by name, each imported when it is looked up."""

    def list_commands(self, _ctx: Any) -> list[str]:  # noqa: ANN401 - a type Typer does not export
        return list(_COMMANDS)

    def get_command(self, _ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 - as above
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"imarium.cli.{cmd_name}")
        alone = typer.Typer(rich_markup_mode=None)
        if hasattr(module, "app"):
            alone.add_typer(module.app, name=cmd_name)
        else:
            alone.command(cmd_name)(getattr(module, cmd_name))
        group: Any = typer.main.get_group(alone)
        return group.commands[cmd_name]


app = typer.Typer(
    cls=_Commands,
    name="imarium",
    help="Keep, prove and appraise the measurement list of Linux IMA.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

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
    if sys.stdout is None:
        sys.exit(_complain("standard output is closed; give it somewhere to go", MissingComponent.exit_status))
    sys.exit(_run())


def _run() -> int:
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except ImariumError as error:
        return _complain(str(error), error.exit_status)
    except _ClickUsageError as error:
        return _complain(_usage_message(error), 2)
    except (BrokenPipeError, SystemExit) as stopped:
        if isinstance(stopped, SystemExit) and not isinstance(stopped.__context__, BrokenPipeError):
            raise
        return _broken_pipe()  # Click makes a broken pipe status 1, which is our negative verdict
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _complain(f"{place}{error.strerror or error}", MissingComponent.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", _INTERRUPTED)
    return status if isinstance(status, int) else 0


def _broken_pipe() -> int:
    """End quietly: nobody reads on, so what is left in the buffer goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _BROKEN_PIPE


def _usage_message(error: Exception) -> str:
    message = str(getattr(error, "format_message", lambda: str(error))())
    if message.startswith("Usage:"):  # a group of commands without one: its message is the whole help
        message = "Missing command."
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "imarium"
    return f"{message} Try '{path} --help'."


def _complain(message: str, status: int) -> int:
    if sys.stderr is not None:
        line = " ".join(message.split())
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        sys.stderr.write(f"imarium: {shown}\n")
    return status
