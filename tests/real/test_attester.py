"""Evidence made with a real TPM while lists and registers change."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from tests.real.measured import MIXED, NONCE, Measured, programs
from tests.unit.builders import Made, binary, ng

from imarium.attester import make_evidence
from imarium.errors import MalformedRecord, RefusedOperation, UsageError
from imarium.formats.evidence import Evidence
from imarium.formats.records import ListLayout, read_records
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.hashes import SHA1, SHA256, SHA384, SHA512, HashAlgorithm
from imarium.rot import NativeQuote, Tpm, TpmRoot
from imarium.rot.tpm_root import choose_banks
from imarium.verifier import Result, TpmTrust, appraise

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from tests.real.conftest import Swtpm


SHA1_LIST = ListLayout()


@dataclass(frozen=True)
class Listed:
    """A view over bytes, in blocks that cut records anywhere."""

    data: bytes
    layout: ListLayout = SHA1_LIST
    block: int = 100

    def blocks(self) -> Iterator[bytes]:
        for start in range(0, len(self.data), self.block):
            yield self.data[start : start + self.block]


class Counting(TpmRoot):
    """A TPM that says what it was asked to quote."""

    def __init__(self, machine: Measured) -> None:
        super().__init__(machine.swtpm.tcti, ak=machine.key)
        self.asked: list[set[str]] = []

    def quote(self, nonce: bytes, registers: Collection[str] = ()) -> NativeQuote:
        self.asked.append(set(registers))
        return super().quote(nonce, registers)


@pytest.fixture
def machine(swtpm: Swtpm) -> Measured:
    started = Measured.start(swtpm)
    started.boot()
    return started


def now(machine: Measured) -> Listed:
    return Listed(binary(machine.records))


def root(machine: Measured) -> TpmRoot:
    return TpmRoot(machine.swtpm.tcti, ak=machine.key)


def attest(machine: Measured, *, banks: Sequence[HashAlgorithm] = (), **given: Any) -> Evidence[Any]:
    with root(machine) as rot:
        rot.use_banks(banks)
        return make_evidence(rot, lambda: now(machine), nonce=NONCE, **given)


def judge(machine: Measured, evidence: Evidence) -> Result:
    decoded = Evidence.decode(evidence.encode())
    assert decoded == evidence
    return appraise(evidence.encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)])


def test_what_is_quoted_and_sent(machine: Measured) -> None:
    machine.measure(MIXED)
    evidence = attest(machine)
    assert {bank: set(values) for bank, values in evidence.root.values.items()} == {
        bank: set(range(12)) for bank in (SHA1, SHA256)
    }
    assert (evidence.log.first, evidence.log.count) == (0, 12)
    assert evidence.log.records == binary(machine.records)
    assert judge(machine, evidence).covered == 12


@pytest.mark.parametrize("first", [0, 1, 5, 12])
def test_records_from_any_number_on(machine: Measured, first: int) -> None:
    machine.measure(MIXED)
    evidence = attest(machine, first=first)
    assert evidence.log.records == binary(machine.records[first:])
    assert (evidence.log.first, evidence.log.count) == (first, 12 - first)
    assert set(evidence.root.values[SHA256]) == set(range(12))  # those of the records before, too


def test_a_record_that_is_not_there(machine: Measured) -> None:
    with pytest.raises(UsageError, match="the log has 1 records; there is no record 2"):
        attest(machine, first=2)


def test_a_list_that_names_a_new_register_is_quoted_again(machine: Measured) -> None:
    machine.measure([ng(b"/x", 11), ng(b"/y", 14)])
    with Counting(machine) as counting:
        evidence = make_evidence(counting, lambda: now(machine), nonce=NONCE)
    boot = set(map(str, range(11)))
    assert counting.asked == [boot, boot | {"11", "14"}]
    assert judge(machine, evidence).covered == 3


def test_a_list_that_goes_on_naming_new_registers_is_given_up(machine: Measured) -> None:
    fresh = iter(range(11, 24))
    records: list[Made] = list(machine.records)

    def view() -> Listed:
        records.append(ng(b"/x", next(fresh)))
        return Listed(binary(records))

    with root(machine) as rot, pytest.raises(RefusedOperation, match="try again"):
        make_evidence(rot, view, nonce=NONCE)


def test_a_register_no_tpm_has_is_refused(machine: Measured) -> None:
    machine.records.append(ng(b"/x", 40))
    with pytest.raises(UsageError, match="'40' is no PCR"):
        attest(machine)


def test_registers_asked_for_are_quoted_too(machine: Measured) -> None:
    evidence = attest(machine, registers=["14", "10"])
    assert set(evidence.root.values[SHA256]) == {*range(11), 14}


def test_banks(machine: Measured) -> None:
    evidence = attest(machine, banks=[SHA384])
    assert set(evidence.root.values) == {SHA384}
    assert judge(machine, evidence).passed
    assert choose_banks([SHA512, SHA384, SHA256, SHA1]) == (SHA1, SHA256)
    assert choose_banks([SHA384, SHA1]) == (SHA384, SHA1)
    assert choose_banks([SHA256]) == (SHA256,)
    for lone in ([SHA1], []):
        with pytest.raises(UsageError, match="allocate SHA-256"):
            choose_banks(lone)


def test_a_tpm_with_sha1_alone_is_refused(machine: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    with root(machine) as rot:
        monkeypatch.setattr(rot, "banks", lambda: (SHA1,))
        with pytest.raises(UsageError, match="no verifier accepts"):
            make_evidence(rot, lambda: now(machine), nonce=NONCE)


def test_records_behind_the_quote_are_sent_and_unverified(machine: Measured) -> None:
    """The program runs after the quote and before the list is read."""

    def view() -> Listed:
        machine.measure(programs("/late"))
        return now(machine)

    with root(machine) as rot:
        evidence = make_evidence(rot, view, nonce=NONCE)
    result = judge(machine, evidence)
    assert (result.reasons, result.covered, result.unverified) == ((), 1, 1)


def test_evidence_is_good_while_programs_run(machine: Measured) -> None:
    """Another thread measures all the time, over a connection of its own: list first, then register, as the kernel."""
    lock, stop = threading.Lock(), threading.Event()
    records = machine.records

    def measure() -> None:
        with Tpm(machine.swtpm.tcti) as tpm:
            banks = tpm.banks()
        number = 0
        while not stop.wait(0.02):
            made = ng(b"/program/%d" % number)
            with lock:
                records.append(made)
            with Tpm(machine.swtpm.tcti) as tpm:
                tpm.extend(IMA_PCR, {bank: made.true_digest(bank.name, "little") for bank in banks})
            number += 1

    def view() -> Listed:
        with lock:
            return now(machine)

    runner = threading.Thread(target=measure)
    results = []
    runner.start()
    try:
        for _ in range(5):
            # A bare TPM serves one connection at a time, so the quote and the extends take turns; the view does not.
            with root(machine) as rot:
                results.append(judge(machine, make_evidence(rot, view, nonce=NONCE)))
    finally:
        stop.set()
        runner.join()
    assert [result.reasons for result in results] == [()] * 5
    assert results[-1].covered > results[0].covered > 0


def test_registers_that_change_between_reading_and_quoting(machine: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Tpm._read
    disturbances = 2

    def disturbed(self: Tpm, selection: dict[HashAlgorithm, tuple[PcrIndex, ...]]) -> object:
        nonlocal disturbances
        values = plain(self, selection)
        if disturbances:
            disturbances -= 1
            made = ng(b"/between/%d" % disturbances)
            machine.records.append(made)
            self.extend(IMA_PCR, {bank: made.true_digest(bank.name, "little") for bank in self.banks()})
        return values

    monkeypatch.setattr(Tpm, "_read", disturbed)
    result = judge(machine, attest(machine))
    assert (disturbances, result.reasons) == (0, ())
    assert (result.covered, result.unverified) == (2, 1)


def test_a_broken_list_is_named_by_record(machine: Measured) -> None:
    machine.measure(programs("/a", "/b"))
    data = binary(machine.records)
    with root(machine) as rot, pytest.raises(MalformedRecord) as caught:
        make_evidence(rot, lambda: Listed(data[:-3]), nonce=NONCE)
    assert caught.value.record == 2


@pytest.mark.parametrize("bank", [SHA1, SHA256, SHA384], ids=lambda bank: bank.name)
def test_lists_of_any_bank(machine: Measured, bank: HashAlgorithm) -> None:
    machine.measure(MIXED)

    def view() -> Listed:
        return Listed(binary(machine.records, bank.name), ListLayout(bank))

    with root(machine) as rot:
        evidence = make_evidence(rot, view, nonce=NONCE, first=0)
    assert evidence.log.layout == ListLayout(bank)
    assert judge(machine, evidence).covered == 12
    assert len(list(read_records([evidence.log.records], evidence.log.layout))) == 12
