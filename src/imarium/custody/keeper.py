"""One run of custody: lock, recover, look at what the kernel has, keep it, and free it where that is safe."""

from imarium.custody.continuity import Continuity, Verdict, look
from imarium.custody.drain import Drain, refuse, store_and_prove
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

__all__ = ["Keeper"]


class Keeper:
    """Keeps what a source has in a store. ``boot_id`` is that of the kernel the source belongs to.

    ``registers`` reads the registers that the source's records were extended into.
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

    def once(self, wanted: WantedMethod = "auto") -> KeepResult:
        """One run; running again is harmless.

        Raises StoreBusy if another process uses the store, the source's errors, MalformedRecord for a kernel list
        that cannot be read, MalformedInput for a log that is damaged, MissingComponent if storage fails. In each
        case nothing that is not safely kept was deleted.
        """
        with self._store.lock():
            self._hook(Step.LOCKED)
            method, why = choose_method(self._source, wanted)
            log = self._recovered()
            if method == "prompt":
                progress, verdict, reason = self._prompt(log)
            else:
                progress, verdict, reason = self._follow(log)
            if progress is not None:
                follow_index(progress.log)
            return self._result(method, why, progress, verdict, reason)

    def _recovered(self) -> Log | None:
        self._store.sweep()
        log = self._store.newest()
        if log is not None:
            log.recover()
        self._hook(Step.RECOVERED)
        return log

    def _prompt(self, log: Log | None) -> tuple[Progress | None, Verdict, str]:
        with self._source.hold() as held:
            found, kernel = self._look(log, held)
            if found.verdict == "refused" or not kernel.size:
                return self._keep_all(found, kernel)
            progress = self._open(found)
            drain = Drain(held, progress, registers=self._registers, boot_id=self._boot_id, hook=self._hook)
            leftover = next(held.staged(), b"") != b""
            verdict, reason = drain.run(found.overlap, found.verdict, found.reason, leftover=leftover)
            return progress, verdict, reason

    def _follow(self, log: Log | None) -> tuple[Progress | None, Verdict, str]:
        with self._source.snapshot() as lists:
            return self._keep_all(*self._look(log, lists))

    def _look(self, log: Log | None, lists: Lists) -> tuple[Continuity, Listing]:
        """What the kernel has, and how to keep it."""
        found, kernel = look(log, lists, self._registers, self._boot_id)
        self._hook(Step.READ_ALL)
        return found, kernel

    def _keep_all(self, found: Continuity, kernel: Listing) -> tuple[Progress | None, Verdict, str]:
        """Keep all that the kernel has, staged and current, and delete nothing."""
        verdict, reason = found.verdict, found.reason
        if found.log is None and not kernel.size:
            return None, verdict, reason
        progress = self._open(found)
        log = progress.log
        base = log.bytes - found.overlap
        size = kernel.size - found.overlap
        if size:
            proof = store_and_prove(progress, kernel.blocks(found.overlap), size, (), {}, self._hook)
            progress.count(proof, size)
            if doubt := proof.doubt():
                verdict, reason = "refused", doubt
        proved = found.registers if verdict == "proven" else ()
        if size or (proved and not log.proved_by):
            state = progress.state
            log.note(Event.FOLLOWED, self._boot_id, base=base, state=state, registers=proved, detail=reason)
            self._hook(Step.JOURNALED)
        if verdict == "refused":
            refuse(log, self._boot_id, reason)
        self._hook(Step.DONE)
        return progress, verdict, reason

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

    def _result(self, method: Method, why: str, progress: Progress | None, verdict: Verdict, reason: str) -> KeepResult:
        if progress is None:
            return KeepResult(method, why, None, 0, 0, 0, 0, 0, 0, verdict, (), reason)
        log = progress.log
        registers = progress.registers if verdict == "proven" else ()
        return KeepResult(
            method,
            why,
            log.number,
            progress.kept_records,
            progress.kept_bytes,
            progress.freed_records,
            progress.freed_bytes,
            log.records,
            log.bytes,
            verdict,
            registers,
            reason,
        )
