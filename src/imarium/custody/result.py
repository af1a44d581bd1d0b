"""What a run of custody did, for people and programs."""

from dataclasses import dataclass

from imarium.chain import ChainState
from imarium.custody.continuity import Verdict
from imarium.custody.gap import Gap
from imarium.custody.log import Log
from imarium.custody.proof import Proof
from imarium.custody.source import Method
from imarium.formats.registers import PcrIndex

__all__ = ["KeepResult", "Progress"]


@dataclass(frozen=True, slots=True)
class KeepResult:
    """What a run did. ``records`` and ``bytes`` are the log's size; ``log`` is None if there is nothing to keep yet.

    ``registers`` are those that vouch for the log up to its end; there are some only if the verdict is ``proven``.
    ``reason`` says on what grounds the verdict stands, ``method_reason`` why the method was chosen. ``machine`` says
    what a person should know of the machine, such as that a snapshot of it was restored; it is empty otherwise. ``gap``
    is what was found missing.
    """

    method: Method
    method_reason: str
    log: int | None
    kept_records: int
    kept_bytes: int
    freed_records: int
    freed_bytes: int
    records: int
    bytes: int
    verdict: Verdict
    registers: tuple[PcrIndex, ...]
    reason: str
    machine: str = ""
    gap: Gap | None = None

    def to_document(self) -> dict[str, object]:
        """The result as a JSON document."""
        return {
            "method": self.method,
            "method_reason": self.method_reason,
            "log": self.log,
            "kept": {"records": self.kept_records, "bytes": self.kept_bytes},
            "freed": {"records": self.freed_records, "bytes": self.freed_bytes},
            "total": {"records": self.records, "bytes": self.bytes},
            "verdict": self.verdict,
            "registers": list(self.registers),
            "reason": self.reason,
            "machine": self.machine,
            "gap": self.gap.to_document() if self.gap else None,
        }


@dataclass(slots=True)
class Progress:
    """What a run has done so far. ``state`` is the replay up to the log's end, None if its start is unknown.

    ``registers`` are those that prove the log.
    """

    log: Log
    state: ChainState | None
    registers: tuple[PcrIndex, ...] = ()
    kept_records: int = 0
    kept_bytes: int = 0
    freed_records: int = 0
    freed_bytes: int = 0

    @property
    def start(self) -> ChainState:
        """Where the next replay begins; without register values if the log's start is unknown."""
        return self.state or ChainState(self.log.records)

    def count(self, proof: Proof, size: int) -> None:
        """Count what was just kept."""
        self.registers = proof.registers or self.registers
        self.log.grow(proof.records, size)
        self.kept_records += proof.records
        self.kept_bytes += size
        self.state = proof.state if self.state else None
