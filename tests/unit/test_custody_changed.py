"""Records and logs that were changed: never freed, never evidence."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest
from tests.unit.custody_host import Died, Host, dying_at
from tests.unit.custody_kernel import LAYOUT, record, records

from imarium.chain import ChainState, replay
from imarium.custody import Custody, Log, Step, Store, no_registers
from imarium.custody.journal import Journal
from imarium.errors import MalformedInput, MalformedRecord, MissingComponent
from imarium.hashes import SHA1, HashAlgorithm


def test_a_record_whose_digest_is_not_its_datas_is_never_freed(either: Host) -> None:
    bad = bytearray(record("bad"))
    bad[4] ^= 1
    either.keep()
    either.kernel.current_list = bytes(bad)
    either.kernel.state = replay([bytes(bad)], LAYOUT, start=either.kernel.state).state
    for _ in range(2):
        result = either.keep()
        assert (result.verdict, "digest of record 1 is not" in result.reason) == ("refused", True)
        assert either.kernel.staged_list + either.kernel.current_list == bytes(bad)
    lines = len(Store(either.path).log().journal.entries)
    assert either.keep().verdict == "refused"
    assert len(Store(either.path).log().journal.entries) == lines
    either.kernel.measure("next")
    assert [either.keep(method).verdict for method in ("auto", "follow", "auto")] == ["refused"] * 3
    assert either.kernel.staged_list + either.kernel.current_list == bytes(bad) + record("next")
    assert Store(either.path).log().refusal is not None


def test_a_record_whose_digest_is_wrong_is_not_freed_after_a_crash_either(either: Host) -> None:
    either.keep("follow")
    bad = bytearray(record("bad"))
    bad[4] ^= 1
    either.kernel.add(bytes(bad))
    with pytest.raises(Died):
        either.keep(hook=dying_at(Step.JOURNALED))
    assert either.keep().verdict == "refused"
    assert either.kernel.staged_list + either.kernel.current_list == record("boot_aggregate") + bytes(bad)


def test_a_kernel_list_that_cannot_be_read_leaves_all_as_it_is(host: Host) -> None:
    host.keep()
    host.kernel.current_list = record("a")[:-3]
    with pytest.raises(MalformedRecord):
        host.keep()
    assert host.names() == ["boot_aggregate"]


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:40] + b"?" + data[41:]])
def test_a_kept_list_that_was_changed_is_an_error(host: Host, change: Callable[[bytes], bytes]) -> None:
    host.keep()
    path = host.path / "logs/0000/list"
    path.write_bytes(change(path.read_bytes()))
    host.kernel.measure("a")
    with pytest.raises((MalformedInput, MissingComponent)):
        host.keep()
    assert host.kernel.current_list == record("a")


LONG = [f"/{number:04}/" + "x" * 200 for number in range(60)]


def changed(host: Host, offset: int) -> None:
    path = host.path / "logs/0000/list"
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def without_tails(host: Host) -> None:
    """Write the journal again as one that notes no sums of the list's last bytes."""
    journal = Store(host.path).log().journal
    entries = [replace(entry, tail="") for entry in journal.entries]
    journal.path.write_bytes(b"")
    again = Journal(journal.path)
    for entry in entries:
        again.append(entry)


def test_a_run_takes_the_log_up_where_the_journal_ends(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.kernel.measure(*LONG)
    host.keep()
    host.kernel.measure("a")
    read: list[int] = []
    blocks = Log.blocks

    def counted(log: Log, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        for block in blocks(log, start, end):
            read.append(len(block))
            yield block

    monkeypatch.setattr(Log, "blocks", counted)
    assert host.keep().verdict == "proven"
    assert 0 < sum(read) < 10_000
    whole = Custody(host.path).whole(host.kernel, boot_id="first", registers=host.registers)
    assert sum(read) > whole.size > 12_000


def test_kept_records_that_were_changed_never_become_evidence(either: Host) -> None:
    either.kernel.measure(*LONG)
    either.keep()
    changed(either, 100)
    either.kernel.measure("a")
    with pytest.raises(MalformedInput, match="the list was changed, so restore it"):
        either.whole()
    assert (either.keep().kept_records, either.kernel.current_list) == (1, b"")
    with pytest.raises(MalformedInput, match="the list was changed"):
        either.whole()
    changed(either, 100)
    assert either.whole() == ["boot_aggregate", *LONG, "a"]


def test_a_log_that_is_refused_is_not_replayed_anew_for_each_look(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.keep("follow")
    host.kernel.measure("failed", extend=False)
    host.kernel.measure("a")
    plain, replayed = Log.end_state, []

    def end_state(self: Log, banks: Iterable[HashAlgorithm] = (SHA1,)) -> ChainState | None:
        replayed.append(host.boot_id)
        return plain(self, banks)

    monkeypatch.setattr(Log, "end_state", end_state)
    for number in range(4):
        result = host.keep("follow")
        assert (result.verdict, result.log) == ("refused", 0)
        Custody(host.path).whole(host.kernel, boot_id="first", registers=host.registers, recheck=False)
        host.kernel.measure(str(number))
    assert replayed == ["first"]
    host.kernel.kexec()
    host.boot_id = "second"
    for _ in range(2):
        assert host.keep("follow").verdict == "refused"
    assert replayed == ["first", "second"]


def test_changed_records_are_named_where_no_register_is_reached(host: Host) -> None:
    host.kernel.measure(*LONG)
    host.keep()
    changed(host, 100)
    host.kernel.measure("failed", extend=False)
    host.kernel.measure("a")
    with pytest.raises(MalformedInput, match="the list was changed"):
        host.keep()
    assert host.kernel.current_list == records("failed", "a")


def test_changed_records_are_named_also_where_something_else_was_refused_before(host: Host) -> None:
    host.kernel.measure(*LONG)
    host.keep()
    host.registers = no_registers
    host.kernel.measure("a")
    assert host.keep().verdict == "refused"
    changed(host, 100)
    host.registers = host.kernel.registers
    host.kernel.measure("failed", extend=False)
    host.kernel.measure("b")
    with pytest.raises(MalformedInput, match="the list was changed"):
        host.keep()


def test_a_journal_without_sums_of_the_list_has_all_replayed(host: Host) -> None:
    host.kernel.measure(*LONG)
    host.keep()
    without_tails(host)
    assert host.keep().verdict == "proven"
    changed(host, 100)
    with pytest.raises(MalformedInput, match="the list was changed"):
        host.keep()
