"""SNP reports made here, under a chain like AMD's."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.snp_builders import (
    POLICY,
    REPORT,
    TURIN,
    TURIN_CHAIN,
    VCEK,
    VCEK_CHAIN,
    VLEK_CHAIN,
    certified,
    codes,
    ia5,
    integer,
)
from tests.unit.snp_reports import CHIP, DATA, OTHER, TCB, Report

from imarium.formats.snp import (
    TcbVersion,
    parse_snp_report,
)
from imarium.verifier.snp import SnpPolicy


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
