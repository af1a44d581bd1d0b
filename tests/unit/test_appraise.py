"""Appraisal of evidence signed by a key made here: lists, registers and banks a TPM does not readily give."""

import importlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.appraise_builders import (
    AK,
    BOOT,
    LOG,
    NONCE,
    QUOTED,
    ask,
    codes,
    evidence,
    public_area,
    quote,
    state_after,
    values_after,
)
from tests.unit.builders import Made, binary, hashed, made_records, naive_replay, ng

from imarium.errors import MissingComponent
from imarium.formats.evidence import ListPart
from imarium.formats.records import ListLayout
from imarium.formats.registers import PcrIndex
from imarium.formats.tpm import PcrValues, parse_public
from imarium.hashes import SHA1, SHA256, SHA384, SM3, HashAlgorithm, by_name
from imarium.verifier import TpmTrust, VerifierState, appraise
from imarium.verifier.damage import MAX_TRIED, explain_signature


def test_the_document_of_a_result() -> None:
    document = ask(evidence(LOG, later=1)).to_document()
    assert set(document) == {"verdict", "reasons", "covered", "unverified", "begins", "boot_aggregate", "state"}
    assert document | {"state": None} == {
        "verdict": "pass",
        "reasons": [],
        "covered": 4,
        "unverified": 1,
        "begins": "boot_aggregate",
        "boot_aggregate": "compared",
        "state": None,
    }
    state = VerifierState.from_document(document["state"])
    assert (state.chain.records, state.log.resets, state.log.clock) == (4, 7, 1000)
    failed = ask(b"").to_document()
    assert failed["verdict"] == "fail"
    assert failed["state"] is None
    assert [set(reason) for reason in failed["reasons"]] == [{"code", "record", "detail"}]  # type: ignore[attr-defined]


@given(made_records(max_size=12), st.data())
def test_every_list_passes_as_far_as_its_quote_goes(records, data):
    pcrs = tuple(sorted({*QUOTED, *(PcrIndex(record.pcr) for record in records if record.pcr < 24)}))
    log = [BOOT, *(record for record in records if record.pcr < 24 and record.pcr not in range(10))]
    later = data.draw(st.integers(0, len(log) - 1))
    first = data.draw(st.integers(0, len(log) - later))
    if first == 0:
        state = None
    else:
        before = ask(evidence(log[:first], pcrs=pcrs))
        assert before.reasons == ()
        state = before.state
    result = ask(evidence(log, first=first, later=later, pcrs=pcrs, clock=1000), state)
    assert result.reasons == ()
    assert first + result.covered <= len(log) - later
    held = log[first + result.covered : len(log) - later]
    assert held == [], "a record in a register that the quote covers is covered"


@given(made_records(max_size=10), st.data())
def test_no_list_with_a_record_missing_passes(records, data):
    log = [BOOT, *(record for record in records if record.pcr in {10, 11})]
    log.append(ng(b"/the last one"))
    place = data.draw(st.integers(0, len(log) - 1))
    whole = evidence(log)
    shorter = log[:place] + log[place + 1 :]
    forged = replace(whole, log=ListPart(0, len(shorter), ListLayout(), binary(shorter)))
    assert not ask(forged, registers=(PcrIndex(11),)).passed


def test_a_register_can_be_left_out_only_where_nobody_asks_for_it() -> None:
    silent = [record for record in LOG if record.pcr != 11]
    forged = replace(evidence(LOG), log=ListPart(0, len(silent), ListLayout(), binary(silent)))
    assert codes(forged) == []
    assert [reason.code for reason in ask(forged, registers=(PcrIndex(11),)).reasons] == ["records_missing"]
    assert codes(forged, state_after(4)) == ["records_missing"]
    assert ask(evidence(LOG), registers=(PcrIndex(11),)).passed
    narrow = ask(evidence(silent, pcrs=QUOTED[:11]), registers=(PcrIndex(11),))
    assert {reason.code for reason in narrow.reasons} == {"selection_mismatch"}


def test_banks_must_agree_and_one_be_strong() -> None:
    assert codes(evidence(LOG, banks=(SHA1,))) == ["bank_weak"]
    assert codes(evidence(LOG, banks=(SHA384,))) == []
    values = values_after(LOG, (SHA1, SHA256), QUOTED)
    earlier = values_after(LOG[:4], (SHA1,), QUOTED)
    mixed = replace(evidence(LOG), root=quote({SHA1: earlier[SHA1], SHA256: values[SHA256]}))
    assert not ask(mixed).passed


def test_no_list_is_read_and_no_bit_sought_for_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("imarium.verifier.appraise")
    given = replace(evidence(LOG), log=ListPart(0, 9, ListLayout(), b"no list"))
    assert codes(given) == ["record_malformed"]
    monkeypatch.setattr(module, "read_list", lambda _: pytest.fail("the list was read"))
    assert [reason.code for reason in appraise(given.encode(), nonce=b"other", trust=[TpmTrust(AK)]).reasons] == [
        "nonce_mismatch"
    ]
    tpm = importlib.import_module("imarium.verifier.root_tpm")
    monkeypatch.setattr(tpm, "explain_signature", lambda *_: pytest.fail("a bit was sought"))
    signature = given.root.signature[:-1] + bytes([given.root.signature[-1] ^ 1])
    stranger = parse_public(public_area(ec.generate_private_key(ec.SECP256R1())))
    changed = replace(given, root=replace(given.root, signature=signature)).encode()
    found = appraise(changed, nonce=NONCE, trust=[TpmTrust(stranger)])
    assert [reason.code for reason in found.reasons] == ["ak_mismatch", "signature_invalid"]


def test_a_changed_bit_is_sought_only_where_it_can_be() -> None:
    root = evidence(LOG).root
    changed = bytes([root.quote[0] ^ 4]) + root.quote[1:]
    found = explain_signature(root.ak, changed, root.signature)
    assert found is not None
    assert (found.code, "bit 2 of byte 0 " in found.detail) == ("quote_altered", True)
    twice = changed[:-1] + bytes([changed[-1] ^ 1])
    assert explain_signature(root.ak, twice, root.signature) is None
    assert explain_signature(root.ak[:-1], changed, root.signature) is None
    assert explain_signature(root.ak, changed, root.signature[:-1]) is None
    assert explain_signature(root.ak, changed + bytes(MAX_TRIED), root.signature) is None


def test_a_bank_of_padded_digests_does_not_pass() -> None:
    """A kernel without the algorithm extends SHA-1 digests: no stronger than SHA-1, whatever the bank is called."""
    bank = by_name("sha3-256")
    value = naive_replay(LOG, bank.name, padded=True)[-1]
    values: PcrValues = {bank: {pcr: value.get(pcr, bytes(32)) for pcr in QUOTED}}
    assert codes(replace(evidence(LOG), root=quote(values))) == ["records_missing"]


def counter(updates: int) -> Made:
    text = b"update_counter=%d;" % updates
    return Made("ima-buf", (b"sha256:\0" + SHA256.digest(text), b"ima_init_tpm_update_counter\0", text))


def test_update_counters_say_between_which_records_one_is_missing() -> None:
    records = [BOOT]
    for step in range(3):
        records += [counter(2 * len(records)), *(ng(b"/%d/%d" % (step, number)) for number in range(4))]
    records.append(counter(2 * len(records)))
    whole = evidence(records)
    assert codes(whole) == []
    without = binary(records[:8] + records[9:])
    forged = replace(whole, log=replace(whole.log, records=without, count=len(records) - 1))
    (reason,) = ask(forged).reasons
    assert reason.code == "records_missing"
    assert reason.detail.endswith("; the update counters allow for missing ones between records 6 and 10 (up to 1)")


@pytest.mark.parametrize("pcr", [16, 23])
def test_registers_that_programs_can_reset_prove_nothing(pcr: int) -> None:
    log = [*LOG, ng(b"/x", pcr)]
    result = ask(evidence(log, pcrs=(*QUOTED, PcrIndex(pcr))))
    assert [(reason.code, reason.record) for reason in result.reasons] == [("register_resettable", 5)]


def test_a_register_no_tpm_has_is_never_quoted() -> None:
    result = ask(replace(evidence(LOG), log=ListPart(0, 6, ListLayout(), binary([*LOG, ng(b"/x", 63)]))))
    assert [(reason.code, reason.record) for reason in result.reasons] == [("register_not_quoted", 5)]


@pytest.mark.parametrize("number", [0, 3])
def test_a_record_whose_fields_cannot_be_read(number: int) -> None:
    """It is well framed, and its hash would be good."""
    broken = replace(LOG[number], fields=(b"sha256:\0" + bytes(31), LOG[number].fields[1]))
    result = ask(evidence([*LOG[:number], broken, *LOG[number + 1 :]]))
    assert [(reason.code, reason.record) for reason in result.reasons] == [("record_malformed", number)]


def test_the_beginning() -> None:
    assert ask(evidence(LOG)).begins == "boot_aggregate"
    assert ask(evidence([ng(b"boot_aggregate_late", content=bytes(320)), *LOG[1:]])).begins == "boot_aggregate_late"
    assert codes(evidence(LOG[1:])) == ["boot_aggregate_missing"]
    assert codes(evidence([ng(b"boot_aggregate", violation=True), *LOG])) == ["boot_aggregate_missing"]
    assert codes(evidence([ng(b"boot_aggregate", content=b"other"), *LOG])) == ["boot_aggregate_mismatch"]
    sha1 = Made("ima", (hashed("sha1", bytes(160)), b"boot_aggregate"))
    assert codes(evidence([sha1, *LOG[1:]])) == []
    wrong = Made("ima", (hashed("sha1", bytes(200)), b"boot_aggregate"))
    assert codes(evidence([wrong, *LOG[1:]])) == ["boot_aggregate_mismatch"]
    older = Made("ima-ng", (b"sm3-256:\0" + SM3.digest(bytes(200)), b"boot_aggregate\0"))
    assert codes(evidence([older, *LOG[1:]], banks=(SHA256, SM3))) == ["boot_aggregate_mismatch"]
    state = state_after(3)
    assert ask(evidence(LOG, first=3), state).begins == "boot_aggregate"


def test_a_boot_aggregate_that_cannot_be_computed_here_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    boot = Made("ima-ng", (b"sm3:\0" + SM3.digest(bytes(320)), b"boot_aggregate\0"))
    asked = evidence([boot, *LOG[1:]], banks=(SHA256, SM3))
    assert codes(asked) == []
    digest = HashAlgorithm.digest

    def without_sm3(algorithm: HashAlgorithm, data: bytes) -> bytes:
        if algorithm is SM3:
            raise MissingComponent("no sm3 here")
        return digest(algorithm, data)

    monkeypatch.setattr(HashAlgorithm, "digest", without_sm3)
    assert codes(asked) == ["algorithm_unsupported"]


def test_data_altered_and_a_record_missing_are_both_told() -> None:
    altered = replace(LOG[3], forged=LOG[3].true_digest("sha1", "little"), fields=ng(b"/C").fields)
    assert codes(replace(evidence(LOG), log=ListPart(0, 5, ListLayout(), binary([*LOG[:3], altered, LOG[4]])))) == [
        "record_altered"
    ]
    both = binary([LOG[0], *LOG[2:3], altered, LOG[4]])
    assert codes(replace(evidence(LOG), log=ListPart(0, 4, ListLayout(), both))) == [
        "records_missing",
        "record_altered",
    ]


def test_many_altered_records_are_summed_up() -> None:
    log = [BOOT, *(replace(ng(b"/%d" % i), forged=b"\x01" * 20) for i in range(150))]
    true = [replace(record, forged=None) for record in log]
    reasons = ask(replace(evidence(true), log=ListPart(0, 151, ListLayout(), binary(log)))).reasons
    assert len(reasons) == 101
    assert {reason.code for reason in reasons} == {"template_digest_altered"}
    assert [reason.record for reason in reasons] == [*range(1, 101), None]


def test_whether_boot_aggregate_was_compared_is_said() -> None:
    assert ask(evidence(LOG)).boot_aggregate == "compared"
    assert ask(evidence(LOG, pcrs=QUOTED[9:])).boot_aggregate == "not_compared"
    state = state_after(2)
    assert ask(evidence(LOG, first=2), state).boot_aggregate is None
