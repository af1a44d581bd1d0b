"""``imarium keep``: take custody of the kernel's measurement list."""

import os
from typing import Annotated

import typer

from imarium.cli.options import Json, SourceDirectory, StoreDirectory
from imarium.cli.output import console, emit_json, progress_console
from imarium.custody import KILL_VARIABLE, Keeper, KeepResult, Store, WantedMethod, default_store, kill_at
from imarium.custody.machine import boot_id, registers_of
from imarium.errors import UsageError
from imarium.securityfs import ImaDirectory

__all__ = ["keep"]

_METHODS: dict[str, WantedMethod] = {"auto": "auto", "prompt": "prompt", "follow": "follow"}
_LOCK_PATIENCE = 2.0


def keep(
    source: SourceDirectory = None,
    store: StoreDirectory = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="METHOD",
            help="prompt stages, keeps and deletes from the kernel; follow keeps and deletes nothing; "
            "auto takes prompt where the kernel can stage and it may be done.",
        ),
    ] = "auto",
    once: Annotated[bool, typer.Option("--once", help="Do it once and exit.")] = False,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait while others have the lists open.")
    ] = 5.0,
    as_json: Json = False,
) -> int:
    """Take custody of the kernel's measurement list: keep it, prove it, and free the kernel's memory.

    Nothing is deleted from the kernel before it is on stable storage and replay reaches the registers. If they are
    not reached, everything is kept, nothing is deleted, and the exit status is 1.
    """
    if method not in _METHODS:
        raise UsageError(f"unknown method {method!r}; choose {', '.join(_METHODS)}")
    if not once:
        raise UsageError("give --once: keep runs once and exits; have a timer repeat it")
    hook = kill_at(os.environ.get(KILL_VARIABLE))
    lists = ImaDirectory(source, patience=wait)
    keeper = Keeper(
        Store(store or default_store(), create=True, patience=_LOCK_PATIENCE),
        lists,
        boot_id=boot_id(),
        registers=registers_of(lists.path),
        hook=hook,
    )
    result = keeper.once(_METHODS[method])
    if as_json:
        emit_json(result.to_document())
    else:
        _show(result)
    if result.verdict == "refused":
        progress_console().print(
            f"imarium: nothing was deleted from the kernel: {result.reason}", soft_wrap=True, markup=False
        )
        return 1
    return 0


def _show(result: KeepResult) -> None:
    out = console()
    out.print(f"method   {result.method}: {result.method_reason}", markup=False)
    if result.log is not None:
        out.print(f"kept     {_amount(result.kept_records, result.kept_bytes)}")
        out.print(f"freed    {_amount(result.freed_records, result.freed_bytes)} in the kernel")
        out.print(f"log      {result.log:04}: {_amount(result.records, result.bytes)} in all")
    else:
        out.print("kept     nothing: the kernel's list is empty and no log was begun")
    out.print(f"verdict  {result.verdict}: {result.reason}", markup=False)


def _amount(records: int, size: int) -> str:
    return f"{records} record{'' if records == 1 else 's'}, {size} bytes"
