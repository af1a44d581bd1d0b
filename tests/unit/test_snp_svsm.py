"""An SVSM's word for its vTPM, and a host's table of certificates."""

import hashlib
import struct
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.snp_builders import (
    POLICY,
    VCEK_CHAIN,
    ecc_ek,
    ek,
)
from tests.unit.snp_reports import DATA, Report, certificate_table

from imarium.errors import MalformedInput
from imarium.formats.snp import (
    ECC_P256_EK_SIZE,
    RSA_2048_EK_SIZE,
    VTPM_SERVICE,
    CertificateTable,
    parse_certificate_table,
    svsm_report_data,
)
from imarium.verifier.snp import SvsmEvidence, check_svsm_vtpm


class TestSvsm:
    def evidence(self, manifest: bytes, nonce: bytes = DATA, **changes: Any) -> SvsmEvidence:
        report = Report(data=hashlib.sha512(nonce + manifest).digest()).bytes()
        return replace(SvsmEvidence(report, manifest, 0, VTPM_SERVICE), **changes)

    def codes(self, evidence: SvsmEvidence, nonce: bytes = DATA, **more: Any) -> list[str]:
        check = check_svsm_vtpm(evidence, certificates=VCEK_CHAIN, nonce=nonce, policy=POLICY, **more)
        assert check.good == (not check.reasons)
        return [reason.code for reason in check.reasons]

    def test_the_key_of_a_vtpm(self):
        check = check_svsm_vtpm(self.evidence(ek()), certificates=VCEK_CHAIN, nonce=DATA, policy=POLICY)
        assert check.good
        assert check.ek is not None
        assert check.ek.name == b"\0\x0b" + hashlib.sha256(ek()).digest()
        assert check.report is not None
        assert check.report.report_data == svsm_report_data(DATA, ek())
        assert len(ek()) == RSA_2048_EK_SIZE
        assert len(ecc_ek()) == ECC_P256_EK_SIZE
        assert self.codes(self.evidence(ecc_ek()), ek_size=ECC_P256_EK_SIZE) == []

    def test_the_service_is_that_of_the_specification(self):
        assert str(VTPM_SERVICE) == "c476f1eb-0123-45a5-9641-b4e7dde5bfe3"
        assert self.codes(self.evidence(ek(), service=UUID(int=0))) == ["service_mismatch"]

    def test_another_nonce(self):
        assert self.codes(self.evidence(ek()), nonce=DATA[::-1]) == ["report_data_mismatch"]

    def test_nonces_of_another_size(self):
        assert self.codes(self.evidence(ek(), nonce=DATA[:32]), nonce=DATA[:32]) == ["nonce_size_mismatch"]

    def test_another_key_in_the_manifest(self):
        evidence = replace(self.evidence(ek()), manifest=ek(policy=b"\x0c" * 32))
        assert self.codes(evidence) == ["report_data_mismatch"]

    def test_the_end_of_a_nonce_is_not_the_start_of_a_manifest(self):
        """A guest asks with a longer nonce: what it adds and a key's area would read as another key."""
        inner = ecc_ek()
        forged = ek()[: -len(inner)] + inner
        added = forged[: -len(inner)]
        report = Report(data=svsm_report_data(DATA + added, inner)).bytes()
        evidence = SvsmEvidence(report, forged, 0, VTPM_SERVICE)
        assert self.codes(evidence, ek_size=ECC_P256_EK_SIZE) == ["manifest_size_mismatch"]
        assert self.codes(evidence) == [], "only the size that the SVSM's own key has tells the two apart"

    @pytest.mark.parametrize("manifest", [b"", b"\0" * 314, ek()[:-1] + b"\0\0"])
    def test_manifests_that_are_no_key(self, manifest):
        assert "manifest_malformed" in self.codes(self.evidence(manifest), ek_size=len(manifest))

    def test_another_version(self):
        assert self.codes(self.evidence(ek(), manifest_version=1)) == ["manifest_malformed"]

    @pytest.mark.parametrize("bit", [1, 4, 5, 16, 17])
    def test_keys_that_are_no_endorsement_keys(self, bit):
        assert self.codes(self.evidence(ek(0x000300B2 & ~(1 << bit)))) == ["ek_unsuitable"]

    def test_signing_keys_are_no_endorsement_keys(self):
        signing = ek(0x00050072, symmetric=b"\0\x10")
        assert self.codes(self.evidence(signing), ek_size=len(signing)) == ["ek_unsuitable"]

    def test_keys_without_a_cipher_for_children_are_no_endorsement_keys(self):
        bare = ek(symmetric=b"\0\x10")
        assert self.codes(self.evidence(bare), ek_size=len(bare)) == ["ek_unsuitable"]

    def test_a_report_that_is_none(self):
        assert self.codes(self.evidence(ek(), report=b"")) == ["snp_malformed"]


class TestTable:
    def test_a_hosts_table(self):
        table = parse_certificate_table(certificate_table(ark=b"root", vcek=b"leaf", ask=b"issuer"))
        assert table == CertificateTable(vcek=b"leaf", issuer=b"issuer")
        assert parse_certificate_table(certificate_table(vlek=b"leaf")) == CertificateTable(vlek=b"leaf")
        assert parse_certificate_table(b"") == parse_certificate_table(bytes(24)) == CertificateTable()

    @pytest.mark.parametrize(
        "data",
        [
            bytes(23),
            b"\1" * 24,
            b"\1" * 16 + struct.pack("<II", 48, 1) + bytes(24),
            b"\1" * 16 + struct.pack("<II", 0, 1) + bytes(24),
            b"\1" * 16 + struct.pack("<II", 47, 0xFFFFFFFF) + bytes(24),
            2 * (b"\1" * 16 + struct.pack("<II", 72, 0)) + bytes(24),
            b"".join(bytes([n]) * 16 + struct.pack("<II", 960, 0) for n in range(1, 40)) + bytes(24),
            bytes(65537),
        ],
        ids=range(8),
    )
    def test_tables_that_are_none(self, data):
        with pytest.raises(MalformedInput, match="SNP certificate table"):
            parse_certificate_table(data)

    @given(st.binary(max_size=200))
    def test_any_bytes_are_read_or_refused(self, data):
        try:
            parse_certificate_table(data)
        except MalformedInput as error:
            assert "\n" not in str(error)
