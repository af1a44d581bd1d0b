"""One run of custody: lock, recover, look at what the kernel has, keep it, and free it where that is safe."""

from imarium.custody.continuity import Continuity, look
from imarium.custody.drain import Drain, Outcome, refuse, store_undeleted
from imarium.custody.indexing import follow_index
from imarium.custody.journal import Event, now
from imarium.custody.listing import Listing
from imarium.custody.log import Log
from imarium.custody.meta import LogMeta
from imarium.custody.proof import ReadRegisters, no_registers
from imarium.custody.result import KeepResult, Progress
from imarium.custody.source import Lists, Method, Source, WantedMethod, choose_method
from imarium.custody.steps import Hook, Step, no_hook
from imarium.custody.store import Store
from imarium.errors import ImariumError
from imarium.securityfs import MeasuringSuspended

__all__ = ["Keeper"]


class Keeper:
    """Keeps what a source has in a store. ``boot_id`` is that of the kernel the source belongs to.

    ``registers`` reads the registers that the source's records were extended into. Between runs the log stays open, so
    that a run opens no file for reading that it knows already: IMA would measure it. :meth:`close` closes it.
    """

    def __init__(
        self,
        store: Store,
        source: Source,
        *,
        boot_id: str,
        registers: ReadRegisters = no_registers,
        hook: Hook = no_hook,
    ) -> None:
        self._store = store
        self._source = source
        self._boot_id = boot_id
        self._registers = registers
        self._hook = hook
        self._log: Log | None = None
        self._trim_refused = ""

    def once(self, wanted: WantedMethod = "auto") -> KeepResult:
        """One run; running again is harmless.

        Raises StoreBusy if another process uses the store, the source's errors, MalformedRecord for a kernel list
        that cannot be read, MalformedInput for a log that is damaged, MissingComponent if storage fails. In each
        case nothing that is not safely kept was deleted.
        """
        try:
            with self._store.lock():
                self._hook(Step.LOCKED)
                method, why = self._choose(wanted)
                log = self._recovered()
                progress, outcome = self._follow(log) if method == "follow" else self._take(log, method)
                if progress is not None and progress.kept_records:
                    follow_index(progress.log)
        except ImariumError:
            self.close()
            raise
        self._log = progress.log if progress else None
        if outcome.fallback:
            self._trim_refused, why = outcome.fallback, outcome.fallback
        return _result(outcome, why, progress)

    def close(self) -> None:
        """Close the log that was left open for the next run."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def _choose(self, wanted: WantedMethod) -> tuple[Method, str]:
        method, why = choose_method(self._source, wanted)
        return ("prompt", self._trim_refused) if method == "trim" and self._trim_refused else (method, why)

    def _recovered(self) -> Log | None:
        """The newest log, as it is on stable storage; the one of the run before where no one else has written since."""
        self._store.sweep()
        numbers = self._store.numbers
        log = self._log
        if log is None or numbers[-1:] != (log.number,) or not log.is_as_left():
            self.close()
            log = self._log = self._store.newest()
            if log is not None:
                log.recover()
        self._hook(Step.RECOVERED)
        return log

    def _take(self, log: Log | None, method: Method) -> tuple[Progress | None, Outcome]:
        with self._source.hold() as held:
            found, kernel = self._look(log, held)
            if found.verdict == "refused" or not kernel.size:
                return self._keep_all(found, kernel, method)
            progress = self._open(found)
            drain = Drain(held, progress, registers=self._registers, boot_id=self._boot_id, hook=self._hook)
            try:
                outcome = drain.run(found.overlap, found.verdict, found.reason, method)
            except MeasuringSuspended:
                outcome = drain.carry(found.verdict, method)
            return progress, outcome

    def _follow(self, log: Log | None) -> tuple[Progress | None, Outcome]:
        with self._source.snapshot() as lists:
            return self._keep_all(*self._look(log, lists), "follow")

    def _look(self, log: Log | None, lists: Lists) -> tuple[Continuity, Listing]:
        """What the kernel has, and how to keep it."""
        found, kernel = look(log, lists, self._registers, self._boot_id)
        self._hook(Step.READ_ALL)
        return found, kernel

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
        if grown or (proved and not log.proved_by):
            state = progress.state
            log.note(Event.FOLLOWED, self._boot_id, base=base, state=state, registers=proved, detail=reason)
            self._hook(Step.JOURNALED)
        if verdict == "refused":
            refuse(log, self._boot_id, reason)
        self._hook(Step.DONE)
        return progress, Outcome(verdict, reason, method)

    def _open(self, found: Continuity) -> Progress:
        """The log to write to; a new one where none is continued."""
        if found.log is not None:
            return Progress(found.log, found.state, found.registers)
        meta = LogMeta(found.layout.byte_order, now(), self._boot_id, found.start, found.reason, found.padded)
        log = self._store.begin(meta)
        if found.start == "unknown":
            log.note(Event.GAP, self._boot_id, base=0, detail=found.reason)
        self._hook(Step.CREATED)
        return Progress(log, found.state, found.registers)


def _result(outcome: Outcome, why: str, progress: Progress | None) -> KeepResult:
    verdict, reason, method = outcome.verdict, outcome.reason, outcome.method
    if progress is None:
        return KeepResult(method, why, None, 0, 0, 0, 0, 0, 0, verdict, (), reason)
    return KeepResult(
        method,
        why,
        progress.log.number,
        progress.kept_records,
        progress.kept_bytes,
        progress.freed_records,
        progress.freed_bytes,
        progress.log.records,
        progress.log.bytes,
        verdict,
        progress.registers if verdict == "proven" else (),
        reason,
    )
