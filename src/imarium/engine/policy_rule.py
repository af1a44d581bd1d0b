"""One rule of a policy: what it is about, whether it fits an event, and how the kernel prints it."""

import uuid
from dataclasses import dataclass
from enum import Enum

from imarium.engine.facts import EventFacts, FileFacts, Subject
from imarium.engine.hooks import Access, Hook
from imarium.formats import PcrIndex

__all__ = ["Comparison", "IdTest", "Rule", "Verb"]

SHOWN_FSNAME = 63
"""The kernel prints this much of the name of a file system."""

_DATA_HOOKS = frozenset({Hook.KEY_CHECK, Hook.CRITICAL_DATA})
_MASKED_HOOKS = frozenset({Hook.FILE_CHECK, Hook.MMAP_CHECK, Hook.BPRM_CHECK})
_FILE_CONDITIONS = ("fsmagic", "fsname", "fs_subtype", "fsuuid", "fowner", "fgroup")


class Verb(Enum):
    """What a rule is for."""

    MEASURE = b"measure"
    DONT_MEASURE = b"dont_measure"


class Comparison(Enum):
    """How a user or group is compared with the rule's."""

    EQUAL = b"="
    GREATER = b">"
    LESS = b"<"


@dataclass(frozen=True, slots=True)
class IdTest:
    """A condition on a user or group."""

    comparison: Comparison
    value: int

    def holds(self, number: int) -> bool:
        """Whether ``number`` fulfils the condition."""
        match self.comparison:
            case Comparison.EQUAL:
                return number == self.value
            case Comparison.GREATER:
                return number > self.value
            case Comparison.LESS:
                return number < self.value

    def text(self, name: bytes) -> bytes:
        """The condition as the kernel prints it: numbers above 2147483647 come out negative."""
        shown = self.value - (1 << 32) if self.value >> 31 else self.value
        return b"%s%s%d" % (name, self.comparison.value, shown)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule. A condition that is None is not asked for; ``keyrings`` and ``labels`` are alternatives.

    ``inside`` says that ``mask`` was given with ``^``: one bit in common is enough. ``verity`` stands for
    ``digest_type=verity``. ``permit_directio`` is kept to be printed: it concerns appraising alone.
    """

    verb: Verb
    hook: Hook | None = None
    mask: Access | None = None
    inside: bool = False
    fsmagic: int | None = None
    fsname: bytes | None = None
    fs_subtype: bytes | None = None
    keyrings: tuple[bytes, ...] = ()
    labels: tuple[bytes, ...] = ()
    pcr: PcrIndex | None = None
    fsuuid: bytes | None = None
    uid: IdTest | None = None
    euid: IdTest | None = None
    gid: IdTest | None = None
    egid: IdTest | None = None
    fowner: IdTest | None = None
    fgroup: IdTest | None = None
    template: str | None = None
    verity: bool = False
    permit_directio: bool = False

    @property
    def asks_for_subject(self) -> bool:
        """Whether it matters who does it."""
        return any(test is not None for test in (self.uid, self.euid, self.gid, self.egid))

    def concerns(self, hook: Hook, access: Access) -> bool:
        """Whether the rule can be about such an event, whoever does it to whatever file."""
        if self.hook is None:
            return hook not in _DATA_HOOKS and (hook not in _MASKED_HOOKS or self._masks(access))
        return self.hook is hook and (hook not in _MASKED_HOOKS or self._masks(access))

    def fits(self, event: EventFacts) -> bool:
        """Whether the rule is about this event, as the kernel's ``ima_match_rules`` has it."""
        if self.hook is not None and self.hook is not event.hook:
            return False
        if event.hook in _DATA_HOOKS or (event.hook is Hook.POLICY_CHECK and event.file is None):
            return self.hook is event.hook and self._fits_data(event)
        return self._masks(event.access) and self._fits_file(event.file) and self._fits_subject(event.subject)

    def _masks(self, access: Access) -> bool:
        if self.mask is None:
            return True
        return bool(self.mask & access) if self.inside else self.mask == access

    def _fits_data(self, event: EventFacts) -> bool:
        """Of the subject the kernel looks at ``uid`` alone here, although it takes ``gid`` in such rules."""
        if self.uid is not None and not self.uid.holds(event.subject.uid):
            return False
        wanted = self.keyrings or self.labels
        return not wanted or event.data in wanted

    def _fits_subject(self, subject: Subject) -> bool:
        return (
            (self.uid is None or self.uid.holds(subject.uid))
            and (self.gid is None or self.gid.holds(subject.gid))
            and _holds_effective(self.euid, subject.euid, (subject.suid, subject.uid), subject.may_setuid)
            and _holds_effective(self.egid, subject.egid, (subject.sgid, subject.gid), subject.may_setgid)
        )

    def _fits_file(self, file: FileFacts | None) -> bool:
        if file is None:
            return not any(getattr(self, name) is not None for name in _FILE_CONDITIONS)
        where = file.file_system
        return (
            (self.fsmagic is None or self.fsmagic == where.magic)
            and (self.fsname is None or self.fsname == where.name)
            and (self.fs_subtype is None or self.fs_subtype == where.subtype)
            and (self.fsuuid is None or self.fsuuid == where.uuid)
            and (self.fowner is None or self.fowner.holds(file.owner))
            and (self.fgroup is None or self.fgroup.holds(file.group))
        )

    def text(self) -> bytes:
        """The rule as the ``policy`` file shows it, without the newline: each word is followed by a space."""
        return b"".join(word + b" " for word in (self.verb.value, *self._conditions()))

    def _conditions(self) -> list[bytes]:
        """The words after the first, in the kernel's order."""
        identities = (
            (b"uid", self.uid),
            (b"euid", self.euid),
            (b"gid", self.gid),
            (b"egid", self.egid),
            (b"fowner", self.fowner),
            (b"fgroup", self.fgroup),
        )
        mask = None if self.mask is None else b"MAY_" + str(self.mask.name).encode()
        words: list[bytes | None] = [
            self.hook and b"func=" + self.hook.value,
            mask and b"mask=" + b"^" * self.inside + mask,
            None if self.fsmagic is None else b"fsmagic=0x%x" % self.fsmagic,
            self.fsname and b"fsname=" + self.fsname[:SHOWN_FSNAME],
            self.fs_subtype and b"fs_subtype=" + self.fs_subtype[:SHOWN_FSNAME],
            b"keyrings=" + b"|".join(self.keyrings) if self.keyrings else None,
            b"label=" + b"|".join(self.labels) if self.labels else None,
            None if self.pcr is None else b"pcr=%d" % self.pcr,
            self.fsuuid and b"fsuuid=" + str(uuid.UUID(bytes=self.fsuuid)).encode(),
            *(test.text(name) for name, test in identities if test is not None),
            b"template=" + self.template.encode() if self.template else None,
            b"digest_type=verity" if self.verity else None,
            b"permit_directio" if self.permit_directio else None,
        ]
        return [word for word in words if word]


def _holds_effective(test: IdTest | None, effective: int, others: tuple[int, ...], capable: bool) -> bool:
    """Who can change identity counts as each of the identities held."""
    if test is None:
        return True
    return any(test.holds(number) for number in ((effective, *others) if capable else (effective,)))
