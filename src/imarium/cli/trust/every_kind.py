"""What several kinds of roots of trust share of the options that say what ``imarium verify`` trusts."""

import re
import ssl
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated

import typer

from imarium.cli.documents import read_bytes
from imarium.cli.options import hex_bytes
from imarium.errors import MalformedInput, UsageError
from imarium.formats.registers import LIST_PCRS, PcrIndex
from imarium.formats.tpm import Public, parse_public, parse_public_area
from imarium.verifier.certificates import load_certificate

__all__ = ["EveryKind", "ListAnchoring", "moment", "read_certificate", "read_root", "read_tpm_key"]

_EVERY = "all"
_PEM = b"-----BEGIN"
_NAMED = re.compile(r"(?P<kind>rtmr|rem)(?P<number>[0-3])", re.ASCII)


@dataclass(frozen=True)
class EveryKind:
    """The options that are not of one kind alone."""

    ak: Annotated[
        Path | None, typer.Option("--ak", metavar="FILE", help="The attestation key you trust: its TPM2B_PUBLIC.")
    ] = None
    at: Annotated[
        int | None,
        typer.Option("--time", metavar="SECONDS", help="Certificates are to be good at this Unix time [default: now]."),
    ] = None
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="N=REGISTER",
            help="Records with N in the list's register column are in this RTMR or slot, by number, or by name such as "
            "rtmr2 or rem0; all=REGISTER for the rest.",
        ),
    ] = None
    initial: Annotated[
        list[str] | None,
        typer.Option("--initial", metavar="REGISTER=HEX", help="What an RTMR or slot held before the first record."),
    ] = None
    bridged: Annotated[
        bool, typer.Option("--bridged", help="A bridge extended the list: its boot_aggregate is not compared.")
    ] = False

    @property
    def now(self) -> int:
        """The time of the appraisal, in seconds of Unix time."""
        return _seconds(self.at)

    @cached_property
    def anchoring(self) -> "ListAnchoring":
        """How the list was extended. Raises UsageError."""
        return ListAnchoring.from_options(self.column or (), self.initial or (), bridged=self.bridged)

    @cached_property
    def trusted_ak(self) -> Public | None:
        """The attestation key, if one is given. Raises MalformedInput and MissingComponent."""
        return None if self.ak is None else read_tpm_key(self.ak, "the AK's TPM2B_PUBLIC (ak.pub)")


@dataclass(frozen=True, slots=True)
class ListAnchoring:
    """How a list was extended into registers: which one for a number in its register column, and what it held before.

    ``columns`` and ``initial`` are empty where the kind's own rule holds. ``otherwise`` is the register of columns
    that ``columns`` does not name, or None.
    """

    columns: dict[PcrIndex, int]
    otherwise: int | None
    initial: dict[int, bytes]
    bridged: bool

    @classmethod
    def from_options(cls, column: Collection[str], initial: Collection[str], *, bridged: bool) -> "ListAnchoring":
        """From ``COLUMN=REGISTER`` or ``all=REGISTER``, and ``REGISTER=HEX``. Raises UsageError."""
        columns: dict[PcrIndex, int] = {}
        otherwise = None
        for text in column:
            left, register = _pair("--column", text, "COLUMN=REGISTER")
            if left == _EVERY:
                otherwise = _register("--column", register)
            else:
                columns[PcrIndex(_small("--column", left))] = _register("--column", register)
        pairs = [_pair("--initial", text, "REGISTER=HEX") for text in initial]
        values = {_register("--initial", left): hex_bytes("--initial", value) for left, value in pairs}
        return cls(columns, otherwise, values, bridged)

    def every_column(self) -> dict[PcrIndex, int]:
        """The register of each column that goes into one."""
        others = {} if self.otherwise is None else dict.fromkeys(map(PcrIndex, range(LIST_PCRS)), self.otherwise)
        return others | self.columns


def moment(at: int | None) -> datetime:
    """A time in seconds of Unix time, or now, with its time zone. Raises UsageError for one that no calendar has."""
    try:
        return datetime.fromtimestamp(_seconds(at), UTC)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{at} is not a time in seconds since 1970, up to the year 9999") from None


def _seconds(at: int | None) -> int:
    return int(time.time()) if at is None else at


def read_tpm_key(path: Path, what: str) -> Public:
    """The key in a file: TPM2B_PUBLIC or TPMT_PUBLIC. Raises MalformedInput, naming ``what``, and MissingComponent."""
    data = read_bytes(path)
    if data.startswith(_PEM):
        found = "PEM, which does not say that the key is restricted"
        raise MalformedInput(str(path), offset=0, expected=what, found=found)
    try:
        return parse_public(data)
    except MalformedInput as error:
        try:
            return parse_public_area(data)
        except MalformedInput:
            expected = f"{what}: {error.expected}"
            raise MalformedInput(str(path), offset=error.offset, expected=expected, found=error.found) from error


def read_certificate(path: Path) -> bytes:
    """A certificate in DER or PEM, as DER. Raises MalformedInput for other PEM, and MissingComponent."""
    data = read_bytes(path)
    if not data.startswith(_PEM):
        return data
    try:
        return ssl.PEM_cert_to_DER_cert(data.decode("ascii").strip())
    except (ValueError, UnicodeDecodeError) as error:
        raise MalformedInput(
            str(path), offset=0, expected="one certificate in PEM or DER", found="other PEM"
        ) from error


def read_root(path: Path) -> bytes:
    """A certificate that the caller trusts, as :func:`read_certificate`. Raises MalformedInput for what is none.

    Another that cannot be read is a fault of the evidence's; this one's is the caller's.
    """
    data = read_certificate(path)
    try:
        load_certificate(data)
    except MalformedInput as error:
        raise MalformedInput(str(path), offset=error.offset, expected=error.expected, found=error.found) from error
    return data


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not (left and equals and right):
        raise UsageError(f"{option} {text!r} is not {form}")
    return left, right


def _register(option: str, text: str) -> int:
    """An RTMR or slot: its number, ``rtmrN`` for RTMR N, or ``remN`` for slot N + 1."""
    named = _NAMED.fullmatch(text)
    if named is not None:
        return int(named["number"]) + (named["kind"] == "rem")
    if text.isascii() and text.isdigit():
        return _small(option, text)
    raise UsageError(f"{option}: {text!r} is no register; give its number, rtmr0 to rtmr3 or rem0 to rem3")


def _small(option: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 2 and int(text) < LIST_PCRS):
        raise UsageError(f"{option}: {text!r} is not a register number below {LIST_PCRS}")
    return int(text)
