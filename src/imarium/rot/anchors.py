"""One list, anchored in several roots of trust at once, each with its own position.

Whoever adds a record does it in :meth:`Anchors.ordered`: it holds a lock of each root of trust (flock, which ends with
its holder), so that records are numbered and extended in one order whatever threads or processes ask.

A root of trust that fails does not stop the others. It stays at its position: later records are not extended there
before the missing ones are, so its register always matches a prefix of the list. Giving it the missing records again,
from its position on, brings it up. Whether an extend that was broken off took place is decided by reading the register.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from imarium import durable
from imarium.chain import extend as chain_extend
from imarium.errors import DeviceError, ImariumError, MissingComponent, RefusedOperation, UsageError
from imarium.hashes import HashAlgorithm
from imarium.locks import locked
from imarium.registers import RegisterError
from imarium.rot.anchor_state import AnchorError, AnchorState, BankValues, read_state, write_state
from imarium.rot.protocol import RootOfTrust

__all__ = ["Anchor", "AnchorStatus", "Anchors", "DigestOf", "Extending"]

DigestOf = Callable[[HashAlgorithm], bytes]
"""A record's digest in a bank: recomputed, or ones for a violation."""

_LOG = logging.getLogger("imarium.rot")
_MAX_DETAIL = 200


@dataclass(frozen=True, slots=True)
class Anchor:
    """A root of trust, open or not, and the register of it to extend: by default its default one."""

    root: RootOfTrust
    register: str = ""


@dataclass(frozen=True, slots=True)
class AnchorStatus:
    """Where one root of trust stands.

    Its register went from ``initial`` to what it is by the records before ``position``. ``error`` says why it lags, if
    it does. ``initial`` is empty where it never opened.
    """

    name: str
    register: str
    position: int
    initial: BankValues
    error: AnchorError | None


class Anchors:
    """The roots of trust of one list. ``directory`` keeps positions and locks; it is made where it is not there.

    Everyone who anchors the same list names the same directory. ``life`` tells one life of the registers from the
    next, such as a boot's id: positions of another life are dropped. Raises UsageError for the same register twice.
    """

    def __init__(self, anchors: Sequence[Anchor], directory: Path, *, life: str) -> None:
        self._anchors = tuple(anchors)
        self._directory = directory
        self._life = life

    @contextmanager
    def ordered(self) -> Iterator["Extending"]:
        """Hold every lock, and extend in the meantime. Raises MissingComponent if the directory cannot be used."""
        durable.create_directory(self._directory)
        with ExitStack() as stack:
            opened = [_Open(anchor, self._directory, self._life) for anchor in self._anchors]
            if len({each.path for each in opened}) != len(opened):
                raise UsageError("a list is anchored in a register once; name each root of trust and register once")
            for each in sorted(opened, key=lambda one: one.path):
                stack.enter_context(locked(each.path.with_suffix(".lock")))
            for each in opened:
                each.resume()
            yield Extending(opened)

    def status(self) -> tuple[AnchorStatus, ...]:
        """Where each stands now, in the order they were named."""
        with self.ordered() as extending:
            return extending.status()

    def close(self) -> None:
        """Close every root of trust; the first error, if any, is raised when all were tried."""
        with ExitStack() as stack:
            for anchor in self._anchors:
                stack.callback(anchor.root.close)


class Extending:
    """What can be done while the locks are held."""

    def __init__(self, opened: "Sequence[_Open]") -> None:
        self._opened = opened

    def extend(self, record: int, digest_of: DigestOf) -> None:
        """Extend record number ``record`` wherever it is the next one; elsewhere nothing is done.

        So it was extended before, or the root of trust lags. Never raises for what a device does; see :meth:`status`.
        """
        for each in self._opened:
            each.extend(record, digest_of)

    def status(self) -> tuple[AnchorStatus, ...]:
        """Where each stands."""
        return tuple(each.status() for each in self._opened)

    @property
    def position(self) -> int:
        """The first record that some root of trust is without: give them all from there on to bring it up."""
        return min((each.position for each in self._opened), default=0)


class _Open:
    """One anchor while its lock is held."""

    def __init__(self, anchor: Anchor, directory: Path, life: str) -> None:
        self._root = anchor.root
        self._life = life
        self._state: AnchorState | None = None
        self._failed: ImariumError | None = None
        self._usable = False
        self._banks: tuple[HashAlgorithm, ...] = ()
        try:
            self._root.init()
        except ImariumError as error:
            self._failed = error
        self._register = anchor.register or self._root.default_register
        try:
            identity = self._root.identity
        except ImariumError:  # it depends on a device that is not there
            identity = self._root.name
        self.path = directory / f"{identity}.{self._register}.anchor"

    @property
    def position(self) -> int:
        return self._state.position if self._state else 0

    def status(self) -> AnchorStatus:
        state = self._state
        if state is not None:
            return AnchorStatus(self._root.name, self._register, state.position, state.initial, state.error)
        error = None if self._failed is None else self._named(0, self._failed)
        return AnchorStatus(self._root.name, self._register, 0, {}, error)

    def resume(self) -> None:
        """Find out where the register stands: what it holds decides whether a begun extend was made."""
        state = read_state(self.path)
        self._state = state if state is not None and state.life == self._life else None
        try:
            if self._failed is not None:
                raise self._failed
            value = self._value()
        except ImariumError as error:
            self._failed = error
            if self._state is not None:
                self._note(error)
            return
        if self._state is None:
            self._state = AnchorState(self._life, 0, value, value, number=state.number + 1 if state else 0)
            write_state(self.path, self._state)
        self._settle(value)

    def extend(self, record: int, digest_of: DigestOf) -> None:
        state = self._state
        if state is None or not self._usable or record != state.position:
            return
        digests = {bank: digest_of(bank) for bank in self._banks}
        pending = {bank: digests[bank] for bank in state.value}
        self._state = replace(state, pending=pending, number=state.number + 1)
        write_state(self.path, self._state)
        failure: ImariumError | None = None
        try:
            self._root.extend(self._register, digests)
        except ImariumError as error:
            failure = error
        if failure is None:
            self._state = _extended(self._state, pending)
            write_state(self.path, self._state)
            return
        try:
            self._settle(self._value())
        except ImariumError:  # the next one who resumes decides
            self._usable = False
        if self.position == record:
            self._note(failure)

    def _settle(self, value: BankValues) -> None:
        """Takes the register's value for where it stands: before a begun extend, or behind it."""
        state = self._state
        assert state is not None  # noqa: S101 - the callers made it
        if state.pending is not None and value == (done := _extended(state, state.pending)).value:
            self._state = done
        elif value == state.value:
            self._state = replace(state, pending=None)
        else:
            self._usable = False
            self._note(
                _OutOfStep(
                    "the register holds another value than it was left with: someone else extended it, or it was reset"
                )
            )
            return
        self._usable = True

    def _note(self, error: ImariumError) -> None:
        state = self._state
        assert state is not None  # noqa: S101 - as above
        named = self._named(state.position, error)
        known = state.error is not None and state.error.record == named.record  # the first says why it came to lag
        if not known or (isinstance(error, _OutOfStep) and state.error != named):
            _LOG.warning("%s: %s lags from record %d on: %s", named.name, self._register, named.record, named.detail)
            self._state = replace(state, error=named, number=state.number + 1)
            write_state(self.path, self._state)

    def _value(self) -> BankValues:
        """The register's value in the banks that can be foretold here: the others are extended with it, unseen."""
        values = self._root.read([self._register])[self._register]
        if not any(each.name == self._register and each.extensible for each in self._root.registers()):
            raise RefusedOperation(f"{self._root.name} cannot extend {self._register}; name another register")
        self._banks = tuple(values)
        if values and not any(bank.computable for bank in values):
            names = ", ".join(bank.name for bank in values)
            raise MissingComponent(f"this machine's OpenSSL cannot compute {names}; name another register")
        return {bank: value for bank, value in values.items() if bank.computable}

    def _named(self, record: int, error: ImariumError) -> AnchorError:
        return AnchorError(record, f"{self._root.name}_error({_code(error)})", str(error)[:_MAX_DETAIL])


class _OutOfStep(DeviceError):
    code = "out_of_step"


def _extended(state: AnchorState, digests: BankValues) -> AnchorState:
    value = {bank: chain_extend(bank, state.value[bank], digests[bank]) for bank in state.value}
    position, number = state.position + 1, state.number + 1
    return replace(state, position=position, value=value, pending=None, error=None, number=number)


def _code(error: ImariumError) -> int | str:
    """The device's own number where there is one: an errno or a TPM_RC; else the error's code."""
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno:
        return cause.errno
    if isinstance(error, RegisterError):
        return error.number
    number = getattr(cause, "rc", None)
    return int(number) if isinstance(number, int) else error.code
