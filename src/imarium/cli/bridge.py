"""``imarium rot bridge``: extend a measurement list into a register that the kernel does not feed."""

import json as json_format
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import typer

from imarium.chain import ChainState
from imarium.cli.lists import HEAD, ListFile, ListOptions
from imarium.cli.options import Json, SourceDirectory, hex_bytes
from imarium.cli.output import console, emit_json, progress_console
from imarium.cli.providers import named_anchor
from imarium.custody import Custody, StoreBusy
from imarium.custody.machine import boot_id, registers_of
from imarium.errors import RefusedOperation, UsageError
from imarium.formats.lists import ListKind, detect_form, read_frames
from imarium.formats.records import ListLayout
from imarium.formats.registers import IMA_PCR
from imarium.hashes import SHA1
from imarium.registers import Provider, Register, RegisterBusy, RegisterInterrupted, default_directory
from imarium.rot.bridge import Bridge, Progress
from imarium.rot.bridge_chain import Coverage, Listing, cover
from imarium.rot.bridge_state import StateFile
from imarium.securityfs import ImaDirectory, ListBusy

__all__ = ["bridge"]

_LOOK_AGAIN = 10.0
"""Seconds after which the list is read though its count is the same: it can have been drained and grown back."""


Anchor = Annotated[
    str,
    typer.Option(
        "--rot",
        metavar="NAME[:REGISTER]",
        help="A root of trust, such as tdx:rtmr3, or tsm:DEVICE:REGISTER, tsm:DIR:REGISTER, file:PATH:REGISTER.",
    ),
]
Drained = Annotated[
    Path | None, typer.Option("--store", metavar="DIR", help="The store of imarium keep, where that drains the list.")
]
Position = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="Where the position is kept [default: beside the event logs]."),
]
Interval = Annotated[
    float, typer.Option("--interval", metavar="SECONDS", min=0.01, help="How often to look for new records.")
]
Anew = Annotated[
    bool, typer.Option("--begin", help="Forget the position: take the present value for the initial one, begin anew.")
]
Exported = Annotated[
    str | None,
    typer.Option("--verify", metavar="LIST", help="Extend nothing: replay LIST from the initial value and match."),
]
Initial = Annotated[
    str | None, typer.Option("--initial", metavar="HEX", help="With --verify: the initial value [default: noted].")
]
Value = Annotated[
    str | None, typer.Option("--value", metavar="HEX", help="With --verify: the register's value [default: now].")
]


def bridge(
    rot: Anchor,
    source: SourceDirectory = None,
    store: Drained = None,
    state: Position = None,
    once: Annotated[bool, typer.Option("--once", help="Extend what is there and exit.")] = False,
    interval: Interval = 0.5,
    begin: Anew = False,
    verify: Exported = None,
    initial: Initial = None,
    value: Value = None,
    json: Json = False,
) -> int:
    """Extend every record of a measurement list into a register that the kernel does not feed, and follow the list.

    The register's value before the first extend is noted, and how far the bridge has come. After a crash the register
    itself tells how many records were extended; none is skipped or extended twice. If its value is one that the list
    does not lead to, someone else extended it: nothing more is extended, and the status is 1.

    There are two windows: before the bridge starts, and between a record and its extend. Someone with root in such a
    window can leave records out, so the register proves less than one that the kernel feeds. With --json, following
    prints a line for each step; status 1 of --verify says that LIST does not lead to the register's value.
    """
    if verify is not None and (once or begin or source is not None or store is not None):
        raise UsageError("--verify extends nothing: leave out --source, --store, --once and --begin")
    if verify is None and (initial is not None or value is not None):
        raise UsageError("--initial and --value go with --verify")
    with named_anchor(rot) as (provider, register):
        place = StateFile(state or default_directory(provider), provider, register)
        if verify is not None:
            return _verify(verify, provider, register, place, initial=initial, value=value, json=json)
        lists = ImaDirectory(source)
        boot = boot_id()
        feed = Bridge(provider, register, place, boot_id=boot, anew=begin)
        look = _reader(lists, store, boot)
        with place.lock():
            if once:
                _show(feed.advance(look()), register, place, json=json, line=False)
            else:
                _follow(feed, lists, look, interval, lambda done: _show(done, register, place, json=json, line=True))
    return 0


def _reader(lists: ImaDirectory, store: Path | None, boot: str) -> Callable[[], Listing]:
    """What reads the list: as the source has it, or behind what custody has kept of it."""
    if store is None:

        def plain() -> Listing:
            with lists.snapshot() as both:
                data = [*both.staged(), *both.current()]
            return Listing(_layout(data), lambda: data)

        return plain
    custody = Custody(store)

    def kept() -> Listing:
        whole = custody.whole(lists, boot_id=boot, registers=registers_of(lists.path))
        if whole.verdict == "refused":
            raise RefusedOperation(f"{store} does not vouch for the list: {whole.reason}; see imarium log status")
        reset = whole.log is not None and whole.log.meta.start == "reset"
        return Listing(whole.layout, whole.blocks, whole=reset)

    return kept


def _layout(data: Sequence[bytes]) -> ListLayout:
    head = bytes(islice(chain.from_iterable(data), HEAD))
    return detect_form(head, complete=False, kind=ListKind.BINARY, digest=SHA1).layout


def _follow(
    feed: Bridge,
    lists: ImaDirectory,
    look: Callable[[], Listing],
    interval: float,
    show: Callable[[Progress], None],
) -> None:
    """Look again and again until a signal says to end. What is busy is tried again; other errors end it."""
    ended = threading.Event()
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    count, due, waiting = -1, 0.0, False
    try:
        while not ended.is_set():
            try:
                now = lists.count()
                if now != count or time.monotonic() >= due:
                    done = feed.advance(look(), ended.is_set)
                    count, due = now, time.monotonic() + _LOOK_AGAIN
                    if done.begun or done.extended or done.found:
                        show(done)
                waiting = False
            except (ListBusy, StoreBusy, RegisterBusy, RegisterInterrupted) as busy:
                if not waiting:
                    progress_console().print(f"imarium: {busy}; trying again", markup=False, soft_wrap=True)
                count, waiting = -1, True
            ended.wait(interval)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(done: Progress, register: Register, place: StateFile, *, json: bool, line: bool) -> None:
    document = {
        "register": register.key,
        "initial": done.state.initial.hex(),
        "start": _start(register, done.state.initial),
        "value": done.state.value.hex(),
        "records": done.state.records,
        "extended": done.extended,
        "found": done.found,
        "pending": done.pending,
        "begun": done.begun,
        "state": str(place.path),
    }
    if json and line:
        sys.stdout.write(json_format.dumps(document) + "\n")
    elif json:
        emit_json(document)
    else:
        out = console()
        if done.begun:
            out.print(f"{register.key} begins at {done.state.initial.hex()}", markup=False)
        earlier = f", {done.found} found extended" if done.found else ""
        out.print(f"{done.extended} extended{earlier}; {done.state.records} records in {register.key}", markup=False)
    sys.stdout.flush()


def _verify(
    path: str,
    provider: Provider,
    register: Register,
    place: StateFile,
    *,
    initial: str | None,
    value: str | None,
    json: bool,
) -> int:
    if register.hash is None:
        raise UsageError(f"{register.key} has no hash algorithm; name a run-time register")
    start = _noted(place) if initial is None else _of_size("--initial", initial, register)
    wanted = provider.read(register) if value is None else _of_size("--value", value, register)
    with ListFile(path, ListOptions(), quiet=json) as listed:
        found = cover(read_frames(listed.blocks, listed.form), listed.form.layout, register.hash, start, wanted)
    passed = bool(found.covered) and not found.bad_digests
    reason = _reason(found)
    if json:
        emit_json(
            {
                "register": register.key,
                "verdict": "pass" if passed else "fail",
                "reason": reason,
                "records": found.records,
                "covered": found.covered,
                "unverified": found.unverified,
                "violations": found.violations,
                "bad_digests": list(found.bad_digests),
                "initial": start.hex(),
                "start": _start(register, start),
                "value": wanted.hex(),
            }
        )
    else:
        console().print(f"{register.key}: {'pass' if passed else 'fail'}: {reason}", markup=False)
    return 0 if passed else 1


def _start(register: Register, initial: bytes) -> dict[str, object]:
    """The state for imarium replay --from, with the register in the place of PCR 10."""
    banks = {register.hash: initial} if register.hash else {}
    return ChainState(0, {IMA_PCR: banks}).to_document()


def _reason(found: Coverage) -> str:
    if found.covered is None:
        return "no number of the list's records leads from the initial value to the register's"
    if not found.covered:
        return "the register has its initial value: no record was extended"
    if found.bad_digests:
        return f"the template digest of record {found.bad_digests[0]} is not the one its data gives"
    return f"the first {found.covered} of {found.records} records are covered, {found.unverified} are unverified"


def _noted(place: StateFile) -> bytes:
    noted = place.load()
    if noted is None:
        raise UsageError(f"{place.path}: no bridge has begun; give the initial value with --initial, or --state")
    return noted.initial


def _of_size(option: str, text: str, register: Register) -> bytes:
    data = hex_bytes(option, text)
    if len(data) != register.size:
        raise UsageError(f"{option} has {len(data)} bytes; {register.key} has {register.size}")
    return data
