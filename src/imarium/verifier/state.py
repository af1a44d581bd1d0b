"""What a verifier remembers of a log between two appraisals.

A :class:`~imarium.chain.ChainState` document with one more member, ``log``: the root of trust the log belongs to and
what was learned of its beginning. The registers' values are the attested ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from imarium.chain import ChainState
from imarium.errors import MalformedInput

__all__ = ["LogIdentity", "VerifierState"]


_FIRST_FORM = ("kind", "ak", "reset_count")
"""Members of states that name no kind: TPM was the only one."""


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """Which log it is: one life of the registers of one root of trust.

    ``kind`` is that of the root of trust and ``root`` identifies it: for a TPM the AK's Name. ``resets`` differs
    between two lives and ``clock`` only grows within one: for a TPM its reset count, and its clock in milliseconds at
    the last quote; both are 0 where a quote has nothing of the kind. ``begins`` is the name of the log's first record.
    """

    kind: str
    root: bytes
    resets: int
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
                "kind": self.log.kind,
                "root": self.log.root.hex(),
                "resets": self.log.resets,
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
        begins = log.get("begins")
        if not isinstance(begins, str):
            raise _malformed("the name of the log's first record", repr(begins)[:40])
        kind, root, resets = ("kind", "root", "resets") if "kind" in log else _FIRST_FORM
        identity = LogIdentity(
            _kind(log.get(kind, "tpm")), _root(log.get(root)), _number(log, resets), _number(log, "clock"), begins
        )
        return cls(chain, identity)


def _kind(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise _malformed("the kind of a root of trust", repr(value)[:40])
    return value


def _root(value: object) -> bytes:
    try:
        root = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        root = b""
    if not root:
        raise _malformed("what identifies a root of trust, such as the Name of an AK, in hexadecimal", repr(value)[:40])
    return root


def _number(log: Mapping[str, object], name: str) -> int:
    value = log.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
        raise _malformed(f"{name} to be a number", repr(value)[:40])
    return value


def _malformed(expected: str, found: str) -> MalformedInput:
    return MalformedInput("state", offset=0, expected=expected, found=found)
