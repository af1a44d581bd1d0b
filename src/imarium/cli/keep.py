"""``imarium keep``: take custody of the kernel's measurement list."""

import json
import os
import signal
import sys
import threading
from typing import Annotated

import typer

from imarium.cli.options import Json, SourceDirectory, StoreDirectory
from imarium.cli.output import console, emit_json, progress_console
from imarium.custody import (
    KILL_VARIABLE,
    KeepResult,
    Schedule,
    Service,
    ServiceEvent,
    SourceConfig,
    WantedMethod,
    default_store,
    kill_at,
)
from imarium.custody.machine import boot_id, machine_of, registers_of
from imarium.errors import UsageError
from imarium.securityfs import ImaDirectory

__all__ = ["keep"]

_METHODS: dict[str, WantedMethod] = {"auto": "auto", "prompt": "prompt", "trim": "trim", "follow": "follow"}
_LOCK_PATIENCE = 2.0


def keep(
    source: SourceDirectory = None,
    store: StoreDirectory = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="METHOD",
            help="prompt stages, keeps and deletes from the kernel; trim keeps, and deletes by number without "
            "staging; follow keeps and deletes nothing; auto takes prompt where it may be done, else follow.",
        ),
    ] = "auto",
    once: Annotated[
        bool, typer.Option("--once", help="Do it once and exit [default: go on until told to end].")
    ] = False,
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="Without --once: how often at least.")
    ] = 60.0,
    at_records: Annotated[
        int, typer.Option(metavar="N", min=1, help="Without --once: as soon as the kernel has N records.")
    ] = 1000,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait while others have the lists open.")
    ] = 5.0,
    tcti: Annotated[
        str | None,
        typer.Option("--tcti", metavar="NAME", help="The TPM that a source other than the kernel's extends."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Take custody of the kernel's measurement list: keep it, prove it, and free the kernel's memory.

    Nothing is deleted from the kernel before it is on stable storage and replay reaches the registers. If they are
    not reached, everything is kept, nothing is deleted, and the exit status is 1.

    Without --once it goes on until SIGTERM or SIGINT, then drains once more and ends with status 0. It says what it
    does on standard error, errors too, and goes on by itself when their cause is gone.
    """
    if method not in _METHODS:
        raise UsageError(f"unknown method {method!r}; choose {', '.join(_METHODS)}")
    hook = kill_at(os.environ.get(KILL_VARIABLE))
    lists = ImaDirectory(source, patience=wait)
    config = SourceConfig(
        name=str(lists.path),
        source=lists,
        store=store or default_store(),
        boot_id=boot_id(),
        registers=registers_of(lists.path, tcti),
        machine=machine_of(lists.path),
        method=_METHODS[method],
        schedule=Schedule(interval=interval, records=at_records),
        patience=_LOCK_PATIENCE,
        hook=hook,
    )
    if not once:
        return _go_on(config, as_json)
    result = config.keeper().once(config.method)
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


def _go_on(config: SourceConfig, as_json: bool) -> int:
    """Keep until a signal says to end."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    service = Service([config], on_event=_print_document if as_json else _print_line)
    service.start()
    try:
        while not stop.wait(1.0):
            service.check()
    finally:
        service.stop()
    return 0


def _print_document(event: ServiceEvent) -> None:
    sys.stdout.write(json.dumps(event.to_document(), separators=(",", ":")) + "\n")
    sys.stdout.flush()


def _print_line(event: ServiceEvent) -> None:
    text = event.detail
    if event.result is not None:
        result = event.result
        text = f"{result.verdict}: kept {result.kept_records}, freed {result.freed_records}: {text}"
    sys.stderr.write(f"imarium: {event.kind}: {text}\n")
    sys.stderr.flush()


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
