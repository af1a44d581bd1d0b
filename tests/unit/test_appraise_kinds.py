"""Appraisal with roots of trust that are no TPM: guests and platforms made here, and the same steps for all."""

import ast
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.unit import test_eventlog as cc
from tests.unit.builders import Made, binary, ng
from tests.unit.cca_builders import Maker
from tests.unit.guest_builders import (
    BOUND,
    NONCE,
    SoftwareGuest,
    Td,
    aggregate_record,
    cca_part,
    evidence,
    extended,
)
from tests.unit.tdx_builders import NOW

from imarium.errors import UsageError
from imarium.formats.cca import PCR_COLUMN_MAP, VIRTCCA_MAP, RemIndex, RemMap
from imarium.formats.evidence import Evidence, ListPart
from imarium.formats.records import ListLayout
from imarium.formats.registers import PcrIndex
from imarium.formats.report_data import report_data
from imarium.formats.roots import ROOT_PARTS, CcaPart, RootPart, SoftwarePart, TdxPart, VirtccaPart
from imarium.formats.tdx import RtmrIndex
from imarium.hashes import SHA256, SHA384
from imarium.verifier import CcaTrust, Result, SoftwareTrust, TdxTrust, Trust, VerifierState, VirtccaTrust, appraise
from imarium.verifier.cca import CcaPolicy
from imarium.verifier.kinds import KINDS

TD = Td()
COLLATERAL = TD.platform.collateral()
TRUST = TdxTrust(COLLATERAL, NOW, TD.platform.root_der, initial={RtmrIndex(2): TD.before[2]})
BOOT = aggregate_record("sha384", TD.aggregate, 2)
LOG = [BOOT, ng(b"/a", 2), ng(b"/b", 2, violation=True), ng(b"/c", 2), ng(b"/d", 2)]


def ask(given: Evidence[Any], trust: Trust = TRUST, state: VerifierState | None = None, **more: Any) -> Result:
    arguments: dict[str, Any] = {"nonce": NONCE, "trust": [trust], "state": state, **more}
    result = appraise(given.encode(), **arguments)
    assert result.passed is (result.state is not None)
    return result


def codes(given: Evidence[Any], trust: Trust = TRUST, state: VerifierState | None = None, **more: Any) -> list[str]:
    return [reason.code for reason in ask(given, trust, state, **more).reasons]


def stored(result: Result) -> VerifierState:
    """The state, as a file keeps it."""
    assert result.state is not None, result.reasons
    return VerifierState.from_document(json.loads(json.dumps(result.state.to_document())))


def with_list(given: Evidence[Any], records: list[Made], count: int | None = None) -> Evidence[Any]:
    return replace(given, log=ListPart(0, len(records) if count is None else count, ListLayout(), binary(records)))


class TestTdx:
    def test_a_list_of_column_2_is_proved_by_the_quote(self) -> None:
        result = ask(evidence(TD.part(LOG[:4]), LOG))
        assert result.reasons == ()
        assert (result.covered, result.unverified, result.begins) == (4, 1, "boot_aggregate")
        assert result.state is not None
        assert result.state.chain.values == {2: {SHA384: extended(TD.before[2], LOG[:4], "sha384")}}

    def test_it_goes_on_from_a_state(self) -> None:
        state = stored(ask(evidence(TD.part(LOG[:3]), LOG[:3])))
        assert (state.log.kind, state.log.resets, state.log.clock) == ("tdx", 0, 0)
        later = evidence(TD.part(LOG), LOG, first=3)
        assert codes(later, state=state) == []
        assert codes(evidence(TD.part(LOG), LOG), state=state) == []
        assert codes(later) == ["state_missing"]
        assert codes(evidence(TD.part(LOG[:2]), LOG), state=state) == ["records_removed"]
        other = [BOOT, ng(b"/x", 2), *LOG[2:]]
        assert codes(evidence(TD.part(other), other), state=state) == ["state_other_values"]

    def test_a_state_of_another_kind_or_td(self) -> None:
        state = stored(ask(evidence(TD.part(LOG), LOG)))
        tpm = replace(state, log=replace(state.log, kind="tpm"))
        assert codes(evidence(TD.part(LOG), LOG), state=tpm) == ["state_other_kind"]
        other = Td(TD.platform, mrtd=b"\x78" * 48)
        log = [aggregate_record("sha384", other.aggregate, 2), *LOG[1:]]
        assert codes(evidence(other.part(log), log)) == []
        assert codes(evidence(other.part(log), log), state=state) == ["state_other_root"]

    def test_another_nonce(self) -> None:
        good = evidence(TD.part(LOG), LOG)
        assert codes(good, nonce=b"other") == ["nonce_mismatch"]
        plain = TdxPart(TD.quote(LOG, bound=NONCE.ljust(64, b"\0")))
        assert codes(evidence(plain, LOG)) == ["nonce_mismatch"], "a nonce is hashed, never padded"

    def test_every_part_of_the_quote_is_covered(self) -> None:
        quote = TD.quote(LOG)
        for place in (100, 190, 400, 480, 570, 640, 700):
            changed = bytearray(quote)
            changed[place] ^= 0x10
            found = codes(evidence(TdxPart(bytes(changed)), LOG))
            assert found, place
            assert set(found) <= {
                "signature_invalid",
                "nonce_mismatch",
                "collateral_refused",
                "attestation_key_unbound",
            }

    def test_what_is_wrong_with_a_list(self) -> None:
        good = evidence(TD.part(LOG), LOG)
        assert codes(with_list(good, [*LOG[:3], LOG[4], LOG[3]])) == ["record_order"]
        assert codes(with_list(good, [*LOG[:2], *LOG[3:]])) == ["records_missing"]
        assert codes(with_list(good, [*LOG[:2], ng(b"/new", 2), *LOG[2:]])) == ["record_added"]
        assert codes(with_list(good, LOG[:4])) == ["records_missing"]
        assert codes(with_list(good, LOG, 4)) == ["record_count"]
        forged = replace(LOG[1], violation=True)
        assert codes(with_list(good, [BOOT, forged, *LOG[2:]])) == ["violation_forged"]
        altered = replace(ng(b"/A", 2), forged=LOG[1].true_digest("sha1", "little"))
        assert codes(with_list(good, [BOOT, altered, *LOG[2:]])) == ["record_altered"]
        assert codes(with_list(good, LOG[1:])) == ["boot_aggregate_missing"]
        assert codes(with_list(good, [])) == ["list_empty"]
        assert codes(evidence(TD.part([]), LOG)) == ["nothing_covered"]

    def test_records_of_other_columns_are_in_no_register(self) -> None:
        log = [*LOG, ng(b"/x", 10)]
        result = ask(evidence(TD.part(LOG), log))
        assert [(reason.code, reason.record) for reason in result.reasons] == [("register_not_quoted", 5)]
        assert codes(evidence(TD.part(LOG), LOG), registers=[PcrIndex(3)]) == ["register_not_quoted"]

    def test_the_boot_aggregate(self) -> None:
        for wrong in (bytes(48), hashlib.sha384(TD.mrtd).digest()):
            log = [aggregate_record("sha384", wrong, 2), *LOG[1:]]
            assert codes(evidence(TD.part(log), log)) == ["boot_aggregate_mismatch"]
            assert codes(evidence(TD.part(log), log), replace(TRUST, bridged=True)) == []
        elsewhere = [aggregate_record("sha256", bytes(32), 2), *LOG[1:]]
        assert codes(evidence(TD.part(elsewhere), elsewhere)) == [], "not in the TD's bank: it cannot be told"
        booted_otherwise = TD.part(LOG, others={0: bytes(48)})
        assert codes(evidence(booted_otherwise, LOG)) == ["boot_aggregate_mismatch"]

    def test_a_bridged_list_goes_into_one_register_whatever_its_columns(self) -> None:
        log = [ng(b"boot_aggregate", 10), ng(b"/a", 10), ng(b"/b", 11), ng(b"/c", 10)]
        columns = {PcrIndex(10): RtmrIndex(2), PcrIndex(11): RtmrIndex(2)}
        bridge = replace(TRUST, columns=columns, bridged=True)
        good = evidence(TD.part(log), log)
        result = ask(good, bridge)
        assert (result.reasons, result.covered) == ((), 4)
        assert (
            codes(
                evidence(TD.part(log), log, first=2), bridge, stored(ask(evidence(TD.part(log[:2]), log[:2]), bridge))
            )
            == []
        )
        assert codes(with_list(good, [*log[:1], log[2], log[1], log[3]]), bridge) == ["record_order"]
        assert set(codes(good)) == {"register_not_quoted"}

    def test_a_wrong_initial_value(self) -> None:
        good = evidence(TD.part(LOG), LOG)
        other = [
            aggregate_record("sha384", hashlib.sha384(TD.mrtd + TD.before[0] + TD.before[1] + bytes(48)).digest(), 2)
        ]
        assert codes(good, replace(TRUST, initial={})) == ["boot_aggregate_mismatch"]
        assert codes(evidence(TD.part([*other, *LOG[1:]]), [*other, *LOG[1:]]), replace(TRUST, initial={})) == [
            "records_missing"
        ]

    def test_the_event_log_says_what_firmware_left(self) -> None:
        log = (
            cc.header()
            + cc.sha384_event(1, b"firmware")
            + cc.sha384_event(2, b"loader")
            + cc.sha384_event(3, b"kernel")
        )
        first = [
            hashlib.sha384(bytes(48) + hashlib.sha384(text).digest()).digest()
            for text in (b"firmware", b"loader", b"kernel")
        ]
        td = Td(TD.platform, before=dict(enumerate([*first, bytes(48)])))
        records = [aggregate_record("sha384", td.aggregate, 2), *LOG[1:]]
        told = replace(td.part(records), event_log=log)
        blind = replace(TRUST, initial={})
        assert codes(evidence(told, records), blind) == []
        assert codes(evidence(told, records), replace(TRUST, initial={RtmrIndex(2): first[2]})) == []
        assert codes(evidence(told, records)) == ["event_log_mismatch"], "another value was given"
        assert codes(evidence(td.part(records), records), blind) == ["boot_aggregate_mismatch"]
        less = cc.header() + cc.sha384_event(1, b"firmware") + cc.sha384_event(3, b"kernel")
        assert codes(evidence(replace(told, event_log=less), records), blind) == ["event_log_mismatch"]
        assert codes(evidence(replace(told, event_log=log[:-1]), records), blind) == ["event_log_malformed"]
        assert codes(evidence(replace(told, event_log=b""), records), blind) == ["event_log_malformed"]

    def test_the_platform_has_to_be_good(self) -> None:
        good = evidence(TD.part(LOG), LOG)
        assert codes(good, replace(TRUST, collateral=TD.platform.collateral(status="OutOfDate"))) == [
            "tcb_status_unaccepted"
        ]
        assert codes(good, replace(TRUST, now=NOW + 20 * 365 * 86400)) != []
        assert "pck_chain_invalid" in codes(good, replace(TRUST, root_ca=None))
        assert codes(good, replace(TRUST, collateral="{}")) == ["collateral_malformed"]
        assert codes(evidence(TdxPart(b""), LOG)) == ["quote_malformed"]

    def test_tds_can_be_told_by_their_mrtd(self) -> None:
        good = evidence(TD.part(LOG), LOG)
        for known in ({TD.mrtd}, {TD.mrtd, bytes(48)}):
            assert codes(good, replace(TRUST, measurements=frozenset(known))) == []
        assert codes(good, replace(TRUST, measurements=frozenset({bytes(48)}))) == ["measurement_unknown"]
        with pytest.raises(UsageError, match="48 bytes"):
            replace(TRUST, measurements=frozenset({b""}))

    def test_trust_that_makes_no_sense(self) -> None:
        wrong: list[dict[str, Any]] = [{"columns": {}}, {"columns": {PcrIndex(2): RtmrIndex(4)}}]
        for change in [*wrong, {"initial": {RtmrIndex(2): b""}}]:
            with pytest.raises(UsageError):
                replace(TRUST, **change)


RIM = b"\xab" * 32
PLATFORM = Maker()


class TestRealms:
    def guest(self, log: list[Made], kind: type[CcaPart] = VirtccaPart, slot: int = 1) -> Evidence[Any]:
        rems = [bytes(32)] * 4
        rems[slot - 1] = extended(bytes(32), log, "sha256")
        return evidence(cca_part(PLATFORM, rems, RIM, kind=kind), log)

    def log(self, column: int) -> list[Made]:
        return [aggregate_record("sha256", RIM, column), *(ng(name, column) for name in (b"/a", b"/b", b"/c"))]

    def trust(self, kind: type[CcaTrust] = VirtccaTrust, **more: Any) -> CcaTrust:
        return kind(PLATFORM.platform_key.public_key(), **more)

    def test_virtcca_extends_slot_1_whatever_the_column(self) -> None:
        mixed = [*self.log(10), ng(b"/d", 11)]
        result = ask(self.guest(mixed), self.trust())
        assert (result.reasons, result.covered) == ((), 5)
        assert stored(result).chain.values == {1: {SHA256: extended(bytes(32), mixed, "sha256")}}
        assert stored(result).log.kind == "virtcca"
        assert codes(self.guest(mixed, slot=2), self.trust()) == ["nothing_covered"]

    def test_columns_can_be_slots(self) -> None:
        assert codes(self.guest(self.log(3), CcaPart, slot=3), self.trust(CcaTrust)) == []
        assert codes(self.guest(self.log(3), CcaPart, slot=2), self.trust(CcaTrust)) != []
        assert "register_not_quoted" in codes(self.guest(self.log(10), CcaPart, slot=1), self.trust(CcaTrust))
        other = RemMap(None, ((PcrIndex(10), RemIndex(1)),))
        assert codes(self.guest(self.log(10), CcaPart, slot=2), self.trust(CcaTrust, columns=other)) == []
        assert (self.trust().columns, self.trust(CcaTrust).columns) == (VIRTCCA_MAP, PCR_COLUMN_MAP)

    def test_realms_can_be_told_by_their_rim(self) -> None:
        for kind, part, log in ((VirtccaTrust, VirtccaPart, self.log(10)), (CcaTrust, CcaPart, self.log(1))):
            given = self.guest(log, part)
            assert codes(given, self.trust(kind, measurements=frozenset({RIM}))) == []
            for other in (bytes(32), b"", RIM + b"\0"):
                assert codes(given, self.trust(kind, measurements=frozenset({other}))) == ["measurement_unknown"]

    def test_one_kind_does_not_pass_for_the_other(self) -> None:
        """Else the sender would choose how columns are read."""
        assert codes(self.guest(self.log(1), CcaPart), self.trust()) == ["anchor_missing"]
        assert codes(self.guest(self.log(1)), self.trust(CcaTrust)) == ["anchor_missing"]

    def test_what_is_wrong(self) -> None:
        log = self.log(10)
        good = self.guest(log)
        assert codes(good, self.trust(), nonce=b"other") == ["nonce_mismatch"]
        assert codes(good, self.trust(VirtccaTrust, bridged=True)) == []
        assert codes(with_list(good, [log[0], log[2], log[1], log[3]]), self.trust()) == ["record_order"]
        assert codes(with_list(good, [log[0], *log[2:]]), self.trust()) == ["records_missing"]
        stranger = VirtccaTrust(Maker().platform_key.public_key())
        assert codes(good, stranger) == ["platform_signature_invalid"]
        wrong = [aggregate_record("sha256", bytes(32), 10), *log[1:]]
        assert codes(self.guest(wrong), self.trust()) == ["boot_aggregate_mismatch"]
        assert codes(self.guest(wrong), self.trust(bridged=True)) == []
        assert codes(evidence(VirtccaPart(b"\xa0"), log), self.trust()) == ["cca_malformed"]
        short = self.trust(initial={RemIndex(0): bytes(48)})
        assert codes(good, short) == ["initial_value_size"]
        flipped = bytearray(good.root.token)
        flipped[len(flipped) // 2] ^= 1
        assert codes(evidence(VirtccaPart(bytes(flipped)), log), self.trust()) != []

    def test_firmware_may_have_extended_the_register_before(self) -> None:
        log, before = self.log(1), b"\x09" * 32
        rems = [extended(before, log, "sha256"), *[bytes(32)] * 3]
        given = evidence(cca_part(PLATFORM, rems, RIM), log)
        assert codes(given, self.trust()) == ["records_missing"]
        assert codes(given, self.trust(initial={RemIndex(0): before})) == []

    def test_the_old_form_is_taken_only_where_it_is_named(self) -> None:
        maker = Maker(realm_key=rsa.generate_private_key(65537, 2048), platform=None)
        log = self.log(10)
        rems = [extended(bytes(32), log, "sha256"), *[bytes(32)] * 3]
        maker.realm |= {10: BOUND, 44238: RIM, 44239: rems}
        given = evidence(VirtccaPart(maker.token(wrapped=True)), log)
        key = maker.realm_key.public_key()
        assert codes(given, VirtccaTrust(key, CcaPolicy(realm_alone=True))) == []
        assert "platform_missing" in codes(given, VirtccaTrust(key))

    def test_states_are_of_one_realm(self) -> None:
        state = stored(ask(self.guest(self.log(10)), self.trust()))
        rems = [extended(bytes(32), self.log(10), "sha256"), *[bytes(32)] * 3]
        PLATFORM.realm[44235] = b"\x01" * 64
        try:
            other = evidence(cca_part(PLATFORM, rems, RIM), self.log(10))
        finally:
            PLATFORM.realm[44235] = bytes(64)
        assert codes(other, self.trust()) == []
        assert codes(other, self.trust(), state) == ["state_other_root"]


class TestSoftware:
    GUEST = SoftwareGuest()
    LOG = (ng(b"boot_aggregate", 2), ng(b"/a", 2), ng(b"/b", 2))

    def part(self, log: Sequence[Made]) -> SoftwarePart:
        value = extended(bytes(48), log, "sha384")
        return self.GUEST.part({"rtmr2:sha384": value, "rtmr1:sha384": bytes(48), "mrtd:sha384": bytes(48)})

    def test_it_passes_only_where_it_is_named(self) -> None:
        given = evidence(self.part(self.LOG), self.LOG)
        assert codes(given) == ["software_root"]
        assert [reason.code for reason in appraise(given.encode(), nonce=NONCE, trust=[]).reasons] == ["software_root"]
        result = ask(given, SoftwareTrust(self.GUEST.public))
        assert (result.reasons, result.covered) == ((), 3)
        assert stored(result).log.kind == "software"

    def test_what_is_wrong(self) -> None:
        trust = SoftwareTrust(self.GUEST.public)
        good = self.part(self.LOG)
        assert codes(evidence(good, self.LOG), trust, nonce=b"other") == ["nonce_mismatch"]
        assert codes(evidence(good, self.LOG), SoftwareTrust(SoftwareGuest().public)) == ["software_key_mismatch"]
        changed = replace(good, signature=good.signature[:-1] + bytes([good.signature[-1] ^ 1]))
        assert codes(evidence(changed, self.LOG), trust) == ["signature_invalid"]
        bad = replace(good, statement=good.statement[:-1])
        assert codes(evidence(bad, self.LOG), trust) == ["signature_invalid", "software_malformed"]
        assert codes(evidence(self.GUEST.part({"rtmr1:sha384": bytes(48)}), self.LOG), trust) == ["bank_weak"]
        assert codes(evidence(self.GUEST.part({"rtmr2:sha1": bytes(20)}), self.LOG), trust) == ["bank_weak"]
        assert codes(evidence(good, [self.LOG[0], self.LOG[2], self.LOG[1]]), trust) == ["record_order"]
        assert codes(evidence(replace(good, key=b"none"), self.LOG), SoftwareTrust(b"none")) == ["signature_invalid"]
        with pytest.raises(UsageError):
            SoftwareTrust(self.GUEST.public, {})

    @pytest.mark.parametrize("registers", [{}, {"rtmr2": bytes(48)}, {"rtmr2:md5": bytes(16)}, {"rtmr2:sha384": b""}])
    def test_statements_that_are_none(self, registers: dict[str, bytes]) -> None:
        given = evidence(self.GUEST.part(registers), self.LOG)
        assert "software_malformed" in codes(given, SoftwareTrust(self.GUEST.public))


def test_nothing_passes_of_a_kind_that_nothing_is_trusted_of() -> None:
    parts: dict[str, RootPart] = {"tdx": TD.part(LOG), "cca": CcaPart(b""), "virtcca": VirtccaPart(b"")}
    for kind, part in parts.items():
        result = appraise(evidence(part, LOG).encode(), nonce=NONCE, trust=[])
        assert [reason.code for reason in result.reasons] == ["anchor_missing"]
        assert f"of kind {kind}" in result.reasons[0].detail


def test_an_appraiser_without_facts_and_reasons_passes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imarium.verifier.kinds.KINDS", {TdxPart: replace(KINDS[TdxPart], check=lambda *_: ())})
    assert codes(evidence(TD.part(LOG), LOG)) == ["root_unproved"]


def test_every_kind_of_evidence_has_an_appraiser() -> None:
    assert set(KINDS) == set(ROOT_PARTS.values())


def test_report_data_is_the_hash_of_the_nonce() -> None:
    assert report_data(NONCE) == BOUND
    assert report_data(BOUND) == hashlib.sha512(BOUND).digest()


DEVICES = ("tpm", "tdx", "cca", "snp", "software", "eventlog")
SHARED = ("appraise", "attested", "continuity", "diagnose", "listed", "mismatch", "reason", "result", "state")
VERIFIER = Path(__file__).parents[2] / "src" / "imarium" / "verifier"


@pytest.mark.parametrize("name", SHARED)
def test_the_steps_that_all_kinds_share_name_no_device(name: str) -> None:
    tree = ast.parse((VERIFIER / f"{name}.py").read_text())
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [module for module in imported if set(module.replace("_", ".").split(".")) & set(DEVICES)]
