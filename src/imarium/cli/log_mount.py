"""``imarium log mount``: the list as the kernel's files, as if nothing had been staged."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from imarium.cli.options import Banks, SourceDirectory, StoreDirectory, named_banks
from imarium.cli.output import progress_console
from imarium.custody import View, default_store
from imarium.custody.machine import boot_id, registers_of
from imarium.custody.notify import Notifier
from imarium.custody.tree import ListTree
from imarium.fuse import mount as mount_tree
from imarium.fuse import require_mountable
from imarium.hashes import SHA1, SHA256, HashAlgorithm
from imarium.securityfs import ImaDirectory, ListBusy

__all__ = ["mount"]

_PATIENCE = 1.0
"""Seconds that a reader waits for a drain to end, before it is shown what the last one saw."""


def mount(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An empty directory.")],
    source: SourceDirectory = None,
    store: StoreDirectory = None,
    bank: Banks = None,
    allow_other: Annotated[bool, typer.Option("--allow-other", help="Let other users in, as the modes say.")] = False,
) -> None:
    """Serve the list as the kernel's files, as if nothing had been staged, until interrupted or unmounted.

    Kept records come first, then those still in the kernel. There is a pair of files for each bank of the kernel's and
    each --bank.
    """
    require_mountable(directory)
    lists = ImaDirectory(source, patience=_PATIENCE)
    view = View(store or default_store(), lists, boot_id=boot_id(), registers=registers_of(lists.path))
    note = progress_console()
    counted = (lists.path / "violations").exists()
    tree = ListTree(view, _banks(lists, bank, note), violations=lists.violations if counted else None)
    said = _first_look(view, note)

    def ready() -> None:
        note.print(f"mounted at {directory}: {said}; interrupt to unmount", markup=False)
        Notifier.from_environment().ready(f"mounted at {directory}")

    mount_tree(tree, directory, fsname="imarium-log", ready=ready, allow_other=allow_other)


def _banks(lists: ImaDirectory, wanted: list[str] | None, note: Console) -> list[HashAlgorithm]:
    """The kernel's banks, as far as they can be computed here, and those wanted. Raises as :func:`named_banks`."""
    named = named_banks(wanted)
    for algorithm in named:
        algorithm.constructor()
    own = lists.algorithms or (SHA1, SHA256)
    for algorithm in own:
        if not algorithm.computable:
            note.print(f"imarium: no files for {algorithm.name}: this machine's OpenSSL cannot compute its digests")
    return [*(algorithm for algorithm in own if algorithm.computable), *named]


def _first_look(view: View, note: Console) -> str:
    """What there is to be seen, so that a list or store that cannot be read is told before anything is mounted.

    Records that do not fit are told too; but who looks needs no proof that only registers could give.
    """
    try:
        records = view.now().records
    except ListBusy:
        return "someone else has the kernel's lists open"
    if view.found is not None and view.found.verdict == "refused" and not view.found.unread:
        note.print(f"imarium: {view.found.reason}", soft_wrap=True, markup=False)
    return f"{records} record{'' if records == 1 else 's'}"
