"""The whole list, live: the same bytes whatever was staged, kept or deleted between two reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.custody_kernel import LAYOUT, Kernel, record, records, violation

from imarium.custody import Keeper, Store, View, WholeList
from imarium.custody.forms import Form, FormReader, Places
from imarium.errors import MalformedRecord, MissingComponent
from imarium.formats.ascii import ascii_line
from imarium.formats.records import ListLayout, read_records
from imarium.hashes import SHA1, SHA256, SHA512
from imarium.securityfs import ListBusy


@dataclass
class BusyKernel(Kernel):
    """A kernel whose lists can be held by someone else."""

    busy: bool = False

    @contextmanager
    def snapshot(self) -> Iterator["BusyKernel"]:
        if self.busy:
            raise ListBusy("held")
        yield self


@pytest.fixture
def kernel() -> BusyKernel:
    kernel = BusyKernel()
    kernel.boot()
    return kernel


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def view_of(store: Path, kernel: Kernel, boot_id: str = "boot") -> View:
    return View(store, kernel, boot_id=boot_id, registers=kernel.registers)


def drain(store: Path, kernel: Kernel) -> None:
    result = Keeper(Store(store, create=True), kernel, boot_id="boot", registers=kernel.registers).once()
    assert result.verdict == "proven"


def content(whole: WholeList) -> bytes:
    return b"".join(whole.blocks())


def test_without_a_store_it_is_the_kernels_list(store: Path, kernel: BusyKernel) -> None:
    kernel.measure("/a")
    whole = view_of(store, kernel).now()
    assert content(whole) == records("boot_aggregate", "/a")
    assert (whole.records, whole.log) == (2, None)
    assert not store.exists()


def test_a_store_that_is_being_made_is_none_yet_and_another_directory_is_told(store: Path, kernel: BusyKernel) -> None:
    store.mkdir(mode=0o700)
    view = view_of(store, kernel)
    assert content(view.now()) == records("boot_aggregate")
    (store / "other").touch()
    with pytest.raises(MissingComponent, match="no store there"):
        view_of(store, kernel).now()


def test_staging_draining_and_measuring_change_nothing_but_the_end(store: Path, kernel: BusyKernel) -> None:
    view = view_of(store, kernel)
    whole = view.now()
    named = ["boot_aggregate"]
    numbers = count()
    for step in ("measure", "stage", "measure", "drain", "measure", "drain", "drain", "measure", "stage", "drain"):
        match step:
            case "measure":
                named += [f"/{next(numbers)}", f"/{next(numbers)}"]
                kernel.measure(*named[-2:])
            case "stage":
                kernel.stage()
            case "drain":
                drain(store, kernel)
        assert view.now() is whole, step
        assert content(whole) == records(*named)
        assert whole.records == len(named)
    assert not kernel.current_list


def test_records_that_were_seen_pending_and_then_kept_are_not_doubled(store: Path, kernel: BusyKernel) -> None:
    view = view_of(store, kernel)
    drain(store, kernel)
    kernel.measure("/a", "/b")
    whole = view.now()
    half = whole.read(0, whole.size - 5)
    drain(store, kernel)
    kernel.measure("/c")
    assert view.now() is whole
    assert half + b"".join(whole.blocks(len(half))) == records("boot_aggregate", "/a", "/b", "/c")


def test_a_drain_under_way_shows_what_was_seen_last(store: Path, kernel: BusyKernel) -> None:
    view = view_of(store, kernel)
    kernel.busy = True
    with pytest.raises(ListBusy):
        view.now()
    kernel.busy = False
    seen = content(view.now())
    kernel.busy = True
    kernel.measure("/a")
    assert content(view.now()) == seen
    kernel.busy = False
    assert content(view.now()) == seen + record("/a")


def test_a_reset_begins_another_list_and_the_old_one_stays(store: Path, kernel: BusyKernel) -> None:
    view = view_of(store, kernel)
    kernel.measure("/a")
    drain(store, kernel)
    kernel.measure("/lost")
    old = view.now()
    before = content(old)
    kernel.boot()
    kernel.measure("/b")
    new = view.now()
    assert new is not old
    assert content(new) == records("boot_aggregate", "/b")
    assert content(old) == before


def test_records_that_someone_deletes_are_not_papered_over(store: Path, kernel: BusyKernel) -> None:
    view = view_of(store, kernel)
    drain(store, kernel)
    kernel.measure("/a", "/b")
    old = view.now()
    kernel.stage()
    kernel.delete_staged()
    kernel.measure("/c")
    new = view.now()
    assert new is not old
    assert view.found is not None
    assert view.found.verdict == "refused"
    assert content(old) == records("boot_aggregate", "/a", "/b")


def test_a_list_that_cannot_be_read_is_told_and_what_was_good_stays(store: Path, kernel: BusyKernel) -> None:
    view = view_of(store, kernel)
    whole = view.now()
    good = kernel.current_list
    kernel.current_list += record("/torn")[:-1]
    with pytest.raises(MalformedRecord):
        view.now()
    assert content(whole) == good
    kernel.current_list = good
    kernel.measure("/a")
    assert content(view.now()) == good + record("/a")


def test_a_growing_kernel_list_is_not_proved_again(store: Path, kernel: BusyKernel) -> None:
    view = view_of(store, kernel)
    view.now()
    found = view.found
    kernel.measure("/a")
    view.now()
    assert view.found is found
    drain(store, kernel)
    view.now()
    assert view.found is not found


FORMS = [Form(ascii, algorithm) for ascii in (False, True) for algorithm in (SHA1, SHA256, SHA512)]


def expected(data: bytes, form: Form) -> bytes:
    """What the kernel would show, made by other means: a list with the digests of this bank from the start."""
    layout = ListLayout(form.algorithm)
    out = b""
    for entry in read_records([data], LAYOUT):
        digest = bytes(form.algorithm.size)
        if not entry.is_violation:
            digest = layout.template_digest(entry.template, entry.data)
        name = entry.template.name.encode()
        head = entry.pcr.to_bytes(4, "little") + digest + len(name).to_bytes(4, "little") + name
        binary = head + len(entry.data).to_bytes(4, "little") + entry.data
        out += ascii_line(next(read_records([binary], layout))) if form.ascii else binary
    return out


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{'ascii' if form.ascii else 'binary'}-{form.algorithm.name}")
def test_a_form_is_the_same_read_whole_or_in_pieces_from_anywhere(store: Path, form: Form) -> None:
    kernel = Kernel()
    kernel.boot()
    kernel.measure(*(f"/program-{number}" for number in range(40)))
    drain(store, kernel)
    kernel.current_list += violation("/open")
    whole = View(store, kernel, boot_id="boot").now()
    wanted = expected(content(whole), form)
    reader = FormReader(whole, form, Places(distance=256))

    @given(st.lists(st.tuples(st.integers(0, len(wanted) + 10), st.integers(0, 700)), max_size=12))
    @settings(deadline=None, max_examples=60)
    def anywhere(reads: list[tuple[int, int]]) -> None:
        for offset, size in reads:
            assert reader.read(offset, size) == wanted[offset : offset + size]

    anywhere()
    assert b"".join(reader.read(offset, 97) for offset in range(0, len(wanted) + 97, 97)) == wanted


def test_a_reader_at_the_end_reads_on_when_the_list_grows(store: Path, kernel: BusyKernel) -> None:
    view = view_of(store, kernel)
    form = Form(ascii=True, algorithm=SHA256)
    reader = FormReader(view.now(), form, Places())
    first = reader.read(0, 1 << 20)
    assert reader.read(len(first), 1) == b""
    kernel.measure("/a")
    drain(store, kernel)
    kernel.measure("/b")
    whole = view.now()
    assert first + reader.read(len(first), 1 << 20) == expected(content(whole), form)


def test_places_stay_few_and_in_order() -> None:
    places = Places(distance=10)
    for number in range(100_000):
        places.note(10 * number, 7 * number, number)
    assert len(places.made) < 1 << 10
    assert places.made == sorted(places.made)
    for made in (0, 9, 10, 12345, 999_990):
        at, offset, number = places.before(made)
        assert (at, offset) == (10 * number, 7 * number)
        assert made - places.distance * 2 < at <= made
