"""Register values as people and tools hand them over.

The text that ``tpm2_pcrread`` prints, and ``REGISTER:BANK=HEX`` on a command line.
"""

import re
from collections.abc import Iterable

from imarium import hashes
from imarium.errors import MalformedInput, UsageError
from imarium.formats.registers import LIST_PCRS, PcrIndex
from imarium.hashes import HashAlgorithm

__all__ = ["parse_pcr_option", "parse_pcrread"]

_BANK = re.compile(r" *(?P<bank>[a-z0-9_-]+) *: *", re.ASCII)
_VALUE = re.compile(r" *(?P<pcr>\d{1,2}) *: *0x(?P<value>[0-9A-Fa-f]+) *", re.ASCII)
_OPTION = re.compile(r"(?P<pcr>\d{1,2}):(?P<bank>[A-Za-z0-9_-]+)=(?:0x)?(?P<value>[0-9A-Fa-f]+)", re.ASCII)


def parse_pcrread(text: str) -> dict[PcrIndex, dict[HashAlgorithm, bytes]]:
    """The values in the output of ``tpm2_pcrread``, by register and bank. Raises MalformedInput.

    The output is a line per bank, its name and a colon, then a line ``N : 0xHEX`` per register. Banks that have no
    register selected are left out.
    """
    values: dict[PcrIndex, dict[HashAlgorithm, bytes]] = {}
    bank: HashAlgorithm | None = None
    offset = 0
    for line in text.split("\n"):
        found = _VALUE.fullmatch(line)
        if found is not None and bank is not None:
            pcr, value = _value(found, bank, offset)
            if bank in values.setdefault(pcr, {}):
                raise _malformed(offset, f"register {pcr} once in bank {bank.name}", "a second value")
            values[pcr][bank] = value
        elif line.strip():
            heading = _BANK.fullmatch(line)
            if heading is None:
                raise _malformed(offset, "the name of a bank with a colon, or 'N : 0xHEX'", repr(line[:60]))
            try:
                bank = hashes.by_name(heading["bank"])
            except UsageError as error:
                raise _malformed(offset, "the name of a bank", repr(line[:60])) from error
        offset += len(line.encode("utf-8", "surrogatepass")) + 1
    if not values:
        raise _malformed(0, "register values as tpm2_pcrread prints them", "none")
    return values


def parse_pcr_option(options: Iterable[str]) -> dict[PcrIndex, dict[HashAlgorithm, bytes]]:
    """The values in options such as ``10:sha256=HEX``, by register and bank. Raises UsageError."""
    values: dict[PcrIndex, dict[HashAlgorithm, bytes]] = {}
    for option in options:
        found = _OPTION.fullmatch(option)
        if found is None:
            raise UsageError(f"{option!r}: a register value is REGISTER:BANK=HEX, such as 10:sha256=8f0a...")
        bank = hashes.by_name(found["bank"])
        try:
            pcr, value = _value(found, bank, 0)
        except MalformedInput as error:
            raise UsageError(f"{option!r}: expected {error.expected}, found {error.found}") from error
        if values.setdefault(pcr, {}).setdefault(bank, value) != value:
            raise UsageError(f"register {pcr} has two values in bank {bank.name}")
    return values


def _value(found: re.Match[str], bank: HashAlgorithm, offset: int) -> tuple[PcrIndex, bytes]:
    pcr, digits = int(found["pcr"]), found["value"]
    if pcr >= LIST_PCRS:
        raise _malformed(offset, f"a register below {LIST_PCRS}", str(pcr))
    if len(digits) != 2 * bank.size:
        raise _malformed(offset, f"{2 * bank.size} hexadecimal digits for {bank.name}", str(len(digits)))
    return PcrIndex(pcr), bytes.fromhex(digits)


def _malformed(offset: int, expected: str, found: str) -> MalformedInput:
    return MalformedInput("register values", offset=offset, expected=expected, found=found)
