"""The engine: measures what it is told of by its policy, lists it, and extends the roots of trust."""

import errno
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from imarium import durable
from imarium.chain import ChainState, initial_value
from imarium.engine import critical
from imarium.engine.anchoring import Anchored, LaneStatus
from imarium.engine.boot import boot_aggregate
from imarium.engine.facts import EventFacts, Subject
from imarium.engine.file_measurer import FileMeasurer
from imarium.engine.hooks import Access, Hook
from imarium.engine.kexec import kexec_buffer, kexec_event, segment_size
from imarium.engine.life import locked
from imarium.engine.measurement import Measurement
from imarium.engine.policy import Action, Policy
from imarium.engine.policy_file import PolicyFile
from imarium.engine.problems import Problem
from imarium.engine.queue import Counts, MeasurementQueue, QueueError
from imarium.engine.start import Start, hand_over, start
from imarium.engine.template_data import Event, event_data, find_template
from imarium.engine.watch import Watch, WatchOptions
from imarium.errors import DeviceError, ImariumError, UsageError
from imarium.formats import IMA_PCR, ByteOrder, PcrIndex
from imarium.hashes import SHA256, HashAlgorithm
from imarium.rot import HasColumn, RootOfTrust

__all__ = ["START_STATE", "Engine", "EngineOptions", "EngineStatus"]

START_STATE = "start.json"
"""What the registers held before the first record, in the engine's directory: ``imarium replay --from`` takes it."""

_PATIENCE = 5.0
_LOG = logging.getLogger("imarium.engine")
_AUDIT = logging.getLogger("imarium.engine.audit")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine measures. ``hash_algorithm`` and ``template`` are the kernel's ``ima_hash`` and ``ima_template``.

    ``late`` names the first record ``boot_aggregate_late``. The last three say which critical data the engine measures
    of itself, where its policy has it measured: the kernel's release, each change of the policy, and the counter of
    the registers' updates.
    """

    hash_algorithm: HashAlgorithm = SHA256
    template: str = "ima-ng"
    flush_htable: bool = False
    late: bool = False
    byte_order: ByteOrder = sys.byteorder
    kernel_version: bool = True
    policy_changes: bool = True
    update_counter: bool = True


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """How an engine stands. ``bypass`` says that nothing is extended.

    ``problems`` counts uses of watched files that may not have been measured before they happened.
    """

    life: str
    counts: Counts
    violations: int
    problems: int
    suspended: bool
    bypass: bool
    registers: tuple[LaneStatus, ...]


class Engine:
    """IMA in user space: a context manager that begins its list when it is entered.

    ``directory`` is the engine's own, no other engine's at the same time: what it needs to go on after it was
    suspended, and the positions in the registers. ``roots`` are open; the engine does not close them. With ``restore``
    it goes on from the file that a suspended engine has left. Methods can be called from any thread.

    Entering raises MissingComponent where an engine has the directory, RefusedOperation for a file that an engine has
    gone on from already, MalformedInput for what is no such file, and what a root of trust raises that does not tell
    its boot aggregate: then nothing was extended, and nothing gone on from.
    """

    def __init__(
        self,
        directory: Path,
        *,
        options: EngineOptions | None = None,
        roots: Sequence[RootOfTrust] = (),
        policy: Policy | None = None,
        restore: Path | None = None,
    ) -> None:
        self.options = options or EngineOptions()
        self.directory = directory
        self._roots = tuple(roots)
        self._column = _column(self._roots)
        self._restore = restore
        self._template = find_template(self.options.template)
        self._held = ExitStack()
        self._entered: tuple[Start, Anchored] | None = None
        self.policy = PolicyFile(policy, read=self._policy_read, written=self._policy_written, loaded=self._loaded)
        self.files = FileMeasurer(
            self.policy,
            self.add,
            hash_algorithm=self.options.hash_algorithm,
            template=self.options.template,
            byte_order=self.options.byte_order,
        )
        self._problems = 0
        self.queue = self._new_queue(0)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(locked(self.directory))
            begun = start(self.directory, self._restore, self.options.byte_order)
            booted = boot_aggregate(self._roots, self.options.hash_algorithm, late=self.options.late)
            self.queue = self._new_queue(begun.first)
            anchored = Anchored(self._roots, self.directory / "anchors", begun.life.name, opened=self._opened)
            stack.callback(anchored.close)
            self._entered = begun, anchored
            begun.restore(self.queue, anchored)
            self._begin(booted)
            self._held = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """The engine ends, and unless it was suspended its list with it. The registers stay as they are."""
        self.queue.suspend()
        self._held.close()

    def add(self, event: Event, action: Action) -> bool:
        """Record an event as the policy's ``action`` has it; False where it was recorded before.

        Raises QueueError when suspended, UsageError for an unknown template.
        """
        found = find_template(action.template) if action.template else self._template
        data = event_data(found, event, self.options.byte_order)
        register = self._column if action.pcr == IMA_PCR else action.pcr
        return self.queue.add(Measurement(register, found, data, event.violation, self.options.byte_order))

    def measure_buffer(self, hook: Hook, name: bytes, data: bytes, about: bytes | None = None) -> bool:
        """Record data that is no file, if the policy says so; whether it was recorded.

        ``about`` is the label or the keyring. Raises UsageError for no data, QueueError when suspended.
        """
        if not data:
            raise UsageError("there is nothing to measure in empty data")
        action = self.policy.policy.match(EventFacts(hook, Access.NONE, _own_subject(), data=about))
        if action is None:
            return False
        algorithm = self.options.hash_algorithm
        event = Event(name, algorithm, algorithm.digest(data), buffer=data)
        return self.add(event, Action(action.pcr, action.template or "ima-buf"))

    def measure_critical_data(self, label: bytes, name: bytes, data: bytes) -> bool:
        """Record critical data under a label, if the policy says so; see :meth:`measure_buffer`."""
        return self.measure_buffer(Hook.CRITICAL_DATA, name, data, label)

    def measure_file(self, path: Path, hook: Hook | None = None) -> bool:
        """Measure a file now; whether there is a new record, of its content or of a violation.

        With a ``hook`` the policy is asked; else it is measured whatever the policy says. Raises MissingComponent for
        what is no file or cannot be read, QueueError when suspended.
        """
        return self.files.measure(path, hook)

    def watch(
        self, paths: Sequence[Path], *, mounts: Sequence[Path] = (), options: WatchOptions | None = None
    ) -> Watch:
        """A watch that measures what is executed and opened on ``paths`` while its ``with`` block runs.

        ``mounts`` are where this process serves file systems itself. A use that may not have been measured before it
        happened is audited and counted. Raises UsageError, MissingComponent.
        """
        return Watch(paths, self.files, self._problem, mounts=mounts, options=options)

    def suspend_to(self, path: Path) -> int:
        """End measuring and write what the next engine goes on from; how many records are in it.

        The file is on stable storage when this returns. Again, it writes the same records to another place. Raises
        UsageError for a directory, MissingComponent where there can be no file: then nothing has happened. Where one
        could be begun and not be written to its end, it raises MissingComponent too, and measuring stays suspended.
        """
        with durable.storage_errors(path):
            if path.is_dir():
                raise UsageError(f"cannot suspend to {path}: it is a directory; name a file")
        with self.queue.lock:
            begun, anchored = self._live
            hand_over(begun.life, self.directory, path, self._suspended_records(), self.queue, anchored)
            return len(self.queue.staged) + len(self.queue.current)

    def status(self) -> EngineStatus:
        """How it stands now. Raises DeviceError where that cannot be told because a root of trust does not answer."""
        with self._not_for_long():
            begun, anchored = self._live
            queue = self.queue
            return EngineStatus(
                begun.life.name,
                queue.counts,
                queue.violations,
                self._problems,
                queue.suspended,
                not self._roots,
                anchored.status(),
            )

    @contextmanager
    def _not_for_long(self) -> Iterator[None]:
        """Hold the queue's lock, which is held while a register is extended."""
        if not self.queue.lock.acquire(timeout=_PATIENCE):
            raise DeviceError("the engine waits for a root of trust that does not answer; see whether its device does")
        try:
            yield
        finally:
            self.queue.lock.release()

    @property
    def _live(self) -> tuple[Start, Anchored]:
        if self._entered is None:
            raise UsageError("the engine has not begun; use it in a with block")
        return self._entered

    def _new_queue(self, first: int) -> MeasurementQueue:
        return MeasurementQueue(
            hash_algorithm=self.options.hash_algorithm,
            flush_htable=self.options.flush_htable,
            anchor=self._extend,
            staging=self._before_staging,
            byte_order=self.options.byte_order,
            first=first,
        )

    def _begin(self, booted: Event) -> None:
        """What an engine measures before anything else, in the kernel's order."""
        self.add(booted, Action(IMA_PCR))
        if self.options.kernel_version:
            self.measure_critical_data(critical.KERNEL_LABEL, critical.KERNEL_VERSION, critical.kernel_version())
        self._measure_counter(critical.COUNTER_AT_INIT)

    def _suspended_records(self) -> Iterator[bytes]:
        """What is handed over. Measuring is suspended when the first of it is asked for: there is a file by then."""
        self._suspend()
        yield from kexec_buffer(self.queue)

    def _suspend(self) -> None:
        if self.queue.suspended:
            return
        segment = segment_size(self.queue)
        label = critical.KEXEC_LABEL
        self.measure_critical_data(label, critical.KEXEC_LOAD, kexec_event(self.queue, segment))
        self._measure_counter(critical.COUNTER_AT_KEXEC)
        self.measure_critical_data(label, critical.KEXEC_EXECUTE, kexec_event(self.queue, segment))
        self._catch_up(now=True)
        self.queue.suspend()

    def _before_staging(self) -> None:
        self._catch_up(now=True)
        self._measure_counter(critical.COUNTER_AT_STAGING)

    def _measure_counter(self, name: bytes) -> None:
        if not self.options.update_counter:
            return
        for root in self._roots:
            try:
                text = critical.counter_text(root)
            except ImariumError as error:
                _AUDIT.warning("op=measure_update_counter cause=%s name=%s res=0", error.code, name.decode())
                continue
            if text is not None:
                self.measure_critical_data(critical.COUNTER_LABEL, name, text)
                return

    def _extend(self, number: int, measurement: Measurement) -> None:
        self._catch_up()
        for error in self._live[1].extend(number, measurement):
            _AUDIT.warning("op=add_template_measure cause=%s record=%d res=0: %s", error.name, number, error.detail)

    def _catch_up(self, *, now: bool = False) -> None:
        """Give registers that lag what they missed, out of what is still in the list."""
        anchored = self._live[1]
        if anchored.lagging:
            anchored.catch_up(self._measurement, now=now)

    def _measurement(self, number: int) -> Measurement | None:
        for records in (self.queue.staged, self.queue.current):
            if records.first <= number < records.end:
                return records[number]
        return None

    def _opened(self, lane: LaneStatus) -> None:
        """Note what a register holds before the first record: a list replays to its value from there on."""
        begun, anchored = self._live
        if not begun.begins_list:
            return
        if lane.pcr is not None:
            document = ChainState(0, anchored.start_values()).to_document()
            try:
                durable.replace_unread(self.directory / START_STATE, json.dumps(document).encode() + b"\n")
            except ImariumError as error:  # the record is extended all the same
                _LOG.warning("what register %s of %s held is not kept: %s", lane.register, lane.root, error)
        pcr = IMA_PCR if lane.pcr is None else lane.pcr
        used = [value for bank, value in lane.initial.items() if value != initial_value(pcr, bank)]
        if used:
            _LOG.warning(
                "register %s of %s was extended before this list: it replays to it from %s only",
                lane.register,
                lane.root,
                f"{lane.register}={used[0].hex()} (verify --initial)"
                if lane.pcr is None
                else self.directory / START_STATE,
            )

    def _problem(self, problem: Problem) -> None:
        """Called by one thread."""
        self._problems += problem.uses
        name = os.fsdecode(problem.name)
        _AUDIT.warning(
            "op=measure_file cause=%s name=%r pid=%d res=0: %s", problem.kind.value, name, problem.task, problem.detail
        )

    def _policy_read(self, path: Path, content: bytes) -> None:
        if self.options.policy_changes:
            try:
                self.files.read(path, content, Hook.POLICY_CHECK)
            except ImariumError as error:
                _AUDIT.warning("op=measure_policy cause=%s name=%s res=0: %s", error.code, path, error)

    def _policy_written(self, data: bytes) -> None:
        if self.options.policy_changes:
            self._measure_change(Hook.POLICY_CHECK, critical.POLICY_WRITTEN, data, None)

    def _loaded(self, text: bytes) -> None:
        if self.options.policy_changes:
            self._measure_change(Hook.CRITICAL_DATA, critical.POLICY_LOADED, text, critical.POLICY_LABEL)

    def _measure_change(self, hook: Hook, name: bytes, data: bytes, label: bytes | None) -> None:
        """The policy is what it is also where that cannot be measured any more, as in the kernel."""
        try:
            self.measure_buffer(hook, name, data, label)
        except QueueError as error:
            _AUDIT.warning("op=measure_policy cause=%s name=%s res=0", errno.errorcode[error.number], name.decode())


def _own_subject() -> Subject:
    """Whose doing explicit calls are."""
    (uid, euid, suid), (gid, egid, sgid) = os.getresuid(), os.getresgid()
    return Subject(uid, euid, suid, gid, egid, sgid, may_setuid=euid == 0, may_setgid=euid == 0)


def _column(roots: Sequence[RootOfTrust]) -> PcrIndex:
    """The register of records whose rule names none: the one that every root of trust takes for its own, else 10."""
    columns = {root.column() if isinstance(root, HasColumn) else None for root in roots}
    alone = columns.pop() if len(columns) == 1 else None
    return IMA_PCR if alone is None else alone
