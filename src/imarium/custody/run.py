"""What one run of custody does with the newest log and a source, while the store is locked."""

from dataclasses import dataclass, replace

from imarium.custody.continuity import Continuity, look
from imarium.custody.counted import missing_by_count
from imarium.custody.drain import Drain, Outcome, refuse, store_undeleted
from imarium.custody.entry import Event
from imarium.custody.gap import Gap, Sightings
from imarium.custody.journal import now
from imarium.custody.life import Judgement, Machine
from imarium.custody.listing import Listing, survey
from imarium.custody.log import Log
from imarium.custody.meta import LogMeta
from imarium.custody.proof import UNTIL_RESET, ReadRegisters, bad_digest
from imarium.custody.result import Progress
from imarium.custody.source import Lists, Method, Source
from imarium.custody.steps import Hook, Step
from imarium.custody.store import Store
from imarium.formats.records import read_records
from imarium.securityfs import MeasuringSuspended

__all__ = ["Circumstances", "Run"]


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known before the source is looked at: the machine, what became of it, and what its counter showed."""

    machine: Machine
    judgement: Judgement
    sightings: Sightings


class Run:
    """One run. ``log`` is the one that is written to; ``gap`` is what was found missing, None if nothing was."""

    def __init__(
        self,
        store: Store,
        source: Source,
        log: Log | None,
        known: Circumstances,
        *,
        registers: ReadRegisters,
        hook: Hook,
    ) -> None:
        self._store = store
        self._source = source
        self.log = log
        self._known = known
        self._boot_id = known.machine.boot_id
        self._registers = registers
        self._hook = hook
        self.gap: Gap | None = None

    def take(self, method: Method) -> tuple[Progress | None, Outcome]:
        """Keep all that the source has, and delete it there where that is safe."""
        with self._source.hold() as held:
            found, kernel = self._look(held, deletes=True)
            if found.verdict == "refused" or not kernel.size:
                return self._keep_all(found, kernel, method)
            progress = self._open(found)
            drain = Drain(held, progress, registers=self._registers, boot_id=self._boot_id, hook=self._hook)
            try:
                outcome = drain.run(found.overlap, found.verdict, found.reason, method)
            except MeasuringSuspended:
                outcome = drain.carry(found.verdict, method)
            return progress, outcome

    def follow(self) -> tuple[Progress | None, Outcome]:
        """Keep all that the source has, and delete nothing."""
        with self._source.snapshot() as lists:
            return self._keep_all(*self._look(lists, deletes=False), "follow")

    def count_missing(self, progress: Progress) -> None:
        """Note how many records are missing before the log, if the kernel says it in what was just kept."""
        log = progress.log
        if log.meta.start == "reset" or not log.number or not progress.kept_records:
            return
        before = self._store.log(log.number - 1)
        missing = missing_by_count(before, log, log.records_from(log.records - progress.kept_records))
        if missing is None:
            return
        reason = f"{missing} records are missing between log {before.number:04} and this one, by the kernel's count"
        log.note(Event.COUNTED, self._boot_id, base=log.base, detail=reason, missing=missing)
        self.gap = Gap(now(), before.journal.last.at if before.journal.last else "", log.number, missing, reason)

    def _look(self, lists: Lists, *, deletes: bool) -> tuple[Continuity, Listing]:
        """What the kernel has, and how to keep it.

        ``deletes`` says whether it may be deleted then, so that what was kept of it before is checked again.
        """
        found, kernel = look(self.log, lists, self._registers, self._boot_id, reset=self._known.judgement.reset)
        self._hook(Step.READ_ALL)
        if found.verdict != "proven" and self.log is not None and self._known.sightings.arrived:
            kept = survey(lambda: kernel.blocks(0, found.overlap), found.layout).records
            if missing := self._known.sightings.missing(kernel.records - kept):
                found = self._miss(self.log, found, kernel, missing)
        if found.log is not None and found.verdict != "refused" and (deletes or found.log.refusal is not None):
            bad = _first_bad(found.log, kernel, found.overlap)
            found = found if bad is None else replace(found, verdict="refused", reason=bad_digest(bad))
        return found, kernel

    def _miss(self, log: Log, found: Continuity, kernel: Listing, missing: int) -> Continuity:
        """How to keep ``kernel`` behind records that are gone: in a new log, unless it overlaps the old one."""
        reason = f"at least {missing} records that the kernel had are gone: someone else deleted them"
        log.note(Event.GAP, self._boot_id, base=log.base, detail=reason, missing=missing)
        self.gap = Gap(now(), self._known.sightings.since, None, missing, reason)
        if found.log is None:
            return found if found.start == "reset" else replace(found, reason=reason)
        if found.overlap or not kernel.size:
            return replace(found, verdict="refused", reason=reason)
        return Continuity(None, 0, None, found.layout, frozenset(), "unknown", "refused", f"{reason}; {UNTIL_RESET}")

    def _keep_all(self, found: Continuity, kernel: Listing, method: Method) -> tuple[Progress | None, Outcome]:
        """Keep all that the kernel has, staged and current, and delete nothing."""
        verdict, reason = found.verdict, found.reason
        if found.log is None and not kernel.size:
            return None, Outcome(verdict, reason, method)
        progress = self._open(found)
        log = progress.log
        base = log.bytes - found.overlap
        grown = kernel.size > found.overlap
        if doubt := store_undeleted(progress, kernel, found.overlap, self._hook):
            verdict, reason = "refused", doubt
        proved = found.registers if verdict == "proven" else ()
        if grown or (proved and (not log.proved_by or log.refusal is not None)):
            state = progress.state
            log.note(Event.FOLLOWED, self._boot_id, base=base, state=state, registers=proved, detail=reason)
            self._hook(Step.JOURNALED)
        if verdict == "refused":
            refuse(log, self._boot_id, reason)
        self._hook(Step.DONE)
        return progress, Outcome(verdict, reason, method)

    def _open(self, found: Continuity) -> Progress:
        """The log to write to; a new one where none is continued. It notes which machine goes on there."""
        known = self._known
        if found.log is not None:
            log = found.log
            log.clock = known.machine.clock
            noted = log.machine_noted
            if known.judgement.notable or noted is None or known.machine.says_more_than(noted):
                reason = f"{known.judgement.reason}; {found.verdict}: {found.reason}"
                log.note(Event.MACHINE, self._boot_id, base=log.base, detail=reason, machine=known.machine)
            return Progress(log, found.state, found.registers)
        reason = found.reason if self.log is None else f"{known.judgement.reason}; {found.reason}"
        meta = LogMeta(found.layout.byte_order, now(), self._boot_id, found.start, reason, found.padded)
        if self.log is not None:
            self.log.close()
        log = self.log = self._store.begin(meta)
        log.clock = known.machine.clock
        log.note(Event.MACHINE, self._boot_id, base=0, detail=reason, machine=known.machine)
        if found.start == "unknown":
            self._note_gap(log, found.reason)
        self._hook(Step.CREATED)
        return Progress(log, found.state, found.registers)

    def _note_gap(self, log: Log, reason: str) -> None:
        """Note in a log that begins behind a gap what is known of it."""
        seen = self.gap or Gap(now(), self._known.sightings.since, None, None, reason)
        self.gap = replace(seen, log=log.number)
        log.note(Event.GAP, self._boot_id, base=0, detail=reason, missing=seen.missing)


def _first_bad(log: Log, kernel: Listing, overlap: int) -> int | None:
    """The first of the kernel's records that the log has already whose template digest is not that of its data."""
    if not overlap:
        return None
    first = log.records - survey(lambda: kernel.blocks(0, overlap), log.layout).records
    records = read_records(kernel.blocks(0, overlap), log.layout, first=first)
    return next((record.number for record in records if not record.digest_is_good), None)
