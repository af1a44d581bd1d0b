"""``imarium registers``: measurement registers and their event logs."""

import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from imarium import durable, hashes
from imarium.cli.options import Json, hex_bytes
from imarium.cli.output import console, emit_json, progress_console
from imarium.cli.providers import named_provider
from imarium.errors import MalformedInput, UsageError
from imarium.fuse import mount as mount_tree
from imarium.registers import (
    DEFAULT_REGISTERS,
    Access,
    FileRegisters,
    LoggedProvider,
    Register,
    RegisterTree,
    Verification,
    default_directory,
    find_register,
)
from imarium.registers.text import PAGE

__all__ = ["app"]

app = typer.Typer(
    help="List, read, extend and serve measurement registers and their event logs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Named = Annotated[
    str | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        envvar="IMARIUM_REGISTERS",
        help="tsm:DEVICE, tsm:DIR, file:PATH, or a root of trust [default: the one device with registers].",
    ),
]
Logs = Annotated[
    Path | None,
    typer.Option("--log", metavar="DIR", help="The event logs [default: below /var/lib/imarium/registers for root]."),
]
RegisterName = Annotated[str, typer.Argument(metavar="REGISTER", help="NAME, or NAME:HASH.")]


@app.command("list")
def list_(provider: Named = None, json: Json = False) -> None:
    """Show the registers, what may be done with them, and their values."""
    found = named_provider(provider)
    registers = found.registers()
    values = {register: found.read(register) if register.readable else None for register in registers}
    if json:
        rows = [_described(register) | {"value": value and value.hex()} for register, value in values.items()]
        emit_json({"provider": found.name, "registers": rows})
        return
    table = Table("register", "size", "hash", "flags", "value", box=None, pad_edge=False)
    for register, value in values.items():
        algorithm = register.hash.name if register.hash else "-"
        shown = value.hex() if value is not None else "-"
        table.add_row(register.key, str(register.size), algorithm, register.access.letters, shown)
    console().print(table, markup=False)


@app.command()
def read(
    register: RegisterName,
    provider: Named = None,
    logs: Logs = None,
    events: Annotated[bool, typer.Option("--events", help="Print the register's event log instead.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Print the bytes, not hexadecimal.")] = False,
    json: Json = False,
) -> None:
    """Print a register's value, or its event log."""
    logged, found = _register(provider, logs, register)
    if events:
        log = logged.log(found)
        content = log.read(0, log.settled_size())
    else:
        content = logged.provider.read(found)
    if json:
        shown = content.decode("utf-8", "backslashreplace").splitlines() if events else content.hex()
        emit_json(_described(found) | {"events" if events else "value": shown})
    elif raw or events:
        sys.stdout.buffer.write(content)
    else:
        console().print(content.hex(), markup=False)


@app.command()
def extend(
    register: RegisterName,
    digest: Annotated[str, typer.Argument(metavar="HEX", help="As many bytes as the register has.")],
    provider: Named = None,
    logs: Logs = None,
    json: Json = False,
) -> None:
    """Extend a digest without an event. The log notes it and is out of step until the next append."""
    logged, found = _register(provider, logs, register)
    value = logged.log(found).extend(hex_bytes("the digest", digest))
    if json:
        emit_json({"register": found.key, "value": value.hex()})
    else:
        console().print(value.hex(), markup=False)


@app.command()
def append(
    register: RegisterName,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="The events [default: standard input].")] = None,
    provider: Named = None,
    logs: Logs = None,
    json: Json = False,
) -> None:
    """Log lines of text, at most a page, and extend each: all but empty ones, and comments, which start with #."""
    logged, found = _register(provider, logs, register)
    content = sys.stdin.buffer.read(PAGE + 1) if text is None else text.encode("utf-8", "surrogateescape")
    done = logged.log(found).append(content)
    if json:
        counts = {"lines": done.lines, "events": done.events, "synced": done.synced}
        emit_json({"register": found.key, **counts, "value": done.value.hex()})
    else:
        console().print(f"{done.lines} lines logged, {done.events} extended; {done.value.hex()}", markup=False)


@app.command()
def verify(
    register: RegisterName,
    provider: Named = None,
    logs: Logs = None,
    start: Annotated[
        int | None, typer.Option("--from", metavar="LINE", min=1, help="Replay from the SYNC line with this number.")
    ] = None,
    value: Annotated[
        str | None, typer.Option("--value", metavar="HEX", help="An older value, such as a quote's [default: now].")
    ] = None,
    json: Json = False,
) -> int:
    """Replay the event log against the register. Status 1 if it does not lead to the register's value.

    With --value, events may follow those that the value covers. They are unverified.
    """
    logged, found = _register(provider, logs, register)
    log = logged.log(found)
    wanted = None if value is None else hex_bytes("--value", value)
    if wanted is not None and len(wanted) != found.size:
        raise UsageError(f"--value has {len(wanted)} bytes; {found.key} has {found.size}")
    done = log.verify(wanted, start=start)
    if start is not None and done.start is None:
        raise UsageError(f"line {start} of {log.path} is not a SYNC line; leave out --from, or name one that is")
    passed = done.in_step if value is None else done.unbroken and not done.noted
    reason = _reason(done, log.path, passed=passed)
    if json:
        emit_json(
            {
                "register": found.key,
                "verdict": "pass" if passed else "fail",
                "reason": reason,
                "start": done.start,
                "covered": done.covered,
                "events": done.events,
                "unverified": done.unverified,
                "gaps": [{"line": gap.line, "explained": gap.explained} for gap in done.gaps],
                "log": str(log.path),
            }
        )
    else:
        console().print(f"{found.key}: {'pass' if passed else 'fail'}: {reason}", markup=False)
    return 0 if passed else 1


@app.command()
def mount(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An empty directory.")],
    provider: Named = None,
    logs: Logs = None,
    allow_other: Annotated[bool, typer.Option("--allow-other", help="Let other users in.")] = False,
) -> None:
    """Serve registers and event logs as a tree of files, until interrupted."""
    found = named_provider(provider)
    found.registers()
    logged = LoggedProvider(found, logs or default_directory(found))
    note = progress_console()
    mount_tree(
        RegisterTree([logged]),
        directory,
        fsname="imarium-registers",
        ready=lambda: note.print(f"mounted at {directory}; interrupt to unmount", markup=False),
        allow_other=allow_other,
    )


@app.command()
def create(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The new file.")],
    registers: Annotated[
        list[str] | None,
        typer.Option(
            "--register",
            metavar="NAME[:HASH][=FLAGS]",
            help="With flags of XWRL [default: XWRL, and WR without HASH]; may be repeated.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make a file of software registers, by default like those of a TDX guest. They prove nothing to others."""
    made = FileRegisters.create(path, [*map(_wanted, registers)] if registers else DEFAULT_REGISTERS)
    if json:
        emit_json({"path": str(path), "registers": [_described(register) for register in made.registers()]})
    else:
        console().print(f"made {path}; use it with --provider file:{path}", markup=False)


def _register(provider: str | None, logs: Path | None, name: str) -> tuple[LoggedProvider, Register]:
    found = named_provider(provider)
    return LoggedProvider(found, logs or default_directory(found)), find_register(found, name)


def _wanted(text: str) -> Register:
    match = re.fullmatch(r"([^:=]+)(?::([^:=]+))?(?:=([XWRL]+))?", text)
    if match is None:
        raise UsageError(f"{text!r} is not NAME[:HASH][=FLAGS], such as rtmr0:sha384=XWRL")
    name, algorithm, letters = match.groups()
    found = hashes.by_name(algorithm) if algorithm else None
    access = Access(0)
    for letter in letters or ("XWRL" if found else "WR"):
        access |= Access[letter]
    try:
        return Register(name, found.size if found else hashes.SHA384.size, found, access)
    except MalformedInput as error:
        raise UsageError(f"--register {text!r}: expected {error.expected}, found {error.found}") from error


def _described(register: Register) -> dict[str, object]:
    return {
        "register": register.key,
        "name": register.name,
        "size": register.size,
        "hash": register.hash.name if register.hash else None,
        "flags": [flag.name for flag in register.flags],
        "access": register.access.letters.replace("-", ""),
    }


def _reason(done: Verification, log: Path, *, passed: bool) -> str:
    broken = [gap.line for gap in done.gaps if not gap.explained]
    if done.start is None:
        return _no_start(log)
    if done.noted:
        return "out of step: extended since without an event; the next append writes a SYNC line"
    if done.covered is None:
        return "out of step: the log does not lead to the register's value; the next append writes a SYNC line"
    if broken:
        return f"out of step before line {broken[-1]}; events from there on are verified with --from {broken[-1]}"
    if not passed:
        return f"out of step: {done.unverified} events after line {done.covered} were never extended"
    beyond = f", {done.unverified} after it unverified" if done.unverified else ""
    return f"{done.events} events from line {done.start} to {done.covered} verified{beyond}"


def _no_start(log: Path) -> str:
    if durable.is_there(log):
        return "the log has no SYNC line to replay from; append an event first"
    return f"there is no event log {log}; append an event first, or name its directory with --log"
