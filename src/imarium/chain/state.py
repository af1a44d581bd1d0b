"""The state a replay can be resumed from, and its JSON form.

    {"type": "imarium-state", "version": 1, "records": 1200,
     "registers": {"10": {"sha1": "<hex>", "sha256": "<hex>"}}}

``records`` is how many records of the log lie before the state, ``registers`` the values they led to. A register that
is not named has its initial value. Other members are left to whoever wrote the document.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from imarium import hashes
from imarium.chain.registers import RegisterValues, initial_value
from imarium.errors import MalformedInput, UsageError
from imarium.formats.registers import LIST_PCRS, PcrIndex
from imarium.hashes import HashAlgorithm

__all__ = ["STATE_TYPE", "STATE_VERSION", "ChainState"]

STATE_TYPE = "imarium-state"
STATE_VERSION = 1

_MAX_RECORDS = 1 << 62
_REGISTER_NAMES = frozenset(map(str, range(LIST_PCRS)))


@dataclass(frozen=True, slots=True)
class ChainState:
    """Where a replay stands: after ``records`` records, the registers have ``values``."""

    records: int = 0
    values: RegisterValues = field(default_factory=dict)

    def value(self, pcr: PcrIndex, bank: HashAlgorithm) -> bytes:
        """The value of one register in one bank; its initial value if no record before the state extended it.

        Raises UsageError if the state knows the register but not in this bank.
        """
        banks = self.values.get(pcr)
        if banks is None:
            return initial_value(pcr, bank)
        try:
            return banks[bank]
        except KeyError:
            known = ", ".join(algorithm.name for algorithm in banks)
            raise UsageError(
                f"the state has register {pcr} in {known} only, not in {bank.name}; replay from the beginning"
            ) from None

    @property
    def banks(self) -> tuple[HashAlgorithm, ...]:
        """The banks that every register of the state has a value in."""
        per_register = [set(banks) for banks in self.values.values()]
        common = set.intersection(*per_register) if per_register else set()
        return tuple(algorithm for algorithm in hashes.ALGORITHMS if algorithm in common)

    def to_document(self) -> dict[str, object]:
        """The state as a JSON document."""
        return {
            "type": STATE_TYPE,
            "version": STATE_VERSION,
            "records": self.records,
            "registers": {
                str(pcr): {bank.name: value.hex() for bank, value in banks.items()}
                for pcr, banks in sorted(self.values.items())
            },
        }

    @classmethod
    def from_document(cls, document: object) -> "ChainState":
        """The state in a JSON document. Raises MalformedInput."""
        if not isinstance(document, Mapping) or document.get("type") != STATE_TYPE:
            raise _malformed(f"a JSON object with type {STATE_TYPE!r}", "something else")
        if document.get("version") != STATE_VERSION:
            raise _malformed(f"version {STATE_VERSION}", repr(document.get("version"))[:40])
        records = document.get("records")
        if not isinstance(records, int) or isinstance(records, bool) or not 0 <= records < _MAX_RECORDS:
            raise _malformed("a number of records", repr(records)[:40])
        registers = document.get("registers")
        if not isinstance(registers, Mapping):
            raise _malformed("an object of registers", type(registers).__name__)
        return cls(records, dict(_register(name, banks) for name, banks in registers.items()))


def _register(name: object, banks: object) -> tuple[PcrIndex, dict[HashAlgorithm, bytes]]:
    if not isinstance(name, str) or name not in _REGISTER_NAMES:
        raise _malformed(f"a register number below {LIST_PCRS}", repr(name)[:40])
    if not isinstance(banks, Mapping) or not banks:
        raise _malformed(f"an object of banks for register {name}", repr(banks)[:40])
    return PcrIndex(int(name)), dict(_values(banks.items()))


def _values(items: Iterable[tuple[object, object]]) -> Iterable[tuple[HashAlgorithm, bytes]]:
    for name, text in items:
        try:
            bank = hashes.by_name(str(name))
        except UsageError:
            raise _malformed("the name of a bank", repr(name)[:40]) from None
        if bank.name != name:
            raise _malformed(f"the bank's own name, {bank.name}", repr(name)[:40])
        try:
            value = bytes.fromhex(text) if isinstance(text, str) else b""
        except ValueError:
            value = b""
        if len(value) != bank.size:
            raise _malformed(f"{bank.size} bytes of {bank.name} in hexadecimal", repr(text)[:40])
        yield bank, value


def _malformed(expected: str, found: str) -> MalformedInput:
    return MalformedInput("state", offset=0, expected=expected, found=found)
