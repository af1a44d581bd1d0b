"""Appraisal over a real TPM's life: from zero, from a state on, after a reset, and beside extends of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.real.measured import LATER, MIXED, NONCE, OTHER_PCR, QUOTED, Measured, codes, programs, stored

from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.formats.tpm import SignatureScheme
from imarium.hashes import SHA1, SHA256, SHA384
from imarium.rot import KeyKind, Tpm
from imarium.verifier import TpmTrust, appraise

if TYPE_CHECKING:
    from tests.real.conftest import Swtpm


@pytest.mark.parametrize("column", ["sha1", "sha256"])
@pytest.mark.parametrize("scheme", SignatureScheme, ids=lambda scheme: scheme.name)
def test_from_zero_on_from_there_and_from_zero_again(swtpm: Swtpm, scheme: SignatureScheme, column: str) -> None:
    machine = Measured.start(swtpm, KeyKind(scheme))
    machine.boot()
    machine.measure(MIXED)
    layout = SHA1 if column == "sha1" else SHA256
    first = appraise(machine.attest(column=layout).encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)])
    assert codes(first) == []
    assert (first.covered, first.unverified, first.begins) == (len(MIXED) + 1, 0, "boot_aggregate")
    state = stored(first.state)
    assert state.chain.records == len(MIXED) + 1
    assert set(state.chain.values) == {IMA_PCR, OTHER_PCR}

    idle = appraise(machine.attest(first=12).encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)], state=state)
    assert (codes(idle), idle.covered, idle.unverified, idle.begins) == ([], 0, 0, "boot_aggregate")

    machine.measure([*programs("/second/1", "/second/2"), *programs("/second/3", pcr=11)])
    evidence = machine.attest(first=12, later=LATER, column=layout)
    second = appraise(evidence.encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)], state=state)
    assert (codes(second), second.covered, second.unverified) == ([], 3, 2)
    after = stored(second.state)
    assert after.chain.records == 15
    assert after.log.clock >= state.log.clock

    machine.measure([*LATER])
    third = appraise(machine.attest(first=15).encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)], state=after)
    assert (codes(third), third.covered, third.unverified) == ([], 2, 0)
    whole = appraise(machine.attest().encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)], state=stored(third.state))
    assert (codes(whole), whole.covered, whole.begins) == ([], 17, "boot_aggregate")
    assert whole.state is not None
    assert third.state is not None
    assert whole.state.chain == third.state.chain


def test_late_initialisation_is_told(swtpm: Swtpm) -> None:
    machine = Measured.start(swtpm)
    machine.boot(b"boot_aggregate_late")
    result = appraise(machine.attest().encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)])
    assert (codes(result), result.begins) == ([], "boot_aggregate_late")
    machine.measure(programs("/more"))
    more = appraise(
        machine.attest(first=1).encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)], state=stored(result.state)
    )
    assert (codes(more), more.begins) == ([], "boot_aggregate_late")


@pytest.mark.parametrize("banks", [(SHA256,), (SHA384,), (SHA1, SHA256, SHA384)], ids=str)
def test_any_strong_bank_will_do(swtpm: Swtpm, banks: tuple[Any, ...]) -> None:
    machine = Measured.start(swtpm)
    machine.boot()
    machine.measure(MIXED)
    result = appraise(machine.attest(banks=banks).encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)])
    assert codes(result) == []
    state = stored(result.state)
    machine.measure(programs("/more"))
    result = appraise(
        machine.attest(first=12, banks=banks).encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)], state=state
    )
    assert codes(result) == []
    others = machine.attest(first=12, banks=(*banks, machine.attest().log.layout.digest, SHA256, SHA384))
    found = codes(appraise(others.encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)], state=state))
    assert found == ([] if len(banks) == 3 else ["state_banks"])
    again = machine.attest(banks=(SHA256,))
    assert codes(appraise(again.encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)], state=state)) == []


def test_a_real_reset_ends_the_life_of_a_state(swtpm: Swtpm) -> None:
    machine = Measured.start(swtpm)
    machine.boot()
    machine.measure(MIXED)
    state = stored(appraise(machine.attest().encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)]).state)
    machine.reset()
    machine.boot()
    machine.measure(MIXED)
    evidence = machine.attest()
    result = appraise(evidence.encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)], state=state)
    assert codes(result) == ["state_reset"]
    assert codes(appraise(evidence.encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)])) == []


def test_extends_behind_the_lists_back(swtpm: Swtpm) -> None:
    machine = Measured.start(swtpm)
    machine.boot()
    machine.measure(MIXED)
    with Tpm(swtpm.tcti) as tpm:
        tpm.extend(IMA_PCR, {SHA1: SHA1.digest(b"one bank alone")})
    result = appraise(machine.attest().encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)])
    assert codes(result) == ["banks_disagree"]
    with Tpm(swtpm.tcti) as tpm:
        tpm.extend(IMA_PCR, {bank: bank.digest(b"no record") for bank in tpm.banks()})
    assert codes(appraise(machine.attest().encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)])) == ["records_missing"]


def test_nothing_extended_yet_proves_nothing(swtpm: Swtpm) -> None:
    machine = Measured.start(swtpm)
    assert codes(appraise(machine.attest().encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)])) == ["nothing_covered"]
    result = appraise(machine.attest(later=LATER[:0]).encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)])
    assert codes(result) == ["nothing_covered"]


def test_boot_aggregate_is_the_hash_of_the_attested_registers(swtpm: Swtpm) -> None:
    machine = Measured.start(swtpm)
    machine.boot()
    with Tpm(swtpm.tcti) as tpm:
        tpm.extend(PcrIndex(7), {bank: bank.digest(b"after the boot") for bank in tpm.banks()})
    result = appraise(machine.attest().encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)])
    assert [(reason.code, reason.record) for reason in result.reasons] == [("boot_aggregate_mismatch", 0)]
    unquoted = machine.attest(quoted=QUOTED[8:])
    assert codes(appraise(unquoted.encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)])) == []
