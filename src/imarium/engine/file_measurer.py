"""Files: asks the policy about each that is used, measures what changed, and finds the races.

The order is the kernel's (``process_measurement``): policy, violations, then the content, unless this content of the
file was measured before.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imarium.engine.collect import collect, violation
from imarium.engine.content import fingerprint, inode_generation, settled
from imarium.engine.facts import EventFacts, FileFacts, Subject
from imarium.engine.file_cache import FileCache, FileState
from imarium.engine.file_system import FileSystems
from imarium.engine.hooks import Access, Hook
from imarium.engine.policy import Action
from imarium.engine.policy_file import PolicyFile
from imarium.engine.process import OpenCall, open_call, own_subject, subject_of
from imarium.engine.readers import RecentReaders
from imarium.engine.template_data import Event, find_template
from imarium.engine.writers import is_open_for_reading, is_open_for_writing
from imarium.errors import MissingComponent
from imarium.formats import ByteOrder, Template
from imarium.hashes import HashAlgorithm

__all__ = ["FileMeasurer", "Use"]

_ELF = b"\x7fELF"
_RACING = frozenset({Hook.FILE_CHECK, Hook.MMAP_CHECK, Hook.BPRM_CHECK})
_NEW = 1_000_000_000
_ANYBODY = Subject(0, 0, 0, 0, 0, 0, may_setuid=False, may_setgid=False)


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a file: a hook and what the file is opened for. ``writes`` says that the user can change it."""

    hook: Hook
    access: Access
    writes: bool = False


class FileMeasurer:
    """Measures files. ``add`` records an event as an action has it, and says whether it was new.

    Methods can be called from any thread; one file is measured by one thread at a time.
    """

    def __init__(
        self,
        policy: PolicyFile,
        add: Callable[[Event, Action], bool],
        *,
        hash_algorithm: HashAlgorithm,
        template: str,
        byte_order: ByteOrder,
        cache: FileCache | None = None,
    ) -> None:
        self._policy = policy
        self._add = add
        self._hash_algorithm = hash_algorithm
        self._template = find_template(template)
        self._byte_order: ByteOrder = byte_order
        self._cache = FileCache() if cache is None else cache
        self._file_systems = FileSystems()
        self._readers = RecentReaders()

    def opened(self, descriptor: int, task: int, *, executes: bool) -> None:
        """A task waits for a file to be opened for it, or executed: measure what the policy says.

        ``descriptor`` is open for reading only. Raises OSError, ImariumError: the file may not have been measured.
        """
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return
        call = OpenCall(executes=True, flags=None) if executes else open_call(task)
        if call.executes and not executes:
            return  # seen a moment ago, as an execution
        policy = self._policy.policy
        found = [(use, policy.relevant(use.hook, use.access)) for use in _uses(call, descriptor, status)]
        uses = [use for use, rules in found if use.writes or rules]
        asked = any(rule.asks_for_subject for _, rules in found for rule in rules)
        subject = subject_of(task) if asked else _ANYBODY
        if call.writes:
            self._use(descriptor, status, uses, subject, task)
            return
        with self._readers.reading(status.st_dev, status.st_ino, task):
            self._use(descriptor, status, uses, subject, task)

    def closed(self, descriptor: int) -> None:
        """Somebody who could write has closed a file: if it was the last, there can be a violation about the next."""
        status = os.fstat(descriptor)
        state = self._cache.known(status.st_dev, status.st_ino)
        if state is not None and state.writers_told:
            with state.lock:
                state.writers_told = is_open_for_writing(descriptor)

    def measure(self, path: Path, hook: Hook | None = None) -> bool:
        """Measure a file now; whether there is a new record, of its content or of a violation.

        With a ``hook`` the policy is asked; else it is measured whatever the policy says.
        Raises MissingComponent for what is no file or cannot be read, ContentChanging, and what ``add`` raises.
        """
        with _opened(path) as descriptor:
            status = os.fstat(descriptor)
            if hook is None:
                return self._measure(descriptor, status, Use(Hook.FILE_CHECK, Access.READ), Action(), 0)
            access = Access.EXEC if hook in {Hook.BPRM_CHECK, Hook.MMAP_CHECK} else Access.READ
            return self._use(descriptor, status, [Use(hook, access)], own_subject(), 0)

    def read(self, path: Path, content: bytes, hook: Hook) -> bool:
        """This content was read from a file to be used: measure just that, if the policy says so.

        Whether there is a new record. Raises MissingComponent where the file is not there any more, and what ``add``
        raises.
        """
        with _opened(path) as descriptor:
            return self._read(descriptor, content, hook)

    def _read(self, descriptor: int, content: bytes, hook: Hook) -> bool:
        status = os.fstat(descriptor)
        file = FileFacts(status.st_uid, status.st_gid, self._file_systems.of(descriptor, status.st_dev))
        action = self._policy.policy.match(EventFacts(hook, Access.READ, own_subject(), file))
        if action is None:
            return False
        template = self._record_template(action)
        return self._add(collect(descriptor, self._hash_algorithm, template, self._byte_order, content=content), action)

    def _use(self, descriptor: int, status: os.stat_result, uses: list[Use], subject: Subject, task: int) -> bool:
        """Ask the policy about each use; whether there is a new record."""
        if not uses:
            return False
        where = self._file_systems.of(descriptor, status.st_dev)
        file = FileFacts(status.st_uid, status.st_gid, where)
        policy = self._policy.policy
        found = False
        for use in uses:
            action = policy.match(EventFacts(use.hook, use.access, subject, file))
            found |= self._measure(descriptor, status, use, action, task)
        return found

    def _measure(self, descriptor: int, status: os.stat_result, use: Use, action: Action | None, task: int) -> bool:
        """Record a violation, if this use is one, and the content, if there is an action."""
        key = (status.st_dev, status.st_ino)
        state = self._cache.known(*key) if action is None else self._cache.state(*key)
        if state is None:
            return False
        with state.lock:
            violated = self._violates(descriptor, state, use, task, action)
            if violated:
                self._add(violation(descriptor, self._hash_algorithm, self._template, self._byte_order), Action())
            return (action is not None and self._content(descriptor, state, action)) or violated

    def _violates(self, descriptor: int, state: FileState, use: Use, task: int, action: Action | None) -> bool:
        """Whether this use is a race: writing what was measured for a reader, or measuring for one beside a writer.

        There is one violation for each measured reader, and one until the last writer has gone.
        """
        if use.writes:
            if not state.may_tomtou or not self._has_readers(descriptor, task):
                return False
            state.may_tomtou = False
            return True
        if action is None or use.hook not in _RACING:
            return False
        state.may_tomtou = True
        told = state.writers_told
        known = action.pcr in state.measured and state.content == fingerprint(os.fstat(descriptor))
        state.writers_told = is_open_for_writing(descriptor, search=told or not known)
        return state.writers_told and not told

    def _has_readers(self, descriptor: int, task: int) -> bool:
        status = os.fstat(descriptor)
        return self._readers.any(status.st_dev, status.st_ino, but=task) or is_open_for_reading(descriptor)

    def _content(self, descriptor: int, state: FileState, action: Action) -> bool:
        """Record the content, unless it was recorded; while there are writers it is not looked at again."""
        status = os.fstat(descriptor)
        same = state.content == fingerprint(status)
        if action.pcr in state.measured and (same or state.writers_told):
            return False
        template = self._record_template(action)
        event = collect(descriptor, self._hash_algorithm, template, self._byte_order, verity=action.verity)
        what = _what(event, descriptor)
        if what != state.what:
            state.measured.clear()
        new = action.pcr not in state.measured and self._add(event, action)
        state.measured.add(action.pcr)
        state.what = what
        state.content = fingerprint(status) if settled(status) and not state.writers_told else None
        return new

    def _record_template(self, action: Action) -> Template:
        return find_template(action.template) if action.template else self._template


def _what(event: Event, descriptor: int) -> tuple[object, ...]:
    """What makes a file worth another record: not another name, unless it is another file with an old inode."""
    file = inode_generation(descriptor)
    return event.algorithm, event.digest, event.verity, event.signature, event.name if file is None else file


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A regular file, open for reading. Raises MissingComponent, also for what goes wrong in the block with it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise MissingComponent(f"cannot measure {path}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise MissingComponent(f"cannot measure {path}: it is no regular file")
        yield descriptor
    except OSError as error:
        raise MissingComponent(f"cannot measure {path}: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _uses(call: OpenCall, descriptor: int, status: os.stat_result) -> list[Use]:
    """The hooks of the kernel that an open or an execution stands for, in their order.

    Nobody in user space sees a file being mapped: an ELF file that is opened for reading counts as mapped.
    """
    access = Access.NONE if _was_created(call, status) else call.access
    uses = [Use(Hook.FILE_CHECK, access, call.writes)]
    if call.executes:
        uses.append(Use(Hook.BPRM_CHECK, Access.EXEC))
    if access & (Access.READ | Access.EXEC) and not call.writes and os.pread(descriptor, len(_ELF), 0) == _ELF:
        uses.append(Use(Hook.MMAP_CHECK, Access.EXEC))
    return uses


def _was_created(call: OpenCall, status: os.stat_result) -> bool:
    """Whether the file is new: then the kernel asks its policy about no access at all."""
    if call.creates:
        return True
    new = time.time_ns() - status.st_ctime_ns < _NEW and status.st_mtime_ns == status.st_ctime_ns
    return call.may_create and status.st_size == 0 and new
