"""A kernel's measurement lists in memory, behind the protocol of the securityfs client; and registers to go with it."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

from imarium.chain import ChainState, RegisterValues, replay
from imarium.formats.fields import join_fields
from imarium.formats.records import ListLayout, Record, encode_record, read_records
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.formats.templates import template
from imarium.hashes import SHA1, SHA256
from imarium.securityfs import AlreadyStaged, DeleteRefused, MeasuringSuspended, NothingToDelete, NothingToStage

LAYOUT = ListLayout()


def record(name: str, pcr: int = 10) -> bytes:
    """A good record of a file with this name."""
    found = template(b"ima-ng")
    assert found is not None
    fields = (b"sha256:\0" + SHA256.digest(name.encode()), name.encode() + b"\0")
    data = join_fields(found, fields, "little")
    digest = LAYOUT.template_digest(found, data)
    return encode_record(Record(0, 0, PcrIndex(pcr), digest, found, data, LAYOUT))


def counting(total: int, event: str = "kexec_load") -> bytes:
    """A record in which a kernel says how many records it has made."""
    found = template(b"ima-buf")
    assert found is not None
    text = b"kexec_segment_size=4096;ima_binary_runtime_size=1;ima_runtime_measurements_count=%d;" % total
    data = join_fields(found, (b"sha256:\0" + SHA256.digest(text), event.encode() + b"\0", text), "little")
    return encode_record(Record(0, 0, IMA_PCR, LAYOUT.template_digest(found, data), found, data, LAYOUT))


def records(*names: str) -> bytes:
    return b"".join(map(record, names))


def violation(name: str) -> bytes:
    """A record of a violation of a file with this name: no digest, neither its own nor the file's."""
    found = template(b"ima-ng")
    assert found is not None
    data = join_fields(found, (b"sha256:\0" + bytes(32), name.encode() + b"\0"), "little")
    return encode_record(Record(0, 0, IMA_PCR, bytes(SHA1.size), found, data, LAYOUT))


@dataclass
class Kernel:
    """Lists and registers. ``staging`` says whether this kernel has the staging files."""

    current_list: bytes = b""
    staged_list: bytes = b""
    staging: bool = True
    deletable: bool = True
    flush_htable: bool = False
    suspended: bool = False
    state: ChainState = field(default_factory=ChainState)
    freed: list[bytes] = field(default_factory=list)

    def measure(self, *names: str, pcr: int = 10, extend: bool = True) -> None:
        added = b"".join(record(name, pcr) for name in names)
        self.current_list += added
        if extend:
            self.state = replay([added], LAYOUT, start=self.state).state

    def add(self, added: bytes) -> None:
        self.current_list += added
        self.state = replay([added], LAYOUT, start=self.state).state

    def boot(self) -> None:
        """Begin a new life: registers reset, lists empty but for the boot aggregate."""
        self.current_list = self.staged_list = b""
        self.state = ChainState()
        self.measure("boot_aggregate")

    def kexec(self) -> None:
        """Go on in a new kernel, which adds its boot aggregate to what it was given."""
        self.current_list, self.staged_list = self.staged_list + self.current_list, b""
        self.measure("boot_aggregate")

    def registers(self, wanted: Collection[PcrIndex]) -> RegisterValues:
        return {p: {bank: self.state.value(p, bank) for bank in (SHA1, SHA256)} for p in wanted if p == IMA_PCR}

    @property
    def has_staging(self) -> bool:
        return self.staging

    def can_delete(self) -> bool:
        return self.staging and self.deletable

    def staged(self) -> Iterator[bytes]:
        return iter([self.staged_list] if self.staged_list else [])

    def current(self) -> Iterator[bytes]:
        half = len(self.current_list) // 2
        return iter([part for part in (self.current_list[:half], self.current_list[half:]) if part])

    def stage(self) -> None:
        if self.suspended:
            raise MeasuringSuspended("suspended")
        if self.staged_list:
            raise AlreadyStaged("staged")
        if not self.current_list:
            raise NothingToStage("empty")
        self.staged_list, self.current_list = self.current_list, b""

    def delete_staged(self) -> None:
        if not self.staged_list:
            raise NothingToDelete("empty")
        if self.suspended:
            raise MeasuringSuspended("suspended")
        self.freed.append(self.staged_list)
        self.staged_list = b""

    def delete(self, records: int) -> None:
        if self.flush_htable:
            raise DeleteRefused("by number")
        taken = list(islice(read_records([self.current_list], LAYOUT), records))
        if len(taken) < records:
            raise NothingToDelete("fewer")
        if self.suspended:
            raise MeasuringSuspended("suspended")
        size = sum(record.size for record in taken)
        self.freed.append(self.current_list[:size])
        self.current_list = self.current_list[size:]

    def count(self) -> int:
        return sum(1 for _ in read_records([self.current_list], LAYOUT))

    @contextmanager
    def hold(self) -> Iterator["Kernel"]:
        yield self

    @contextmanager
    def snapshot(self) -> Iterator["Kernel"]:
        yield self
