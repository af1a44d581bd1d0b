"""Which life of which machine this is: what tells a reboot, a kexec, a restored snapshot and a clone apart. Pure.

A boot id is new with each kernel. A TPM's reset count rises when the machine is reset, not at a kexec; its restart
count when it resumes from sleep; its clock only ever rises, but for a TPM that was restored with its machine from a
snapshot. So evidence is compared with that of the time before, and what it says is said; replay decides beside it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from imarium.errors import MalformedInput

__all__ = ["Change", "Judgement", "Machine", "ReadMachine", "judge"]

_CLOCK_SLACK = 2.0
"""Seconds that the time of day may go back without being a jump: what keeping it right does."""

Change = Literal["first", "same", "resumed", "kexec", "other kernel", "reboot", "rewound", "moved"]
"""``other kernel``: a reboot or a kexec, no TPM tells which. ``rewound``: a snapshot was restored. ``moved``: another
machine, so a clone, or a store that was moved."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine and its life. ``name`` and ``product`` are digests of the machine id and of the product's number.

    They are empty where they cannot be read, as the product's can by root only. The counts and the clock, in
    milliseconds, are the TPM's (TPMS_CLOCK_INFO); None where it cannot be asked.
    """

    boot_id: str
    name: str = ""
    product: str = ""
    reset_count: int | None = None
    restart_count: int | None = None
    clock: int | None = None

    def to_document(self) -> dict[str, object]:
        """The machine as a JSON document."""
        numbers = {"reset_count": self.reset_count, "restart_count": self.restart_count, "clock": self.clock}
        known = {name: number for name, number in numbers.items() if number is not None}
        return {"boot_id": self.boot_id, "name": self.name, "product": self.product, **known}

    def says_more_than(self, other: "Machine") -> bool:
        """Whether it says what the other does not: a clock apart, which is never the same."""
        return any(said and said != was for said, was in zip(self._names, other._names, strict=True)) or any(
            said is not None and said != was for said, was in zip(self._counts, other._counts, strict=True)
        )

    @property
    def _names(self) -> tuple[str, ...]:
        return self.boot_id, self.name, self.product

    @property
    def _counts(self) -> tuple[int | None, ...]:
        return self.reset_count, self.restart_count

    @classmethod
    def from_document(cls, document: object) -> "Machine":
        """Raises MalformedInput."""
        if not isinstance(document, Mapping):
            raise _malformed("an object", document)
        texts = [document.get(name) for name in ("boot_id", "name", "product")]
        numbers = [document.get(name) for name in ("reset_count", "restart_count", "clock")]
        if not all(isinstance(text, str) for text in texts):
            raise _malformed("a boot id and names", texts)
        if not all(number is None or (type(number) is int and number >= 0) for number in numbers):
            raise _malformed("counts and a clock", numbers)
        boot_id, name, product = map(str, texts)
        return cls(boot_id, name, product, *numbers)


ReadMachine = Callable[[], Machine]
"""Reads what tells this life of this machine, as of now."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of the machine since. ``reason`` is one line.

    ``reset`` says whether the registers were reset since, None if the evidence does not tell. ``notable`` is set where
    a person should know.
    """

    change: Change
    reason: str
    reset: bool | None
    notable: bool = False


def judge(before: Machine | None, after: Machine, *, before_at: str = "", after_at: str = "") -> Judgement:
    """What became of the machine between two readings, taken at these times of day (ISO 8601; may be empty)."""
    found = _judge(before, after)
    back = _seconds_back(before_at, after_at)
    if back <= _CLOCK_SLACK:
        return found
    return Judgement(found.change, f"{found.reason}; the time of day went back by {back:.0f} s", found.reset, True)


def _judge(before: Machine | None, after: Machine) -> Judgement:
    if before is None:
        return Judgement("first", "nothing is known of the time before", None)
    if any(was and now and was != now for was, now in ((before.name, after.name), (before.product, after.product))):
        return Judgement("moved", "this is another machine: a clone, or the store was moved to it", None, True)
    if before.reset_count is None or after.reset_count is None:
        if before.boot_id == after.boot_id:
            return Judgement("same", "the kernel is the same", False)
        return Judgement("other kernel", "the kernel is another, and no TPM tells whether by a kexec", None)
    return _by_counts(before, after)


def _by_counts(before: Machine, after: Machine) -> Judgement:
    was, now = before.reset_count or 0, after.reset_count or 0
    if now > was:
        return Judgement("reboot", f"the TPM was reset: its reset count rose from {was} to {now}", True)
    if now < was:
        reason = f"the TPM's reset count went back from {was} to {now}: a snapshot was restored, or the TPM was cleared"
        return Judgement("rewound", reason, None, True)
    if before.clock is not None and after.clock is not None and after.clock < before.clock:
        reason = f"the TPM's clock went back from {before.clock} to {after.clock} ms: a snapshot was restored"
        return Judgement("rewound", reason, None, True)
    if before.boot_id != after.boot_id:
        return Judgement("kexec", f"the kernel is another, the TPM was not reset (reset count {now}): a kexec", False)
    if before.restart_count != after.restart_count:
        return Judgement("resumed", "the machine slept and resumed", False)
    return Judgement("same", "the kernel is the same, and the TPM was not reset", False)


def _seconds_back(before: str, after: str) -> float:
    try:
        return (datetime.fromisoformat(before) - datetime.fromisoformat(after)).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def _malformed(expected: str, found: object) -> MalformedInput:
    return MalformedInput("machine", offset=0, expected=expected, found=repr(found)[:80])
