"""``imarium demo``: all of it on this machine, told as a story."""

import os
import shutil
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from imarium.cli.demo_story import Story, tell, tell_without_mount
from imarium.errors import MissingComponent
from imarium.fuse import CAP_SYS_ADMIN, Caller, require_library

__all__ = ["demo"]


def demo(
    no_mount: Annotated[
        bool, typer.Option("--no-mount", help="Measure in explicit calls only, as without root or FUSE.")
    ] = False,
) -> None:
    """Show it all on this machine: an engine with a TPM simulator, measured, kept, proved, appraised, tampered with.

    It takes half a minute and needs root, FUSE and swtpm. Without root or FUSE it shows what can be done without.
    Everything is made in a temporary directory and removed at the end; the machine's own TPM and list stay untouched.
    """
    if find_spec("tpm2_pytss") is None or shutil.which("swtpm") is None:
        raise MissingComponent("the demonstration needs a TPM simulator: apt install swtpm, pip install 'imarium[tpm]'")
    lacking = _lacking()
    if not lacking and not no_mount:
        try:
            _tell(tell)
        except MissingComponent as error:  # what only trying shows, in a container for one
            lacking = [str(error)]
        else:
            return
    for what in lacking:
        typer.echo(what)
    _tell(tell_without_mount)


def _tell(told: Callable[[Story], None]) -> None:
    """Tell a story in a place of its own, with a simulator that holds nothing yet."""
    with tempfile.TemporaryDirectory(prefix="imarium-demo-") as name, Story(Path(name)) as story:
        told(story)


def _lacking() -> list[str]:
    """What is known to be missing for the whole story, with what to do about it."""
    lacking = []
    if os.geteuid() != 0:
        lacking.append("not root: programs cannot be measured as they run; run it as root, or with sudo")
    elif not Caller(os.getpid(), os.geteuid(), os.getegid()).has_capability(CAP_SYS_ADMIN):
        lacking.append("no CAP_SYS_ADMIN: nothing can be watched or mounted; give it to this container, or run outside")
    if not Path("/dev/fuse").exists():
        lacking.append("no /dev/fuse: no files can be mounted; modprobe fuse")
    try:
        require_library()
    except MissingComponent as error:
        lacking.append(f"no files can be mounted: {error}")
    return lacking
