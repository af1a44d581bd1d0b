"""Real SNP reports, signed by a VCEK and by a VLEK. The chain above the leaves is not at hand; all else is checked."""

from datetime import UTC, datetime

from tests.unit.builders import flipped
from tests.unit.cca_builders import NOW
from tests.unit.snp_builders import (
    ARK_CERTIFICATE,
    ASK_CERTIFICATE,
)
from tests.vectors import vector

from imarium.formats.snp import (
    AMD_ARC,
    FirmwareVersion,
    GuestPolicy,
    PlatformInfo,
    SigningKey,
    TcbVersion,
    parse_key_extensions,
    parse_snp_report,
)
from imarium.verifier.certificates import CertifiedKey, load_certificate
from imarium.verifier.snp import SnpPolicy, check_snp


def judged(name: str, leaf: str) -> tuple[set[str], str]:
    """The codes of the reasons against a report, and what is wrong with its certificates."""
    raw = vector(f"trustee/snp/{name}.bin")
    report = parse_snp_report(raw)
    at = datetime(2025, 9, 1, tzinfo=UTC)
    chain = CertifiedKey(vector(f"trustee/snp/{leaf}.der"), (ASK_CERTIFICATE,), ARK_CERTIFICATE, at)
    policy = SnpPolicy(frozenset({report.measurement}), vmpl=report.vmpl)
    check = check_snp(raw, certificates=chain, report_data=report.report_data, policy=policy)
    details = " | ".join(reason.detail for reason in check.reasons if reason.code == "certificate_invalid")
    return {reason.code for reason in check.reasons}, details


def test_vcek():
    found, details = judged("test-report", "test-vcek")
    assert found == {"certificate_invalid"}
    assert "'CN=SEV-VCEK" in details.split(" is not signed by ")[0]
    assert " | " not in details


def test_vlek():
    found, details = judged("test-vlek-report", "test-vlek")
    assert found == {"certificate_invalid"}
    assert "'CN=SEV-VLEK" in details.split(" is not signed by ")[0]
    assert " | " not in details


def test_each_report_is_of_its_own_key():
    wrong = {"certificate_invalid", "signing_key_mismatch", "signature_invalid", "tcb_mismatch"}
    assert judged("test-vlek-report", "test-vcek")[0] == wrong | {"chip_mismatch"}
    assert judged("test-report", "test-vlek")[0] == wrong


def test_fields_of_version_2():
    report = parse_snp_report(vector("trustee/snp/test-report.bin"))
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


def test_fields_of_version_3():
    report = parse_snp_report(vector("trustee/snp/test-vlek-report.bin"))
    assert (report.version, report.vmpl, report.cpuid) == (3, 1, (0x19, 1, 1))
    assert report.signing_key is SigningKey.VLEK
    assert PlatformInfo.ALIAS_CHECK_COMPLETE | PlatformInfo.ECC in report.platform_info
    assert report.reported_tcb == TcbVersion(None, 4, 0, 0x18, 0xD9)
    assert report.chip_id == bytes(64)
    assert not report.mask_chip_key


def test_real_certificates_are_read():
    for name, product, csp in (("vcek", "Milan-B0", None), ("vlek", "Milan", "CN=cc-us-east-2.amazonaws.com")):
        leaf = load_certificate(vector(f"trustee/snp/test-{name}.der"))
        raw = {e.oid.dotted_string.removeprefix(AMD_ARC): e.value.value for e in leaf.extensions}
        named = parse_key_extensions(raw)
        assert (named.product, named.csp_id) == (product, csp)
        assert (named.hardware_id is None) == (csp is not None)


def assert_each_bit_counts(step: int) -> None:
    """Of a real report, with each ``step``-th bit changed."""
    raw = vector("trustee/snp/test-report.bin")
    report = parse_snp_report(raw)
    chain = CertifiedKey(vector("trustee/snp/test-vcek.der"), (), ARK_CERTIFICATE, NOW)
    policy = SnpPolicy(frozenset({report.measurement}))

    def found(data: bytes) -> set[str]:
        check = check_snp(data, certificates=chain, report_data=report.report_data, policy=policy)
        return {reason.code for reason in check.reasons}

    assert found(raw) == {"certificate_invalid"}
    for bit, bad in flipped(raw, step):
        assert found(bad) & {"signature_invalid", "snp_malformed"}, bit


def test_every_bit_counts():
    assert_each_bit_counts(step=61)
