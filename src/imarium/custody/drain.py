"""Keep records in a log, and delete them from the kernel once they are kept: the order that loses nothing.

The order is that of :class:`~imarium.custody.steps.Step`. Whatever the step at which a run dies, the next run finds
each record in the log, in the kernel, or in both, and tells which by content and by replay.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from imarium.chain import RegisterValues
from imarium.custody.continuity import Verdict, registers_named
from imarium.custody.journal import Event
from imarium.custody.listing import Listing, skip, survey
from imarium.custody.log import Log
from imarium.custody.proof import Proof, ReadRegisters, prove
from imarium.custody.result import Progress
from imarium.custody.source import HeldLists, Method, read_all
from imarium.custody.steps import Hook, Step
from imarium.errors import MissingComponent
from imarium.securityfs import DeleteRefused, NothingToStage

__all__ = ["KEXEC", "TRIM_REFUSED", "Drain", "Outcome", "refuse", "store_and_prove", "store_undeleted"]

KEXEC = "a kexec is under way: what is kept now goes on to the next kernel, and nothing is deleted"
TRIM_REFUSED = "the kernel does not delete by number (ima_flush_htable), so not trim"


def store_and_prove(
    progress: Progress,
    blocks: Iterable[bytes],
    size: int,
    beyond: Iterable[bytes],
    values: RegisterValues,
    hook: Hook,
) -> Proof:
    """Append ``size`` bytes to the log, bring them to stable storage, read them back and replay them.

    They are replayed with ``beyond`` behind them, which was read after ``values``. No more than a block is held. Raises
    MissingComponent if they cannot be stored as they are.
    """
    log = progress.log
    if size:
        written = hashlib.sha256()

        def summed() -> Iterator[bytes]:
            for block in blocks:
                written.update(block)
                yield block

        log.append(summed(), size, halfway=lambda: hook(Step.HALF))
        hook(Step.APPENDED)
        log.sync()
        hook(Step.SYNCED)
        if _sum(log.appended(size)) != written.digest():
            raise MissingComponent(
                f"{log.list_path}: does not give back what was written; check the disk, then run again"
            )
    known = values if progress.state else {}
    back = log.appended(size)
    proof = prove(back, beyond, log.layout, start=progress.start, values=known, padded=log.meta.padded)
    hook(Step.CHECKED)
    return proof


def store_undeleted(progress: Progress, kernel: Listing, overlap: int, hook: Hook) -> str:
    """Keep all of ``kernel`` behind the first ``overlap`` bytes, which the log has. Returns what speaks against them.

    The caller notes it in the journal.
    """
    size = kernel.size - overlap
    if size <= 0:
        return ""
    proof = store_and_prove(progress, kernel.blocks(overlap), size, (), {}, hook)
    progress.count(proof, size)
    return proof.doubt()


def refuse(log: Log, boot_id: str, reason: str) -> None:
    """Note a refusal, once as long as nothing else happens."""
    last = log.journal.last
    if last is None or last.event is not Event.REFUSED or last.detail != reason or last.boot_id != boot_id:
        log.note(Event.REFUSED, boot_id, base=log.base, detail=reason)


class _Way(Enum):
    """How records leave the kernel, in words of the journal."""

    LEFTOVER = "found staged"
    STAGE = "stage"
    TRIM = "trim"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a drain ended. ``method`` is the one that was used in the end, and ``fallback`` why, if not the wanted."""

    verdict: Verdict
    reason: str
    method: Method
    fallback: str = ""


class Drain:
    """Drains what a source has into a log, whose continuity was decided, while the source is held."""

    def __init__(
        self, held: HeldLists, progress: Progress, *, registers: ReadRegisters, boot_id: str, hook: Hook
    ) -> None:
        self._held = held
        self._progress = progress
        self._registers = registers
        self._boot_id = boot_id
        self._hook = hook
        self._base = progress.log.bytes
        """The byte of the log at which the kernel's oldest record stands."""

    def run(self, overlap: int, verdict: Verdict, reason: str, method: Method) -> Outcome:
        """Drain what is found staged, and then the current list by ``method``.

        ``overlap`` is how many bytes of it all the log has already. The verdict given stands unless a register says
        otherwise. A list that another has staged is kept and deleted as our own.
        """
        refusal, fallback = "", ""
        if next(self._held.staged(), b""):
            overlap, refusal = self._cycle(overlap, verdict, _Way.LEFTOVER)
        if not refusal:
            try:
                overlap, refusal = self._cycle(overlap, verdict, _Way.TRIM if method == "trim" else _Way.STAGE)
            except DeleteRefused:
                method, fallback = "prompt", TRIM_REFUSED
                overlap, refusal = self._cycle(self._progress.log.bytes - self._base, verdict, _Way.STAGE)
        if refusal:
            return Outcome("refused", refusal, method, fallback)
        return Outcome(verdict, reason, method, fallback)

    def carry(self, verdict: Verdict, method: Method) -> Outcome:
        """Keep what a kernel that is about to be replaced still has; it goes on to the next one, nothing is deleted.

        To be called when :meth:`run` found measuring suspended. It notes where the next kernel's list will begin.
        """
        log = self._progress.log
        kernel = survey(lambda: read_all(self._held), log.layout)
        overlap = min(kernel.size, log.bytes - self._base)
        doubt = store_undeleted(self._progress, kernel, overlap, self._hook)
        state = self._progress.state
        log.note(Event.CARRIED, self._boot_id, base=log.bytes - kernel.size, state=state, detail=KEXEC)
        self._hook(Step.JOURNALED)
        return Outcome("refused" if doubt else verdict, doubt or KEXEC, method)

    def _cycle(self, overlap: int, verdict: Verdict, way: _Way) -> tuple[int, str]:
        """Keep and delete one list; how much of the log lies in the kernel behind it, and why not, if so."""
        log, held, hook = self._progress.log, self._held, self._hook
        self._base = base = log.bytes - overlap
        if way is not _Way.LEFTOVER and not next(held.current(), b""):
            return overlap, ""
        log.note(Event.INTENT, self._boot_id, base=base, detail=way.value)
        hook(Step.INTENT)
        if way is _Way.STAGE:
            try:
                held.stage()
            except NothingToStage:
                return overlap, ""
            hook(Step.STAGED)
        taken = survey(held.current if way is _Way.TRIM else held.staged, log.layout)
        values = self._registers(registers_named(log, taken, survey(held.current, log.layout)))
        hook(Step.READ)
        behind = max(0, overlap - taken.size)
        beyond = skip(held.current(), taken.size if way is _Way.TRIM else behind)
        size = max(0, taken.size - overlap)
        proof = store_and_prove(self._progress, taken.blocks(overlap), size, beyond, values, hook)
        self._progress.count(proof, size)
        next_base = log.bytes - behind
        # where none can be read any more, those stand that proved the log at the beginning of this run
        proved = () if proof.readable and not proof.complete else self._progress.registers
        log.note(
            Event.KEPT, self._boot_id, base=base, next_base=next_base, state=self._progress.state, registers=proved
        )
        hook(Step.JOURNALED)
        if doubt := self._doubt(proof, verdict, taken, base):
            refuse(log, self._boot_id, doubt)
            return behind, doubt
        self._delete(taken, way)
        hook(Step.DELETED)
        log.note(Event.DELETED, self._boot_id, base=next_base)
        self._base = next_base
        self._progress.freed_records += taken.records
        self._progress.freed_bytes += taken.size
        hook(Step.DONE)
        return behind, ""

    def _doubt(self, proof: Proof, verdict: Verdict, taken: Listing, base: int) -> str:
        """Why the records taken must not be deleted; empty if they may be."""
        doubt = proof.doubt()
        if verdict == "proven" and not proof.complete:
            doubt = (
                doubt
                or "the registers could be read before, and now they cannot; load the TPM's driver, then run again"
            )
        if not doubt and _sum(taken.blocks()) != _sum(self._progress.log.blocks(base, base + taken.size)):
            doubt = "what the kernel has is not what was kept of it; nothing is deleted until it is"
        return doubt

    def _delete(self, taken: Listing, way: _Way) -> None:
        if way is _Way.TRIM:
            self._held.delete(taken.records)
        else:
            self._held.delete_staged()


def _sum(blocks: Iterable[bytes]) -> bytes:
    found = hashlib.sha256()
    for block in blocks:
        found.update(block)
    return found.digest()
