"""The index of a log: the same answers as without it, whatever became of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.builders import Made, binary, made_records, ng
from tests.unit.custody_kernel import Kernel

from imarium.chain import ChainState, replay
from imarium.custody import Event, Keeper, Log, LogMeta, Store
from imarium.custody.index import INDEX_FILE, Index, IndexHeader, read_index
from imarium.custody.indexing import write_index
from imarium.custody.marks import STRIDE, Mark, Marker
from imarium.errors import ImariumError, MalformedInput, MalformedRecord
from imarium.formats.records import ListLayout, read_records
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.hashes import SHA1, SHA256, SHA384, HashAlgorithm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LAYOUT = ListLayout()
MADE = [ng(b"boot_aggregate"), *(ng(b"/bin/%d" % number, 11 if number > 3000 else 10) for number in range(1, 5000))]
MADE[1500] = ng(b"/var/log/wtmp", violation=True)
DATA = binary(MADE)
BANKS = (SHA1, SHA256)


def filled(place: Path, made: Sequence[Made] = MADE, *, start: str = "reset", known: int | None = None) -> Log:
    """A log with these records, as one drain would leave it, in a store of its own; no index."""
    store = Store(place, create=True)
    log = store.begin(LogMeta("little", "2026-01-01T00:00:00", "boot", "reset" if start == "reset" else "unknown", "t"))
    data = binary(made)
    log.list_path.write_bytes(data)
    log.grow(len(made), len(data))
    log.note(Event.KEPT, "boot", base=len(data) if known is None else known)
    return log


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Log:
    log = filled(tmp_path_factory.mktemp("built") / "store")
    assert write_index(log) == len(MADE) // STRIDE
    return log


def index_of(log: Log) -> Index:
    index = read_index(log.index_path, log.meta.identity)
    assert index is not None
    return index


def state(count: int, banks: Sequence[HashAlgorithm] = BANKS) -> ChainState:
    return replay([binary(MADE[:count])], LAYOUT, banks).state


def test_marks_are_what_a_replay_says(built: Log) -> None:
    index = index_of(built)
    assert index.marks == 4
    begun = 0
    for number in range(index.marks):
        mark = index.mark(number)
        count = (number + 1) * STRIDE
        end = len(binary(MADE[:count]))
        assert (mark.records, mark.offset, mark.state) == (count, end, state(count))
        assert mark.digest == hashlib.sha256(DATA[begun:end]).digest()[:16]
        begun = end


@pytest.mark.parametrize("number", [0, 1, 1023, 1024, 1025, 3001, 3500, 4096, 4999, 5000])
def test_the_answers_are_those_without_an_index(built: Log, number: int) -> None:
    assert built.offset_of(number) == len(binary(MADE[:number]))
    assert [record.number for record in built.records_from(number, 3)] == list(range(5000))[number : number + 3]
    assert built.state_at(number) == state(number)
    assert built.state_at(number, [SHA384]) == state(number, [SHA384])


def test_a_look_reads_a_stretch_and_not_the_list(built: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    plain = Log.blocks

    def counting(self: Log, start: int = 0, end: int | None = None) -> object:
        read.append(start)
        return plain(self, start, end)

    monkeypatch.setattr(Log, "blocks", counting)
    built.state_at(4500)
    assert min(read) == len(binary(MADE[:4096]))


def test_an_index_is_gone_on_with(tmp_path: Path) -> None:
    log = filled(tmp_path / "store", MADE[:2500])
    assert write_index(log) == 2
    before = log.index_path.read_bytes()
    more = binary(MADE[2500:])
    with log.list_path.open("ab") as file:
        file.write(more)
    log.grow(2500, len(more))
    log.note(Event.KEPT, "boot", base=0)
    assert write_index(log, limit=1) == 1
    assert write_index(log) == 1
    assert write_index(log) == 0
    assert index_of(log).header.registers == (IMA_PCR, PcrIndex(11))  # which was first seen in the third stretch
    assert index_of(log).mark(0).state == state(1024)
    assert log.index_path.read_bytes()[: len(before)] != before
    assert log.index_path.stat().st_mode & 0o777 == 0o600
    again = log.index_path.read_bytes()
    assert write_index(log, anew=True) == 4
    assert [index_of(log).mark(n) for n in range(4)] == [
        index.mark(n) for index in [Index(_copy(tmp_path, again), index_of(log).header)] for n in range(4)
    ]


def _copy(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "copy"
    path.write_bytes(data)
    return path


def test_a_log_without_a_known_start_has_offsets_alone(tmp_path: Path) -> None:
    log = filled(tmp_path / "store", start="unknown")
    write_index(log)
    mark = log.mark_before(4500)
    assert (mark.records, mark.state) == (4096, None)
    assert log.mark_before(4500, BANKS) == Mark()
    assert next(log.records_from(4500)).number == 4500


def test_the_banks_that_custody_has_compared_are_in_the_index(tmp_path: Path) -> None:
    log = filled(tmp_path / "store")
    log.note(Event.KEPT, "boot", base=0, state=state(5000, [SHA384]))
    write_index(log)
    assert index_of(log).header.banks == (SHA1, SHA256, SHA384)
    assert log.mark_before(4500, [SHA384]).records == 4096


def _flip(at: float) -> Callable[[bytes], bytes]:
    def damage(data: bytes) -> bytes:
        where = int(at * len(data))
        return data[:where] + bytes([data[where] ^ 0x40]) + data[where + 1 :]

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        *(_flip(at / 16) for at in range(16)),
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data + bytes(500),
        lambda data: data + data,
        lambda data: data[:10],
        lambda data: data[:0],
        lambda data: bytes(len(data)),
    ],
)
def test_a_damaged_index_changes_no_answer_and_is_mended(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    log = filled(tmp_path / "store")
    write_index(log)
    good = log.index_path.read_bytes()
    log.index_path.write_bytes(damage(good))
    for number in (0, 1024, 4999):
        assert log.offset_of(number) == len(binary(MADE[:number]))
        assert log.state_at(number) == state(number)
    write_index(log)
    assert log.index_path.read_bytes() == good


def test_an_index_of_another_log_is_not_used(tmp_path: Path) -> None:
    log, other = filled(tmp_path / "store"), filled(tmp_path / "other", [ng(b"/other/%d" % n) for n in range(3000)])
    write_index(log)
    object.__setattr__(other.meta, "reason", "another")
    other.index_path.write_bytes(log.index_path.read_bytes())
    assert read_index(other.index_path, other.meta.identity) is None
    assert next(other.records_from(2000)).name == b"/other/2000"
    write_index(other)
    assert index_of(other).marks == 2


def test_slots_behind_the_log_are_cut(tmp_path: Path) -> None:
    log = filled(tmp_path / "store")
    write_index(log)
    log.records, log.bytes = 2000, len(binary(MADE[:2000]))
    assert next(log.records_from(1999)).number == 1999
    write_index(log)
    assert index_of(log).marks == 1


def test_a_link_in_place_of_an_index_is_not_followed(tmp_path: Path) -> None:
    log = filled(tmp_path / "store")
    write_index(log)
    moved = tmp_path / "moved"
    log.index_path.rename(moved)
    log.index_path.symlink_to(moved)
    with pytest.raises(ImariumError):
        read_index(log.index_path, log.meta.identity)


def test_a_run_of_custody_leaves_an_index(tmp_path: Path) -> None:
    kernel = Kernel()
    kernel.boot()
    kernel.measure(*(f"/bin/{number}" for number in range(2 * STRIDE)))
    store = Store(tmp_path / "store", create=True)
    Keeper(store, kernel, boot_id="boot", registers=kernel.registers).once()
    log = store.log()
    assert (log.directory / INDEX_FILE).is_file()
    assert index_of(log).marks == 2
    assert log.state_at(log.records) == kernel.state


def test_an_index_that_cannot_be_written_does_not_hinder_custody(tmp_path: Path) -> None:
    kernel = Kernel()
    kernel.boot()
    store = Store(tmp_path / "store", create=True)
    Keeper(store, kernel, boot_id="boot", registers=kernel.registers).once()
    index = store.log().index_path
    index.unlink()
    index.mkdir()
    kernel.measure(*(f"/bin/{number}" for number in range(STRIDE)))
    result = Keeper(store, kernel, boot_id="boot", registers=kernel.registers).once()
    assert (result.verdict, result.kept_records) == ("proven", STRIDE)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made_records(max_size=12), st.integers(1, 5), st.integers(1, 300))
def test_marks_do_not_depend_on_where_blocks_end(made: list[Made], stride: int, block: int) -> None:
    data = binary(made)
    marker = Marker(LAYOUT, BANKS, stride=stride)
    cut = [data[at : at + block] for at in range(0, len(data), block)]
    stretches = [stretch for part in cut for stretch in marker.feed(part)]
    last = marker.finish()
    stretches += [last] if last else []
    counts = [*range(stride, len(made) + 1, stride), *([len(made)] if len(made) % stride else [])]
    assert [stretch.mark.records for stretch in stretches] == counts
    begun = 0
    for stretch in stretches:
        mark, end = stretch.mark, len(binary(made[: stretch.mark.records]))
        assert (mark.offset, mark.digest) == (end, hashlib.sha256(data[begun:end]).digest()[:16])
        assert mark.state == replay([data[:end]], LAYOUT, BANKS).state
        begun = end


def test_a_broken_record_is_named_after_the_stretches_before_it() -> None:
    marker = Marker(LAYOUT, BANKS, stride=2)
    made = binary(MADE[:5])
    found = []
    with pytest.raises(MalformedRecord) as caught:
        for stretch in marker.feed(made + b"\xff" * 100):
            found.append(stretch.mark.records)
    assert (found, caught.value.record) == ([2, 4], 5)


@pytest.mark.parametrize("registers", [(IMA_PCR,), (IMA_PCR, PcrIndex(0), PcrIndex(63)), ()])
def test_a_header_goes_round(registers: tuple[PcrIndex, ...]) -> None:
    for known in (True, False):
        header = IndexHeader(bytes(range(16)), (SHA1, SHA384), registers, known)
        assert IndexHeader.decode(header.encode() + b"slots") == header
        for at in range(header.size):
            damaged = bytearray(header.encode())
            damaged[at] ^= 1
            with pytest.raises(MalformedInput):
                IndexHeader.decode(bytes(damaged))


def test_offsets_agree_with_the_records(built: Log) -> None:
    offsets = [record.offset for record in read_records([DATA], LAYOUT)]
    assert [index_of(built).mark(n).offset for n in range(4)] == [offsets[(n + 1) * STRIDE] for n in range(4)]
