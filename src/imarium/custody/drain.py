"""Keep records in a log, and delete them from the kernel once they are kept: the order that loses nothing.

The order is that of :class:`~imarium.custody.steps.Step`. Whatever the step at which a run dies, the next run finds
each record in the log, in the kernel, or in both, and tells which by content and by replay.
"""

from imarium import durable
from imarium.chain import RegisterValues
from imarium.custody.continuity import Verdict, registers_named
from imarium.custody.journal import Event
from imarium.custody.log import Log
from imarium.custody.proof import Proof, ReadRegisters, prove
from imarium.custody.result import Progress
from imarium.custody.source import HeldLists
from imarium.custody.steps import Hook, Step
from imarium.errors import MissingComponent
from imarium.formats.records import RecordFramer
from imarium.securityfs import NothingToStage

__all__ = ["Drain", "refuse", "store_and_prove"]


def store_and_prove(progress: Progress, data: bytes, beyond: bytes, values: RegisterValues, hook: Hook) -> Proof:
    """Append ``data`` to the log, bring it to stable storage, read it back and replay it with ``beyond`` behind it.

    ``values`` were read before ``beyond``. Raises MissingComponent if it cannot be stored as it is.
    """
    log = progress.log
    durable.append(log.list_path, data, halfway=lambda: hook(Step.HALF))
    hook(Step.APPENDED)
    durable.sync_file(log.list_path)
    hook(Step.SYNCED)
    stored = b"".join(durable.read_blocks(log.list_path, log.bytes, log.bytes + len(data)))
    if stored != data:
        raise MissingComponent(f"{log.list_path}: does not give back what was written; check the disk, then run again")
    known = values if progress.state else {}
    proof = prove([stored], [beyond], log.layout, start=progress.start, values=known, padded=log.meta.padded)
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
        staged = b"".join(self._held.staged())
        current = b"".join(self._held.current())
        values = self._registers(registers_named(log, staged + current))
        behind = max(0, overlap - len(staged))
        current = b"".join(self._held.current())[behind:]
        hook(Step.READ)
        proof = store_and_prove(self._progress, staged[overlap:], current, values, hook)
        self._progress.count(proof, len(staged[overlap:]))
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
        framer = RecordFramer(log.layout)
        self._progress.freed_records += len(framer.feed(staged))
        self._progress.freed_bytes += len(staged)
        hook(Step.DONE)
        return behind, ""
