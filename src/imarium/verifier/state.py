"""What a verifier remembers of a log between two appraisals.

A :class:`~imarium.chain.ChainState` document with one more member, ``log``: the root of trust the log belongs to and
what was learned of its beginning. The registers' values are the attested ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from imarium.chain import ChainState
from imarium.errors import MalformedInput

__all__ = ["LogIdentity", "VerifierState"]


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """Which log it is: the AK's Name and the TPM's reset count, which together stand for one life of the registers.

    ``clock`` is the TPM's clock in milliseconds at the last quote and only grows within that life. ``begins`` is the
    name of the log's first record.
    """

    ak: bytes
    reset_count: int
    clock: int
    begins: str


@dataclass(frozen=True, slots=True)
class VerifierState:
    """Where an appraisal of one log stands."""

    chain: ChainState
    log: LogIdentity

    def to_document(self) -> dict[str, object]:
        """The state as a JSON document."""
        return {
            **self.chain.to_document(),
            "log": {
                "ak": self.log.ak.hex(),
                "reset_count": self.log.reset_count,
                "clock": self.log.clock,
                "begins": self.log.begins,
            },
        }

    @classmethod
    def from_document(cls, document: object) -> "VerifierState":
        """The state in a JSON document. Raises MalformedInput."""
        chain = ChainState.from_document(document)
        log = document.get("log") if isinstance(document, Mapping) else None
        if not isinstance(log, Mapping):
            raise _malformed("a member 'log', which imarium verify writes", "none")
        name = log.get("ak")
        try:
            ak = bytes.fromhex(name) if isinstance(name, str) else b""
        except ValueError:
            ak = b""
        if not ak:
            raise _malformed("the Name of an AK in hexadecimal", repr(name)[:40])
        begins = log.get("begins")
        if not isinstance(begins, str):
            raise _malformed("the name of the log's first record", repr(begins)[:40])
        return cls(chain, LogIdentity(ak, _number(log, "reset_count"), _number(log, "clock"), begins))


def _number(log: Mapping[str, object], name: str) -> int:
    value = log.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
        raise _malformed(f"{name} to be a number", repr(value)[:40])
    return value


def _malformed(expected: str, found: str) -> MalformedInput:
    return MalformedInput("state", offset=0, expected=expected, found=found)
