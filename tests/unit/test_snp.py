"""SNP reports: real ones, signed by a VCEK and a VLEK, and ones made here under a chain like AMD's."""

import hashlib
import re
import struct
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.cca_builders import NOW, certificate, vector
from tests.unit.snp_builders import (
    ARK,
    ARK_CERTIFICATE,
    ASK,
    ASK_CERTIFICATE,
    POLICY,
    TURIN,
    TURIN_CHAIN,
    TURIN_VCEK,
    VCEK,
    VCEK_CHAIN,
    VLEK,
    VLEK_CHAIN,
    certified,
    ecc_ek,
    ek,
    ia5,
    integer,
)
from tests.unit.snp_reports import CHIP, DATA, OTHER, TCB, Report, certificate_table

from imarium.errors import MalformedInput, UsageError
from imarium.formats.snp import (
    AMD_ARC,
    ECC_P256_EK_SIZE,
    RSA_2048_EK_SIZE,
    VTPM_SERVICE,
    CertificateTable,
    FirmwareVersion,
    GuestPolicy,
    PlatformInfo,
    SigningKey,
    TcbVersion,
    parse_certificate_table,
    parse_key_extensions,
    parse_snp_report,
    svsm_report_data,
)
from imarium.verifier.certificates import CertifiedKey, load_certificate
from imarium.verifier.snp import SnpPolicy, SvsmEvidence, check_snp, check_svsm_vtpm


def codes(report: bytes, chain: CertifiedKey = VCEK_CHAIN, data: bytes = DATA, policy: SnpPolicy = POLICY) -> list[str]:
    check = check_snp(report, certificates=chain, report_data=data, policy=policy)
    assert check.good == (not check.reasons)
    assert all("\n" not in reason.detail for reason in check.reasons)
    return [reason.code for reason in check.reasons]


class TestRealReports:
    """The chain above the real leaves is not at hand; all else about them is checked."""

    def check(self, name: str, leaf: str) -> tuple[set[str], str]:
        raw = vector(f"snp/{name}.bin")
        report = parse_snp_report(raw)
        at = datetime(2025, 9, 1, tzinfo=UTC)
        chain = CertifiedKey(vector(f"snp/{leaf}.der"), (ASK_CERTIFICATE,), ARK_CERTIFICATE, at)
        policy = SnpPolicy(frozenset({report.measurement}), vmpl=report.vmpl)
        check = check_snp(raw, certificates=chain, report_data=report.report_data, policy=policy)
        details = " | ".join(reason.detail for reason in check.reasons if reason.code == "certificate_invalid")
        return {reason.code for reason in check.reasons}, details

    def test_vcek(self):
        found, details = self.check("test-report", "test-vcek")
        assert found == {"certificate_invalid"}
        assert "'CN=SEV-VCEK" in details.split(" is not signed by ")[0]
        assert " | " not in details

    def test_vlek(self):
        found, details = self.check("test-vlek-report", "test-vlek")
        assert found == {"certificate_invalid"}
        assert "'CN=SEV-VLEK" in details.split(" is not signed by ")[0]
        assert " | " not in details

    def test_each_report_is_of_its_own_key(self):
        wrong = {"certificate_invalid", "signing_key_mismatch", "signature_invalid", "tcb_mismatch"}
        assert self.check("test-vlek-report", "test-vcek")[0] == wrong | {"chip_mismatch"}
        assert self.check("test-report", "test-vlek")[0] == wrong

    def test_fields_of_version_2(self):
        report = parse_snp_report(vector("snp/test-report.bin"))
        assert (report.version, report.guest_svn, report.vmpl, report.cpuid) == (2, 4, 0, None)
        assert report.policy == GuestPolicy.SMT | GuestPolicy.ALWAYS_ONE | 0x1F
        assert report.platform_info == PlatformInfo.SMT
        assert report.signing_key is SigningKey.VCEK
        assert report.current_tcb == TcbVersion(None, 3, 0, 8, 0xCE)
        assert report.reported_tcb == TcbVersion(None, 3, 0, 8, 0x73)
        assert report.current_firmware == FirmwareVersion(1, 52, 4)
        assert report.committed_firmware == FirmwareVersion(1, 52, 4)
        assert report.measurement.hex().startswith("a1f3930413247bb3")
        assert report.chip_id.hex().startswith("c38427a30d4c7af9")
        assert report.report_id_ma == b"\xff" * 32
        assert (report.launch_mitigations, report.current_mitigations) == (None, None)

    def test_fields_of_version_3(self):
        report = parse_snp_report(vector("snp/test-vlek-report.bin"))
        assert (report.version, report.vmpl, report.cpuid) == (3, 1, (0x19, 1, 1))
        assert report.signing_key is SigningKey.VLEK
        assert PlatformInfo.ALIAS_CHECK_COMPLETE | PlatformInfo.ECC in report.platform_info
        assert report.reported_tcb == TcbVersion(None, 4, 0, 0x18, 0xD9)
        assert report.chip_id == bytes(64)
        assert not report.mask_chip_key

    def test_real_certificates_are_read(self):
        for name, product, csp in (("vcek", "Milan-B0", None), ("vlek", "Milan", "CN=cc-us-east-2.amazonaws.com")):
            leaf = load_certificate(vector(f"snp/test-{name}.der"))
            raw = {e.oid.dotted_string.removeprefix(AMD_ARC): e.value.value for e in leaf.extensions}
            named = parse_key_extensions(raw)
            assert (named.product, named.csp_id) == (product, csp)
            assert (named.hardware_id is None) == (csp is not None)

    def test_every_bit_counts(self):
        raw = vector("snp/test-report.bin")
        report = parse_snp_report(raw)
        chain = CertifiedKey(vector("snp/test-vcek.der"), (), ARK_CERTIFICATE, NOW)
        policy = SnpPolicy(frozenset({report.measurement}))

        def found(data: bytes) -> set[str]:
            check = check_snp(data, certificates=chain, report_data=report.report_data, policy=policy)
            return {reason.code for reason in check.reasons}

        assert found(raw) == {"certificate_invalid"}
        for bit in range(8 * len(raw)):
            bad = bytearray(raw)
            bad[bit // 8] ^= 1 << bit % 8
            assert found(bytes(bad)) & {"signature_invalid", "snp_malformed"}, bit


@given(st.integers(0, 1183))
def test_every_truncation_is_malformed(size):
    raw = Report().bytes()
    assert codes(raw[:size]) == codes(raw + raw[:1]) == ["snp_malformed"]


@given(st.binary(min_size=1184, max_size=1184) | st.binary(max_size=64))
def test_any_bytes_get_a_verdict(data):
    assert "snp_malformed" in codes(data) or "signature_invalid" in codes(data)


@given(st.data())
def test_no_change_raises(data):
    bad = bytearray(REPORT)
    for _ in range(data.draw(st.integers(1, 6))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    assert (codes(bytes(bad)) == []) == (bytes(bad) == REPORT)


REPORT = Report().bytes()


class TestReports:
    @pytest.mark.parametrize("version", [2, 3, 4, 5, 6, 0xFFFFFFFF])
    def test_a_report_of_any_version_verifies(self, version):
        raw = Report(version=version).bytes()
        assert codes(raw) == []
        report = parse_snp_report(raw)
        assert (report.cpuid is None) == (version < 3)
        assert (report.launch_mitigations is None) == (version < 4)

    def test_under_a_vlek(self):
        assert codes(Report(key=1, chip=bytes(64)).bytes(), VLEK_CHAIN) == []

    def test_of_turin(self):
        raw = Report(version=5, family=0x1A, tcb=TURIN, chip=CHIP[:8] + bytes(56)).bytes()
        assert parse_snp_report(raw).reported_tcb == TcbVersion(1, 2, 3, 4, 5)
        assert codes(raw, TURIN_CHAIN) == []
        assert codes(Report(version=5, family=0x1A, tcb=TURIN).bytes(), TURIN_CHAIN) == ["chip_mismatch"]

    def test_mitigation_vectors(self):
        report = parse_snp_report(Report(version=5).bytes(patch={0x1F8: struct.pack("<QQ", 5, 7)}))
        assert (report.launch_mitigations, report.current_mitigations) == (5, 7)

    @pytest.mark.parametrize("version", [2, 3, 4, 5])
    @pytest.mark.parametrize(
        "at", [0x3A, 0x4C, 0x182, 0x18B, 0x19F, 0x1E2, 0x1EB, 0x1EF, 0x1F2, 0x208, 0x29F, 0x0F, 0x4B]
    )
    def test_what_is_reserved_is_zero(self, version, at):
        assert codes(Report(version=version).bytes(patch={at: b"\x80"})) == ["snp_malformed"]
        later = codes(Report(version=6).bytes(patch={at: b"\x80"}))
        assert later == []

    def test_what_an_old_version_reserves_is_zero(self):
        for version, at in ((2, 0x188), (2, 0x1F8), (3, 0x1F8), (3, 0x200)):
            assert codes(Report(version=version).bytes(patch={at: b"\1"})) == ["snp_malformed"]

    def test_an_octet_that_would_be_two_in_turin(self):
        assert codes(Report(version=5, family=0x1A, tcb=TCB).bytes(patch={0x184: b"\1"})) == ["snp_malformed"]

    @pytest.mark.parametrize("version", [0, 1])
    def test_versions_before_2(self, version):
        assert codes(Report(version=version).bytes()) == ["snp_malformed"]

    @pytest.mark.parametrize(
        "patch",
        [
            {0x08: struct.pack("<Q", 0x10000)},
            {0x08: struct.pack("<Q", 0x30000 | 1 << 26)},
            {0x30: struct.pack("<I", 4)},
            {0x34: bytes(4)},
            {0x34: struct.pack("<I", 2)},
            {0x48: struct.pack("<I", 2 << 2)},
            {0x48: struct.pack("<I", 6 << 2)},
        ],
        ids=range(7),
    )
    def test_malformed_fields(self, patch):
        assert codes(Report().bytes(patch=patch)) == ["snp_malformed"]

    @pytest.mark.parametrize("at", [0x2A0 + 48, 0x2A0 + 71, 0x2E8 + 48, 0x330, 0x49F])
    def test_the_signature_has_its_numbers_and_nothing_else(self, at):
        bad = bytearray(REPORT)
        bad[at] = 1
        assert codes(bytes(bad)) == ["snp_malformed"]

    def test_no_signature(self):
        assert codes(REPORT[:0x2A0] + bytes(512)) == ["signature_invalid"]
        assert codes(REPORT[:0x2A0] + b"\xff" * 48 + bytes(24) + b"\xff" * 48 + bytes(392)) == ["signature_invalid"]

    def test_another_key(self):
        assert codes(Report().bytes(OTHER)) == ["signature_invalid"]
        assert codes(REPORT, certified(VCEK, OTHER)) == ["signature_invalid"]

    def test_an_unsigned_report(self):
        assert codes(Report(key=7).bytes()) == ["report_unsigned"]

    def test_kinds_of_key(self):
        assert codes(Report(key=1).bytes()) == ["signing_key_mismatch"]
        assert codes(REPORT, VLEK_CHAIN) == ["signing_key_mismatch"]
        assert codes(REPORT, certified(VCEK | {"5": ia5("CN=x")})) == ["signing_key_mismatch"]
        neither = certified({key: value for key, value in VCEK.items() if key != "4"})
        assert codes(REPORT, neither) == ["signing_key_mismatch"]
        assert codes(Report(key=1).bytes(), neither) == ["signing_key_mismatch"]

    def test_chips(self):
        assert codes(Report(chip=bytes(64)).bytes()) == ["chip_mismatch"]
        assert codes(Report(chip=bytes(64)).bytes(), certified(VCEK | {"4": bytes(64)})) == ["chip_mismatch"]
        assert codes(Report(chip=CHIP[::-1]).bytes()) == ["chip_mismatch"]
        assert codes(REPORT, certified(VCEK | {"4": b"\x04\x40" + CHIP})) == []

    def test_providers(self):
        raw = Report(key=1).bytes()
        assert codes(raw, VLEK_CHAIN, policy=replace(POLICY, csp_id="CN=cloud")) == []
        assert codes(raw, VLEK_CHAIN, policy=replace(POLICY, csp_id="CN=other")) == ["csp_mismatch"]
        assert codes(REPORT, policy=replace(POLICY, csp_id="CN=cloud")) == ["csp_mismatch"]

    @pytest.mark.parametrize("name", ["3.1", "3.2", "3.3", "3.8", "3.9"])
    def test_firmware_is_that_of_the_certificate(self, name):
        assert codes(REPORT, certified(VCEK | {name: integer(9)})) == ["tcb_mismatch"]

    def test_a_least_firmware(self):
        here = TcbVersion(None, 3, 0, 8, 0x73)
        assert codes(REPORT, policy=replace(POLICY, minimum_tcb=here)) == []
        for newer in (
            replace(here, bootloader=4),
            replace(here, tee=1),
            replace(here, snp=9),
            replace(here, microcode=0x74),
            replace(here, fmc=0),
        ):
            assert codes(REPORT, policy=replace(POLICY, minimum_tcb=newer)) == ["tcb_too_old"]
        assert TcbVersion(2, 1, 1, 1, 1).at_least(TcbVersion(1, 1, 1, 1, 1))
        assert not TcbVersion(1, 9, 9, 9, 9).at_least(TcbVersion(2, 1, 1, 1, 1))

    def test_policies_of_the_guest(self):
        debug, migration = Report(policy=0xB0000).bytes(), Report(policy=0x70000).bytes()
        assert codes(debug) == ["debug_allowed"]
        assert codes(debug, policy=replace(POLICY, allow_debug=True)) == []
        assert codes(migration) == ["migration_allowed"]
        assert codes(migration, policy=replace(POLICY, allow_migration=True)) == []

    def test_privilege_levels(self):
        for vmpl in (1, 2, 3, 0xFFFFFFFF):
            assert codes(Report(vmpl=vmpl).bytes()) == ["vmpl_mismatch"]
            assert codes(Report(vmpl=vmpl).bytes(), policy=replace(POLICY, vmpl=vmpl)) == []

    def test_measurements(self):
        assert codes(REPORT, policy=SnpPolicy(frozenset())) == ["measurement_unknown"]
        assert codes(REPORT, policy=SnpPolicy(frozenset({bytes(48)}))) == ["measurement_unknown"]

    @pytest.mark.parametrize("data", [b"", DATA[:-1], DATA + b"\0", bytes(64)])
    def test_report_data(self, data):
        assert codes(REPORT, data=data) == ["report_data_mismatch"]

    def test_everything_wrong_is_named(self):
        raw = Report(key=1, policy=0xF0000, vmpl=2, chip=bytes(64), tcb=bytes(8)).bytes(OTHER)
        strict = SnpPolicy(frozenset(), minimum_tcb=TcbVersion(None, 1, 0, 0, 0), csp_id="x")
        assert codes(raw, replace(VCEK_CHAIN, intermediates=()), DATA[::-1], strict) == [
            "certificate_invalid",
            "signing_key_mismatch",
            "signature_invalid",
            "chip_mismatch",
            "csp_mismatch",
            "tcb_mismatch",
            "tcb_too_old",
            "debug_allowed",
            "migration_allowed",
            "vmpl_mismatch",
            "measurement_unknown",
            "report_data_mismatch",
        ]


class TestChains:
    @pytest.mark.parametrize(
        "change",
        [
            {"intermediates": ()},
            {"intermediates": (ARK_CERTIFICATE,)},
            {"intermediates": (ARK_CERTIFICATE, ASK_CERTIFICATE)},
            {"intermediates": (certificate(ASK, "SEV-Milan", ARK, "ARK-Milan", pss=True),)},
            {"root": ASK_CERTIFICATE},
            {"root": certificate(ASK, "ARK-Milan", ca=True, pss=True)},
            {"leaf": b""},
            {"leaf": ARK_CERTIFICATE},
            {"at": NOW + timedelta(days=200)},
            {"at": NOW - timedelta(days=200)},
        ],
        ids=range(10),
    )
    def test_chains_that_do_not_hold(self, change):
        assert "certificate_invalid" in codes(REPORT, replace(VCEK_CHAIN, **change))

    def test_leaves_on_another_curve(self):
        assert codes(REPORT, certified(VCEK, ec.generate_private_key(ec.SECP256R1()))) == ["certificate_invalid"]
        assert codes(REPORT, certified(VCEK, ASK)) == ["certificate_invalid"]

    def test_a_time_needs_a_zone(self):
        with pytest.raises(UsageError, match="time zone"):
            codes(REPORT, replace(VCEK_CHAIN, at=datetime(2026, 1, 1)))

    @pytest.mark.parametrize("missing", ["2", "3.1", "3.2", "3.3", "3.8"])
    def test_extensions_are_needed(self, missing):
        values = {key: value for key, value in VCEK.items() if key != missing}
        assert codes(REPORT, certified(values)) == ["certificate_invalid"]

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("3.1", b""),
            ("3.1", b"\x02"),
            ("3.1", b"\x02\x00"),
            ("3.1", b"\x02\x01\x80"),
            ("3.1", b"\x02\x02\x01\x00"),
            ("3.1", b"\x02\x03\x00\x00\x01"),
            ("3.1", b"\x04\x01\x03"),
            ("3.1", b"\x02\x01\x03\x00"),
            ("2", b"\x16\x01\xff"),
            ("2", b"\x16\x04Milan"),
            ("2", b"\x16\x06Milan"),
            ("4", b"\x04\x40" + CHIP + b"\0"),
            ("2", b"\x16\x81" + bytes(129)),
            ("4", b""),
            ("4", CHIP[:63]),
            ("4", b"\x03\x40" + CHIP),
            ("4", b"\x04\x3f" + CHIP),
        ],
    )
    def test_extensions_that_are_malformed(self, name, value):
        with pytest.raises(MalformedInput, match="SNP key certificate"):
            parse_key_extensions(VCEK | {name: value})
        assert codes(REPORT, certified(VCEK | {name: value})) == ["certificate_invalid"]

    @given(st.dictionaries(st.sampled_from(sorted(TURIN_VCEK | VLEK)), st.binary(max_size=70)))
    def test_any_extensions_are_read_or_refused(self, values):
        try:
            parse_key_extensions(VCEK | values)
        except MalformedInput as error:
            assert "\n" not in str(error)

    @given(st.data())
    def test_no_certificate_raises(self, data):
        chain = [VCEK_CHAIN.leaf, *VCEK_CHAIN.intermediates, VCEK_CHAIN.root]
        place = data.draw(st.integers(0, 2))
        bad = bytearray(chain[place])
        for _ in range(data.draw(st.integers(1, 4))):
            bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
        chain[place] = bytes(bad)
        codes(REPORT, CertifiedKey(chain[0], (chain[1],), chain[2], NOW))


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


def test_the_page_names_every_code():
    project = Path(__file__).parents[2]
    source = (project / "src/imarium/verifier/snp.py").read_text()
    made = set(re.findall(r'Reason\(\s*"(\w+)"', source))
    page = (project / "docs/snp.md").read_text().partition("## The checks")[2]
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    told = {code for row in rows for code in re.findall(r"`(\w+)`", row.split("|")[3] if row.count("|") > 3 else "")}
    assert made == told
    assert made == set(re.findall(r"``([a-z]\w+_\w+)``", source.partition('"""')[2].partition('"""')[0]))
