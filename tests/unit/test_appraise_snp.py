"""Appraisal of evidence of kind snp: a report, a vTPM's quote, and that the two are of one TPM; all made here."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.appraise_builders import AK, BOOT, LOG, QUOTED, quote, values_after
from tests.unit.builders import Made, flipped
from tests.unit.guest_builders import evidence
from tests.unit.snp_builders import ASK_CERTIFICATE, POLICY, VCEK_CHAIN, VLEK_CHAIN, ecc_ek, ek
from tests.unit.snp_reports import Report, certificate_table

from imarium.formats.evidence import Evidence, SnpPart
from imarium.formats.report_data import report_data
from imarium.formats.snp import ECC_P256_EK_SIZE, svsm_report_data
from imarium.formats.tpm import parse_public_area
from imarium.hashes import SHA1, SHA256
from imarium.verifier import SnpTrust, TpmTrust, VerifierState, appraise

NONCE = b"any nonce"
BOUND = report_data(NONCE)
EK, OTHER_EK = parse_public_area(ek()), parse_public_area(ecc_ek())
TABLE = certificate_table(vcek=VCEK_CHAIN.leaf, ask=ASK_CERTIFICATE)
TRUST = SnpTrust(AK, VCEK_CHAIN.root, VCEK_CHAIN.at, POLICY)
RECORDS = [BOOT, LOG[1], LOG[3]]


def part(records: list[Made] = RECORDS, manifest: bytes = EK.area, nonce: bytes = BOUND, **changes: Any) -> SnpPart:
    values = values_after(records, (SHA1, SHA256), QUOTED)
    tpm = quote(values, nonce=nonce, signer=AK.qualified_name(EK))
    report = Report(data=svsm_report_data(nonce, manifest)).bytes()
    return replace(SnpPart(tpm, report, manifest, TABLE), **changes)


def codes(
    given: SnpPart | Evidence, trust: SnpTrust = TRUST, nonce: bytes = NONCE, state: VerifierState | None = None
) -> list[str]:
    whole = evidence(given, RECORDS) if isinstance(given, SnpPart) else given
    result = appraise(whole.encode(), nonce=nonce, trust=[trust], state=state)
    assert result.passed is (result.state is not None)
    assert result.passed or result.covered == 0
    return [reason.code for reason in result.reasons]


def test_report_and_quote_of_one_tpm_prove_a_list() -> None:
    result = appraise(evidence(part(), RECORDS).encode(), nonce=NONCE, trust=[TRUST])
    assert (result.reasons, result.covered, result.begins) == ((), 3, "boot_aggregate")
    assert result.state is not None
    assert (result.state.log.kind, result.state.log.resets) == ("snp", 7)
    assert codes(part(), state=result.state) == []
    tpm = replace(result.state, log=replace(result.state.log, kind="tpm"))
    assert codes(part(), state=tpm) == ["state_other_kind"]


def test_both_are_over_the_nonces_digest() -> None:
    assert codes(part(), nonce=b"other") == ["report_data_mismatch", "nonce_mismatch"]
    assert codes(part(nonce=NONCE.ljust(64, b"\0"))) == ["report_data_mismatch", "nonce_mismatch"]
    old = part(nonce=report_data(b"old"))
    assert codes(part(report=old.report)) == ["report_data_mismatch"]
    assert codes(part(tpm=old.tpm)) == ["nonce_mismatch"]


def test_the_quotes_key_is_a_child_of_the_reports_key() -> None:
    assert codes(part(manifest=OTHER_EK.area), replace(TRUST, ek_size=ECC_P256_EK_SIZE)) == ["ak_not_of_vtpm"]
    stranger = quote(values_after(RECORDS, (SHA1, SHA256), QUOTED), nonce=BOUND, signer=AK.qualified_name(OTHER_EK))
    assert codes(part(tpm=stranger)) == ["ak_not_of_vtpm"]
    for signer in (b"", AK.name, AK.qualified_name()):
        assert codes(part(tpm=quote(stranger.values, nonce=BOUND, signer=signer))) == ["ak_not_of_vtpm"]


def test_the_key_that_was_challenged_is_the_reports() -> None:
    assert codes(part(), replace(TRUST, ek=EK)) == []
    assert codes(part(), replace(TRUST, ek=OTHER_EK)) == ["manifest_size_mismatch", "ek_mismatch"]
    cousin = parse_public_area(ek(policy=b"\x0c" * 32))
    assert codes(part(), replace(TRUST, ek=cousin)) == ["ek_mismatch"]


def test_certificates_come_from_the_host_or_the_verifier() -> None:
    given = replace(TRUST, leaf=VCEK_CHAIN.leaf, issuer=ASK_CERTIFICATE)
    assert codes(part(certificates=b""), given) == []
    assert codes(part(certificates=b"not looked at"), given) == []
    assert codes(part(certificates=b"")) == ["certificate_missing"]
    assert codes(part(certificates=b"x")) == ["certificate_table_malformed"]
    assert codes(part(certificates=certificate_table(ask=ASK_CERTIFICATE))) == ["certificate_missing"]
    assert codes(part(certificates=certificate_table(vcek=VCEK_CHAIN.leaf))) == ["certificate_missing"]
    assert codes(part(certificates=certificate_table(vlek=VLEK_CHAIN.leaf, ask=ASK_CERTIFICATE))) == [
        "certificate_missing"
    ], "the report says that a chip's key signed it"
    forged = certificate_table(vcek=ASK_CERTIFICATE, ask=VCEK_CHAIN.leaf)
    assert "certificate_invalid" in codes(part(certificates=forged))
    cloud = Report(data=svsm_report_data(BOUND, EK.area), key=1, chip=bytes(64)).bytes()
    both = certificate_table(vcek=VCEK_CHAIN.leaf, vlek=VLEK_CHAIN.leaf, ask=ASK_CERTIFICATE)
    assert codes(part(report=cloud, certificates=both)) == []
    assert "signing_key_mismatch" in codes(part(report=cloud), replace(given, leaf=VCEK_CHAIN.leaf))


def test_neither_half_stands_for_the_other() -> None:
    """The key alone is not taken for the guest, nor the guest's quote for a TPM's where the report is wanted."""
    whole = evidence(part(), RECORDS).encode()
    assert [r.code for r in appraise(whole, nonce=NONCE, trust=[TpmTrust(AK)]).reasons] == ["anchor_missing"]
    bare = evidence(part().tpm, RECORDS).encode()
    assert [r.code for r in appraise(bare, nonce=BOUND, trust=[TRUST]).reasons] == ["anchor_missing"]


@pytest.mark.parametrize("name", ["report", "manifest", "certificates"])
@pytest.mark.parametrize("content", [b"", b"\0", b"\xff" * 1184])
def test_parts_that_are_none(name: str, content: bytes) -> None:
    changed: dict[str, Any] = {name: content}
    assert codes(part(**changed)) != []


@pytest.mark.parametrize("name", ["quote", "signature", "ak"])
def test_a_quote_that_is_none(name: str) -> None:
    good, changed = part(), dict[str, Any]({name: b""})
    assert codes(replace(good, tpm=replace(good.tpm, **changed))) != []


GOOD = part()


MEMBERS = ("report", "manifest", "quote", "signature", "ak")


def assert_each_bit_counts(name: str, step: int) -> None:
    """Of a member of the evidence, with each ``step``-th bit changed."""
    of_tpm = name in ("quote", "signature", "ak")
    for bit, bad in flipped(getattr(GOOD.tpm if of_tpm else GOOD, name), step):
        changed: dict[str, Any] = {name: bad}
        given = replace(GOOD, tpm=replace(GOOD.tpm, **changed)) if of_tpm else replace(GOOD, **changed)
        assert codes(given) != [], bit


@pytest.mark.parametrize("name", MEMBERS)
def test_no_changed_bit_passes_and_none_raises(name: str) -> None:
    assert_each_bit_counts(name, step=211)


def test_a_changed_list_is_told_as_of_any_root() -> None:
    swapped = evidence(part(), [RECORDS[0], RECORDS[2], RECORDS[1]])
    assert codes(swapped) == ["record_order"]
    assert codes(evidence(part(), RECORDS[:2])) == ["records_missing"]
