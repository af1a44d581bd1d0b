"""Appraisal of evidence signed by a key made here: hostile input, and states and banks a TPM does not readily give."""

import importlib
import struct
import tracemalloc
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.builders import Made, binary, hashed, made_records, naive_replay, ng

from imarium.chain import ChainState
from imarium.errors import MalformedInput, MissingComponent
from imarium.formats.evidence import Evidence, ListPart, TpmPart
from imarium.formats.records import ListLayout
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.formats.tpm import PcrValues, parse_public, pcr_digest, selection_bytes
from imarium.hashes import SHA1, SHA256, SHA384, SM3, HashAlgorithm, by_name
from imarium.verifier import Result, TpmTrust, VerifierState, appraise
from imarium.verifier.damage import MAX_TRIED, explain_signature

NONCE = b"\x05" * 20
PRIVATE = ec.generate_private_key(ec.SECP256R1())
QUOTED = tuple(PcrIndex(pcr) for pcr in range(12))


def sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def public_area(key: ec.EllipticCurvePrivateKey = PRIVATE) -> bytes:
    point = key.public_key().public_numbers()
    area = struct.pack(">HHI", 0x23, 0x0B, 0x00050072) + sized(b"") + struct.pack(">HHHHH", 0x10, 0x18, 0x0B, 3, 0x10)
    return sized(area + sized(point.x.to_bytes(32, "big")) + sized(point.y.to_bytes(32, "big")))


AK = parse_public(public_area())


def quote(
    values: PcrValues,
    *,
    clock: int = 1000,
    resets: int = 7,
    nonce: bytes = NONCE,
    signer: bytes = b"\x00\x0b" + bytes(32),
) -> TpmPart:
    """What a TPM with these values would say."""
    selection = {bank: tuple(of_bank) for bank, of_bank in values.items()}
    message = struct.pack(">IH", 0xFF544347, 0x8018) + sized(signer) + sized(nonce)
    message += struct.pack(">QIIBQ", clock, resets, 1, 1, 0) + selection_bytes(selection)
    message += sized(pcr_digest(selection, values, SHA256))
    r, s = decode_dss_signature(PRIVATE.sign(message, ec.ECDSA(hashes.SHA256())))
    signature = struct.pack(">HH", 0x18, 0x0B) + sized(r.to_bytes(32, "big")) + sized(s.to_bytes(32, "big"))
    return TpmPart(message, signature, public_area(), values)


def values_after(records: list[Made], banks: tuple[HashAlgorithm, ...], pcrs: tuple[PcrIndex, ...]) -> PcrValues:
    values: dict[HashAlgorithm, dict[PcrIndex, bytes]] = {}
    for bank in banks:
        last = naive_replay(records, bank.name)[-1]
        ones = {pcr: b"\xff" if 17 <= pcr <= 22 else b"\0" for pcr in pcrs}
        values[bank] = {pcr: last.get(pcr, ones[pcr] * bank.size) for pcr in pcrs}
    return values


def evidence(
    records: list[Made],
    *,
    first: int = 0,
    later: int = 0,
    banks: tuple[HashAlgorithm, ...] = (SHA1, SHA256),
    pcrs: tuple[PcrIndex, ...] = QUOTED,
    **more: Any,
) -> Evidence:
    """Evidence whose quote covers all but the last ``later`` records."""
    covered = records[: len(records) - later]
    part = ListPart(first, len(records) - first, ListLayout(), binary(records[first:]))
    return Evidence(quote(values_after(covered, banks, pcrs), **more), part)


AGGREGATE = hashed("sha256", bytes(320))
BOOT = ng(b"boot_aggregate", content=bytes(320))
LOG = [BOOT, ng(b"/a"), ng(b"/b", 11), ng(b"/c"), ng(b"/d")]


def ask(given: Evidence | bytes, state: VerifierState | None = None, registers: tuple[PcrIndex, ...] = ()) -> Result:
    data = given if isinstance(given, bytes) else given.encode()
    result = appraise(data, nonce=NONCE, trust=[TpmTrust(AK)], state=state, registers=registers)
    assert result.passed is (result.state is not None)
    assert result.passed or result.covered == 0
    return result


def codes(given: Evidence | bytes, state: VerifierState | None = None) -> list[str]:
    return [reason.code for reason in ask(given, state).reasons]


def state_after(count: int) -> VerifierState:
    state = ask(evidence(LOG[:count])).state
    assert state is not None
    return state


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


def test_registers_of_the_state_have_to_be_quoted() -> None:
    state = state_after(4)
    rest = [*LOG, ng(b"/e")]
    narrow = evidence(rest, first=4, pcrs=QUOTED[:11])
    assert codes(narrow, state) == ["selection_mismatch", "selection_mismatch"]
    assert codes(evidence(rest, first=4), state) == []


@pytest.mark.parametrize("pcr", [16, 23])
def test_registers_that_programs_can_reset_prove_nothing(pcr: int) -> None:
    log = [*LOG, ng(b"/x", pcr)]
    result = ask(evidence(log, pcrs=(*QUOTED, PcrIndex(pcr))))
    assert [(reason.code, reason.record) for reason in result.reasons] == [("register_resettable", 5)]


def test_a_register_no_tpm_has_is_never_quoted() -> None:
    result = ask(replace(evidence(LOG), log=ListPart(0, 6, ListLayout(), binary([*LOG, ng(b"/x", 63)]))))
    assert [(reason.code, reason.record) for reason in result.reasons] == [("register_not_quoted", 5)]


def test_states_in_other_banks() -> None:
    state = state_after(4)
    banks = {pcr: {SHA384: bytes(48)} for pcr in state.chain.values}
    foreign = replace(state, chain=ChainState(4, banks))
    assert codes(evidence(LOG, first=4), foreign) == ["state_banks"]
    assert codes(evidence(LOG), foreign) == ["state_other_values"]
    assert codes(evidence(LOG), replace(state, chain=ChainState(4, {}))) == ["state_banks"]
    split = {IMA_PCR: {SHA256: bytes(32)}, PcrIndex(11): {SHA1: bytes(20)}}
    assert codes(evidence(LOG), replace(state, chain=ChainState(4, split))) == ["state_banks"]


def test_states_written_before_there_were_kinds_stay_good() -> None:
    state = state_after(4)
    document = state.to_document()
    log = document["log"]
    assert isinstance(log, dict)
    assert set(log) == {"kind", "root", "resets", "clock", "begins"}
    old = {"ak": log["root"], "reset_count": log["resets"], "clock": log["clock"], "begins": log["begins"]}
    assert VerifierState.from_document({**document, "log": old}) == state
    assert VerifierState.from_document(document) == state
    assert codes(evidence(LOG, first=4), VerifierState.from_document({**document, "log": old})) == []


@pytest.mark.parametrize(
    "change",
    [{"kind": 1}, {"kind": ""}, {"root": "x"}, {"root": ""}, {"resets": -1}, {"clock": True}, {"begins": None}],
)
def test_states_that_are_none(change: dict[str, object]) -> None:
    document = state_after(4).to_document()
    log = document["log"]
    assert isinstance(log, dict)
    with pytest.raises(MalformedInput):
        VerifierState.from_document({**document, "log": {**log, **change}})


def test_a_state_of_another_ak() -> None:
    state = state_after(4)
    other = replace(state, log=replace(state.log, root=b"\x00\x0b" + bytes(32)))
    assert codes(evidence(LOG, first=4), other) == ["state_other_ak"]
    assert codes(evidence(LOG), other) == ["state_other_ak"]


@pytest.mark.parametrize("number", [0, 3])
def test_a_record_whose_fields_cannot_be_read(number: int) -> None:
    """It is well framed, and its hash would be good."""
    broken = replace(LOG[number], fields=(b"sha256:\0" + bytes(31), LOG[number].fields[1]))
    result = ask(evidence([*LOG[:number], broken, *LOG[number + 1 :]]))
    assert [(reason.code, reason.record) for reason in result.reasons] == [("record_malformed", number)]


def test_a_log_shorter_than_the_state() -> None:
    state = state_after(5)
    assert codes(evidence(LOG[:3]), state) == ["records_removed"]
    assert codes(evidence(LOG, later=3), state) == ["records_removed"]
    assert codes(evidence(LOG[:3], first=3), state) == ["state_position"]
    assert codes(replace(evidence(LOG), log=ListPart(0, 0, ListLayout(), b"")), state) == ["list_empty"]


def test_the_clock_may_stand_still_but_not_go_back() -> None:
    state = state_after(5)
    assert codes(evidence(LOG, first=5, clock=1000), state) == []
    assert codes(evidence(LOG, first=5, clock=999), state) == ["clock_rollback"]
    assert codes(evidence(LOG, first=5, resets=8), state) == ["state_reset"]
    assert codes(evidence(LOG, first=5, resets=8, clock=999), state) == ["state_reset"]


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


HOSTILE: dict[str, bytes] = {
    "deep arrays": b"\x81" * 100_000,
    "deep maps": b"\xa1\x61a" * 100_000,
    "deep tags": b"\xc1" * 100_000 + b"\0",
    "a million arrays": b"\x9a\x00\x0f\x42\x40" + b"\x80" * 1_000_000,
    "many maps": b"\xb9\xff\xff" + b"\x61a\xa0" * 0xFFFF,
    "indefinite map": b"\xbf\xff",
    "indefinite bytes": b"\x5f\x41a\xff",
    "reserved length": b"\xbc",
    "break": b"\xff",
    "twice the same key": b"\xa2\x61a\x01\x61a\x01",
    "bytes and text keys": b"\xa2\x61a\x01\x41a\x01",
    "bignum": b"\xc2\x58\xff" + b"\xff" * 255,
    "big decimal": b"\xc4\x82\x1b\x7f" + b"\xff" * 7 + b"\x01",
    "big float": b"\xc5\x82\x1a\x3f\xff\xff\xff\x01",
    "division by zero": b"\xd8\x1e\x82\x01\x00",
    "regular expression": cbor2.dumps(cbor2.CBORTag(35, "(" * 20_000 + ")" * 20_000)),
    "mail message": cbor2.dumps(cbor2.CBORTag(36, "Content-Type: multipart/mixed; boundary=x\n\n" + "--x\n" * 50_000)),
    "date": cbor2.dumps(cbor2.CBORTag(0, "x")),
    "set": b"\xd9\x01\x02\x81\x41a",
    "value that holds itself": b"\xd8\x1c\xa1\x61a\xd8\x1d\x00",
    "string reference": b"\xd9\x01\x00\xa1\x61a\xd8\x19\x00",
    "bad UTF-8": b"\xa1\x62\xff\xff\x00",
    "simple value": b"\xf8\xff",
    "not a number": b"\xf9\x7e\x00",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_cbor_is_malformed_and_costs_little(name: str) -> None:
    tracemalloc.start()
    try:
        assert codes(HOSTILE[name]) == ["evidence_malformed"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


@pytest.mark.parametrize("head", [0x5A, 0x5B, 0x7A, 0x7B, 0xBA, 0xBB])
def test_lengths_that_are_not_there_cost_nothing(head: int) -> None:
    size = 8 if head & 1 else 4
    for prefix in (b"", b"\xa1\x64list", b"\xa1\x64list\xa1\x67records"):
        tracemalloc.start()
        try:
            assert codes(prefix + bytes([head]) + b"\xff" * size) == ["evidence_truncated"]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1_000_000


def document() -> Any:
    return cbor2.loads(evidence(LOG).encode())


@pytest.mark.parametrize("member", ["first", "count"])
@pytest.mark.parametrize("value", [True, 5.0, -1, 1 << 62, 1 << 64, 1 << 4000, "5", None])
def test_counts_that_are_none(member: str, value: object) -> None:
    changed = document()
    changed["list"][member] = value
    assert codes(cbor2.dumps(changed, canonical=True)) == ["evidence_malformed"]


def test_other_encodings_of_the_same_are_malformed() -> None:
    good = evidence(LOG).encode()
    assert codes(good) == []
    assert codes(cbor2.dumps(dict(reversed(document().items())))) == ["evidence_malformed"]
    assert codes(good.replace(b"\x67version\x01", b"\x67version\x18\x01")) == ["evidence_malformed"]
    assert codes(good.replace(b"\x65count\x05", b"\x65count\x19\x00\x05")) == ["evidence_malformed"]
    renamed = document()
    renamed["list"]["digest"] = "SHA1"
    assert codes(cbor2.dumps(renamed, canonical=True)) == ["evidence_malformed"]
    values = document()
    values["root"]["values"]["sha1"]["010"] = values["root"]["values"]["sha1"].pop("10")
    assert codes(cbor2.dumps(values, canonical=True)) == ["evidence_malformed"]


leaves = st.one_of(
    st.integers(-(1 << 70), 1 << 70),
    st.binary(max_size=40),
    st.text(max_size=12),
    st.booleans(),
    st.none(),
    st.floats(),
)
items = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))


@settings(max_examples=200)
@given(items)
def test_any_cbor_gets_a_verdict(item):
    (code,) = codes(cbor2.dumps(item))
    assert code.startswith("evidence_")


PATHS = [
    ("type",), ("version",), ("root",), ("list",),
    *(("root", name) for name in ("kind", "quote", "signature", "ak", "values")),
    *(("list", name) for name in ("first", "count", "digest", "byte_order", "records")),
]  # fmt: skip


@settings(max_examples=300)
@given(st.sampled_from(PATHS), items)
def test_any_member_replaced_gets_a_verdict(path, item):
    changed = document()
    container = changed
    for name in path[:-1]:
        container = container[name]
    if container[path[-1]] == item:
        return
    container[path[-1]] = item
    assert not ask(cbor2.dumps(changed, canonical=True)).passed


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_any_records_get_a_verdict(data):
    given = replace(evidence(LOG), log=ListPart(0, 5, ListLayout(), data))
    assert not ask(given).passed


def test_memory_stays_near_the_size_of_the_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are read in blocks, not held as objects."""
    monkeypatch.setattr("imarium.verifier.diagnose.WINDOW", 10)
    log = [BOOT, *(Made("d", (b"",)) for _ in range(30_000))]
    part = ListPart(0, len(log), ListLayout(), binary([BOOT]) + log[1].binary() * 30_000)
    data = replace(evidence(LOG), log=part).encode()
    tracemalloc.start()
    try:
        assert codes(data) == ["records_missing"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * len(data) + (24 << 20)


def test_whether_boot_aggregate_was_compared_is_said() -> None:
    assert ask(evidence(LOG)).boot_aggregate == "compared"
    assert ask(evidence(LOG, pcrs=QUOTED[9:])).boot_aggregate == "not_compared"
    state = state_after(2)
    assert ask(evidence(LOG, first=2), state).boot_aggregate is None
