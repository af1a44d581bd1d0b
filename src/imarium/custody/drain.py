"""Keep records in a log, and delete them from the kernel once they are kept: the order that loses nothing.

The order is that of :class:`~imarium.custody.steps.Step`. Whatever the step at which a run dies, the next run finds
each record in the log, in the kernel, or in both, and tells which by content and by replay.
"""

import hashlib
from collections.abc import Iterable, Iterator

from imarium import durable
from imarium.chain import RegisterValues
from imarium.custody.continuity import Verdict, registers_named
from imarium.custody.journal import Event
from imarium.custody.listing import skip, survey
from imarium.custody.log import Log
from imarium.custody.proof import Proof, ReadRegisters, prove
from imarium.custody.result import Progress
from imarium.custody.source import HeldLists
from imarium.custody.steps import Hook, Step
from imarium.errors import MissingComponent
from imarium.securityfs import NothingToStage

__all__ = ["Drain", "refuse", "store_and_prove"]


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
    written, end = hashlib.sha256(), log.bytes + size

    def summed() -> Iterator[bytes]:
        for block in blocks:
            written.update(block)
            yield block

    durable.append_blocks(log.list_path, summed(), size=size, halfway=lambda: hook(Step.HALF))
    hook(Step.APPENDED)
    durable.sync_file(log.list_path)
    hook(Step.SYNCED)
    stored = hashlib.sha256()
    for block in durable.read_blocks(log.list_path, log.bytes, end):
        stored.update(block)
    if stored.digest() != written.digest():
        raise MissingComponent(f"{log.list_path}: does not give back what was written; check the disk, then run again")
    known = values if progress.state else {}
    back = durable.read_blocks(log.list_path, log.bytes, end)
    proof = prove(back, beyond, log.layout, start=progress.start, values=known, padded=log.meta.padded)
    hook(Step.CHECKED)
    return proof


def refuse(log: Log, boot_id: str, reason: str) -> None:
    """Note a refusal, once as long as nothing else happens."""
    last = log.journal.last
    if last is None or last.event is not Event.REFUSED or last.detail != reason or last.boot_id != boot_id:
        log.note(Event.REFUSED, boot_id, base=log.base, detail=reason)


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

    def run(self, overlap: int, verdict: Verdict, reason: str, *, leftover: bool) -> tuple[Verdict, str]:
        """Drain what is found staged, if ``leftover``, and then the current list.

        ``overlap`` is how many bytes of it all the log has already. The verdict given stands unless a register says
        otherwise.
        """
        refusal = ""
        if leftover:
            overlap, refusal = self._cycle(overlap, verdict, stage=False)
        if not refusal:
            overlap, refusal = self._cycle(overlap, verdict, stage=True)
        return ("refused", refusal) if refusal else (verdict, reason)

    def _cycle(self, overlap: int, verdict: Verdict, *, stage: bool) -> tuple[int, str]:
        """Keep and delete one staged list; how much of the log lies in the kernel behind it, and why not, if so."""
        log, hook = self._progress.log, self._hook
        if stage and next(self._held.current(), b"") == b"":
            return overlap, ""
        base = log.bytes - overlap
        log.note(Event.INTENT, self._boot_id, base=base, detail="stage" if stage else "found staged")
        hook(Step.INTENT)
        if stage:
            try:
                self._held.stage()
            except NothingToStage:
                return overlap, ""
            hook(Step.STAGED)
        staged = survey(self._held.staged, log.layout)
        values = self._registers(registers_named(log, staged, survey(self._held.current, log.layout)))
        hook(Step.READ)
        behind = max(0, overlap - staged.size)
        new, beyond = staged.blocks(overlap), skip(self._held.current(), behind)
        size = max(0, staged.size - overlap)
        proof = store_and_prove(self._progress, new, size, beyond, values, hook)
        self._progress.count(proof, size)
        next_base = log.bytes - behind
        proved = proof.registers if proof.complete else ()
        log.note(
            Event.KEPT, self._boot_id, base=base, next_base=next_base, state=self._progress.state, registers=proved
        )
        hook(Step.JOURNALED)
        doubt = proof.doubt()
        if verdict == "proven" and not proof.complete:
            doubt = doubt or "the registers could be read before, and now they cannot"
        if doubt:
            refuse(log, self._boot_id, doubt)
            return behind, doubt
        self._held.delete_staged()
        hook(Step.DELETED)
        log.note(Event.DELETED, self._boot_id, base=next_base)
        self._progress.freed_records += staged.records
        self._progress.freed_bytes += staged.size
        hook(Step.DONE)
        return behind, ""
