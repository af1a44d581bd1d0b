"""One run of custody: lock, recover, look at what the kernel has, keep it, and free it where that is safe."""

from contextlib import suppress

from imarium.custody.drain import Outcome
from imarium.custody.gap import Gap, Sightings
from imarium.custody.indexing import follow_index
from imarium.custody.journal import now
from imarium.custody.life import Judgement, Machine, ReadMachine, judge
from imarium.custody.log import Log
from imarium.custody.proof import ReadRegisters, no_registers
from imarium.custody.result import KeepResult, Progress
from imarium.custody.run import Circumstances, Run
from imarium.custody.source import Method, Source, WantedMethod, choose_method
from imarium.custody.steps import Hook, Step, no_hook
from imarium.custody.store import Store
from imarium.errors import ImariumError, MissingComponent

__all__ = ["Keeper"]


class Keeper:
    """Keeps what a source has in a store. ``boot_id`` is that of the kernel the source belongs to.

    ``registers`` reads the registers that the source's records were extended into; ``machine`` what more tells this
    life of the machine from another. Between runs the log stays open, so that a run opens no file for reading that it
    knows already: IMA would measure it. :meth:`close` closes it.
    """

    def __init__(
        self,
        store: Store,
        source: Source,
        *,
        boot_id: str,
        registers: ReadRegisters = no_registers,
        machine: ReadMachine | None = None,
        hook: Hook = no_hook,
    ) -> None:
        self._store = store
        self._source = source
        self._machine = machine or (lambda: Machine(boot_id))
        self._registers = registers
        self._hook = hook
        self._log: Log | None = None
        self._trim_refused = ""

    def once(self, wanted: WantedMethod = "auto", *, sightings: Sightings | None = None) -> KeepResult:
        """One run; running again is harmless. ``sightings`` are those of the kernel's counter since the last run.

        Raises StoreBusy if another process uses the store, the source's errors, MalformedRecord for a kernel list
        that cannot be read, MalformedInput for a log that is damaged, MissingComponent if storage fails. In each
        case nothing that is not safely kept was deleted.
        """
        try:
            with self._store.lock():
                self._hook(Step.LOCKED)
                method, why = self._choose(wanted)
                log = self._recovered()
                known = self._circumstances(log, sightings or Sightings())
                run = Run(self._store, self._source, log, known, registers=self._registers, hook=self._hook)
                try:
                    progress, outcome = run.follow() if method == "follow" else run.take(method)
                finally:
                    self._log = run.log
                if progress is not None:
                    run.count_missing(progress)
                    _afterwards(progress)
        except ImariumError:
            self.close()
            raise
        if outcome.fallback:
            self._trim_refused, why = outcome.fallback, outcome.fallback
        return _result(outcome, why, progress, known.judgement, run.gap)

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

    def _circumstances(self, log: Log | None, sightings: Sightings) -> Circumstances:
        machine = self._machine()
        if log is None:
            return Circumstances(machine, judge(None, machine), sightings)
        before, at = log.machine
        return Circumstances(machine, judge(before, machine, before_at=at, after_at=now()), sightings)


def _afterwards(progress: Progress) -> None:
    """What makes a log quick to read and its journal short; what hinders it does not hinder custody."""
    if progress.kept_records:
        follow_index(progress.log)
        with suppress(MissingComponent):
            progress.log.tidy()


def _result(outcome: Outcome, why: str, progress: Progress | None, judgement: Judgement, gap: Gap | None) -> KeepResult:
    verdict, reason, method = outcome.verdict, outcome.reason, outcome.method
    machine = judgement.reason if judgement.notable else ""
    if progress is None:
        return KeepResult(method, why, None, 0, 0, 0, 0, 0, 0, verdict, (), reason, machine, gap)
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
        machine,
        gap,
    )
