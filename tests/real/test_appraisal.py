"""Appraisal of evidence that a real TPM has signed: what passes, and each fault with a code of its own."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.real.measured import ECDSA, LATER, MIXED, NONCE, OTHER_PCR, QUOTED, Measured, codes, stored
from tests.unit.builders import ng

from imarium.chain import ChainState
from imarium.formats.evidence import Evidence, ListPart
from imarium.formats.records import Record, encode_record, read_records
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.formats.tpm import ObjectAttributes, Public, SignatureScheme, parse_public
from imarium.hashes import SHA1, SHA256
from imarium.rot import KeyKind, StoredKey, Tpm
from imarium.rot.tpm_ak import AK_ATTRIBUTES, create_ak
from imarium.rot.tss import Tss
from imarium.verifier import TpmTrust, VerifierState, appraise

if TYPE_CHECKING:
    from tests.real.conftest import Swtpm


@dataclass(frozen=True)
class Scene:
    """Evidence that passes, the state an appraisal of its first eight records left, and the rest from there on."""

    machine: Measured
    good: Evidence
    state: VerifierState
    more: Evidence
    other: StoredKey
    loose: StoredKey

    @property
    def ak(self) -> Public:
        return self.machine.ak


@dataclass(frozen=True)
class Asked:
    """What the verifier is given."""

    evidence: Evidence | bytes
    nonce: bytes = NONCE
    ak: Public | None = None
    state: VerifierState | None = None


@pytest.fixture(scope="module")
def scene(shared_swtpm: Swtpm) -> Scene:
    machine = Measured.start(shared_swtpm)
    machine.boot()
    machine.measure(MIXED[:7])
    first = appraise(machine.attest().encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)])
    state = stored(first.state)
    assert state.chain.records == 8
    machine.measure(MIXED[7:])
    with Tpm(shared_swtpm.tcti) as tpm:
        other = tpm.create_ak(ECDSA)
    tss = Tss(shared_swtpm.tcti)
    loose = create_ak(tss, ECDSA, attributes=AK_ATTRIBUTES & ~ObjectAttributes.RESTRICTED)
    tss.close()
    good, more = machine.attest(later=LATER), machine.attest(first=8)
    assert codes(appraise(good.encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)])) == []
    assert codes(appraise(good.encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)], state=state)) == []
    assert codes(appraise(more.encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)], state=state)) == []
    return Scene(machine, good, state, more, other, loose)


def records(evidence: Evidence) -> list[Record]:
    return list(read_records([evidence.log.records], evidence.log.layout))


def listing(evidence: Evidence, kept: list[Record], **changes: Any) -> Evidence:
    """The evidence with these records instead, their number stated rightly unless told otherwise."""
    log = replace(evidence.log, records=b"".join(map(encode_record, kept)), count=len(kept))
    return replace(evidence, log=replace(log, **changes))


def without(evidence: Evidence, number: int, **changes: Any) -> Evidence:
    kept = records(evidence)
    return listing(evidence, kept[:number] + kept[number + 1 :], **changes)


def swapped(evidence: Evidence, one: int, other: int) -> Evidence:
    kept = records(evidence)
    kept[one], kept[other] = kept[other], kept[one]
    return listing(evidence, kept)


def added(evidence: Evidence, number: int) -> Evidence:
    kept = records(evidence)
    extra = list(read_records([ng(b"/usr/bin/added").binary()], evidence.log.layout))
    return listing(evidence, kept[:number] + extra + kept[number:])


def edited(evidence: Evidence, number: int, **changes: Any) -> Evidence:
    kept = records(evidence)
    kept[number] = replace(kept[number], **changes)
    return listing(evidence, kept)


def flipped(data: bytes, place: int, bit: int = 1) -> bytes:
    place %= len(data)
    return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]


def root(evidence: Evidence, **changes: Any) -> Evidence:
    return replace(evidence, root=replace(evidence.root, **changes))


def data_flipped(evidence: Evidence, number: int) -> Evidence:
    return edited(evidence, number, data=flipped(records(evidence)[number].data, -2))


def value_flipped(evidence: Evidence) -> Evidence:
    values = {bank: dict(of_bank) for bank, of_bank in evidence.root.values.items()}
    values[SHA256][IMA_PCR] = flipped(values[SHA256][IMA_PCR], 5)
    return root(evidence, values=values)


def with_log(state: VerifierState, **changes: Any) -> VerifierState:
    return replace(state, log=replace(state.log, **changes))


def with_value(state: VerifierState) -> VerifierState:
    values = {
        pcr: {bank: flipped(value, 0) for bank, value in banks.items()} for pcr, banks in state.chain.values.items()
    }
    return replace(state, chain=ChainState(state.chain.records, values))


def crossed(evidence: Evidence) -> Evidence:
    """A record of PCR 11 that the quote covers, behind one of PCR 10 that it does not."""
    kept = records(evidence)
    (last,) = [n for n, record in enumerate(kept[:12]) if record.pcr == OTHER_PCR and n > 5]
    return listing(evidence, [*kept[:last], *kept[last + 1 : 13], kept[last], *kept[13:]])


Case = tuple[Callable[[Scene], Asked], list[tuple[str, int | None]]]
CASES: dict[str, Case] = {
    "wrong nonce": (lambda s: Asked(s.good, nonce=NONCE[::-1]), [("nonce_mismatch", None)]),
    "another AK": (lambda s: Asked(s.good, ak=parse_public(s.other.public)), [("ak_mismatch", None)]),
    "AK not restricted": (
        lambda s: Asked(s.machine.attest(key=s.loose), ak=parse_public(s.loose.public)),
        [("ak_not_restricted", None)],
    ),
    "bit of the quote: clock": (
        lambda s: Asked(root(s.good, quote=flipped(s.good.root.quote, 80))),
        [("quote_altered", None)],
    ),
    "bit of the quote: magic": (
        lambda s: Asked(root(s.good, quote=flipped(s.good.root.quote, 0))),
        [("quote_altered", None), ("quote_not_tpm_generated", None)],
    ),
    "bit of the quote: digest": (
        lambda s: Asked(root(s.good, quote=flipped(s.good.root.quote, -1))),
        [("quote_altered", None), ("values_mismatch", None)],
    ),
    "bit of the signature": (
        lambda s: Asked(root(s.good, signature=flipped(s.good.root.signature, -1))),
        [("signature_altered", None)],
    ),
    "another key's signature": (
        lambda s: Asked(root(s.good, signature=s.machine.attest(key=s.other).root.signature)),
        [("signature_invalid", None)],
    ),
    "bit of a register value": (lambda s: Asked(value_flipped(s.good)), [("values_mismatch", None)]),
    "bit of a record's data": (lambda s: Asked(data_flipped(s.good, 7)), [("record_altered", 7)]),
    "bit of a template digest": (
        lambda s: Asked(edited(s.good, 3, template_digest=flipped(records(s.good)[3].template_digest, 4))),
        [("template_digest_altered", 3)],
    ),
    "template digest zeroed": (
        lambda s: Asked(edited(s.good, 9, template_digest=bytes(20))),
        [("violation_forged", 9)],
    ),
    "neighbours swapped": (lambda s: Asked(swapped(s.good, 2, 3)), [("record_order", 2)]),
    "distant records swapped": (lambda s: Asked(swapped(s.good, 1, 10)), [("record_order", 1)]),
    "first record dropped": (lambda s: Asked(without(s.good, 0)), [("boot_aggregate_missing", 0)]),
    "first dropped, rest numbered": (lambda s: Asked(without(s.good, 0, first=1)), [("state_missing", None)]),
    "record dropped in the middle": (lambda s: Asked(without(s.good, 5)), [("records_missing", None)]),
    "records dropped at the end": (
        lambda s: Asked(listing(s.good, records(s.good)[:-3])),
        [("records_missing", None)],
    ),
    "record dropped, number left": (lambda s: Asked(without(s.good, 5, count=14)), [("record_count", None)]),
    "record dropped behind the state": (
        lambda s: Asked(without(s.more, 1), state=s.state),
        [("records_missing", None)],
    ),
    "record added": (lambda s: Asked(added(s.good, 4)), [("record_added", 4)]),
    "record given another register": (lambda s: Asked(edited(s.good, 2, pcr=OTHER_PCR)), [("record_register", 2)]),
    "register not quoted": (lambda s: Asked(edited(s.good, 2, pcr=PcrIndex(14))), [("register_not_quoted", 2)]),
    "register anyone can reset": (
        lambda s: Asked(
            replace(s.machine.attest(quoted=(*QUOTED, PcrIndex(23))), log=edited(s.good, 2, pcr=PcrIndex(23)).log)
        ),
        [("register_resettable", 2)],
    ),
    "list's register not quoted": (
        lambda s: Asked(replace(s.machine.attest(quoted=QUOTED[:10]), log=ListPart(0, 0, s.good.log.layout, b""))),
        [("selection_mismatch", None), ("selection_mismatch", None), ("bank_weak", None)],
    ),
    "SHA-1 bank only": (lambda s: Asked(s.machine.attest(banks=(SHA1,))), [("bank_weak", None)]),
    "order across registers": (lambda s: Asked(crossed(s.good)), [("registers_disagree", None)]),
    "empty list": (lambda s: Asked(listing(s.good, [])), [("list_empty", None)]),
    "empty list behind the state": (
        lambda s: Asked(listing(s.more, []), state=s.state),
        [("list_empty", None)],
    ),
    "state of another AK": (
        lambda s: Asked(s.good, state=with_log(s.state, root=parse_public(s.other.public).name)),
        [("state_other_ak", None)],
    ),
    "state of another reset": (
        lambda s: Asked(s.more, state=with_log(s.state, resets=s.state.log.resets + 1)),
        [("state_reset", None)],
    ),
    "state with a later clock": (
        lambda s: Asked(s.more, state=with_log(s.state, clock=s.state.log.clock + 10**9)),
        [("clock_rollback", None)],
    ),
    "state with other values, from 0": (
        lambda s: Asked(s.good, state=with_value(s.state)),
        [("state_other_values", None)],
    ),
    "state with other values, from N": (
        lambda s: Asked(s.more, state=with_value(s.state)),
        [("records_missing", None)],
    ),
    "state of more records, from 0": (
        lambda s: Asked(s.good, state=replace(s.state, chain=replace(s.state.chain, records=13))),
        [("records_removed", None)],
    ),
    "state of other records, from N": (
        lambda s: Asked(s.more, state=replace(s.state, chain=replace(s.state.chain, records=9))),
        [("state_position", None)],
    ),
    "truncated": (lambda s: Asked(s.good.encode()[:-1]), [("evidence_truncated", None)]),
    "trailing byte": (lambda s: Asked(s.good.encode() + b"\0"), [("evidence_trailing", None)]),
    "last record cut short": (
        lambda s: Asked(replace(s.good, log=replace(s.good.log, records=s.good.log.records[:-1]))),
        [("record_malformed", 13)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_fault_has_its_code(scene: Scene, name: str) -> None:
    make, expected = CASES[name]
    asked = make(scene)
    evidence = asked.evidence if isinstance(asked.evidence, bytes) else asked.evidence.encode()
    result = appraise(evidence, nonce=asked.nonce, trust=[TpmTrust(asked.ak or scene.ak)], state=asked.state)
    assert codes(result) == [code for code, _ in expected]
    assert [reason.record for reason in result.reasons] == [record for _, record in expected]
    assert result.covered == 0


def test_only_cases_that_cannot_be_told_apart_share_a_code() -> None:
    found: dict[tuple[str, ...], list[str]] = {}
    for name, (_, expected) in CASES.items():
        found.setdefault(tuple(code for code, _ in expected), []).append(name)
    shared = {given: names for given, names in found.items() if len(names) > 1}
    assert shared == {
        ("record_order",): ["neighbours swapped", "distant records swapped"],
        ("records_missing",): [
            "record dropped in the middle",
            "records dropped at the end",
            "record dropped behind the state",
            "state with other values, from N",
        ],
        ("list_empty",): ["empty list", "empty list behind the state"],
    }


@pytest.mark.parametrize("scheme", SignatureScheme, ids=lambda scheme: scheme.name)
def test_every_bit_of_quote_and_signature_is_told_apart(swtpm: Swtpm, scheme: SignatureScheme) -> None:
    machine = Measured.start(swtpm, KeyKind(scheme))
    machine.boot()
    good = machine.attest()
    for place in range(0, len(good.root.quote), 13):
        result = appraise(
            root(good, quote=flipped(good.root.quote, place)).encode(), nonce=NONCE, trust=[TpmTrust(machine.ak)]
        )
        assert "quote_altered" in codes(result)
    header = 6  # scheme, hash and size: these make the signature another, or none
    for place in range(header, len(good.root.signature), len(good.root.signature) // 6):
        if scheme is SignatureScheme.ECDSA and place in {38, 39}:
            continue  # the size of s
        altered = root(good, signature=flipped(good.root.signature, place)).encode()
        assert codes(appraise(altered, nonce=NONCE, trust=[TpmTrust(machine.ak)])) == ["signature_altered"]


def test_an_unknown_file_is_no_evidence(scene: Scene) -> None:
    for data in (b"", b"\xa0", b"no evidence", json.dumps({"type": "imarium-evidence"}).encode()):
        result = appraise(data, nonce=NONCE, trust=[TpmTrust(scene.ak)])
        assert codes(result)[0].startswith("evidence_")


@pytest.mark.parametrize(
    "change", [lambda byte: byte ^ 1, lambda byte: byte ^ 0x80, lambda byte: byte & 0], ids=["xor 1", "xor 80", "zero"]
)
def test_no_changed_byte_passes(scene: Scene, change: Callable[[int], int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte of evidence changed. What no quote covers may change: a violation's data, and records behind it.

    The search for a changed bit takes most of the time, has no say in the verdict, and has its own test.
    """
    monkeypatch.setattr(importlib.import_module("imarium.verifier.root_tpm"), "explain_signature", lambda *_: None)
    whole = scene.good.encode()
    start = whole.index(scene.good.log.records)
    open_bytes: set[int] = set()
    for record in records(scene.good):
        end = start + record.offset + record.size
        if record.number >= 12:
            open_bytes |= set(range(start + record.offset, end))
        elif record.is_violation:
            open_bytes |= set(range(end - len(record.data), end))
    for place in range(len(whole)):
        changed = whole[:place] + bytes([change(whole[place])]) + whole[place + 1 :]
        result = appraise(changed, nonce=NONCE, trust=[TpmTrust(scene.ak)])
        if result.passed and changed != whole:
            assert place in open_bytes, f"byte {place} changed, and it passes"
            assert (result.covered, result.unverified) == (12, 2)


def test_every_shorter_file_is_evidence_no_more(scene: Scene) -> None:
    data = scene.good.encode()
    for size in range(len(data)):
        (code,) = codes(appraise(data[:size], nonce=NONCE, trust=[TpmTrust(scene.ak)]))
        assert code == "evidence_truncated"
