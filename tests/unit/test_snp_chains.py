"""The certificates of the keys that sign SNP reports: chains, and AMD's extensions."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.cca_builders import NOW, certificate
from tests.unit.snp_builders import (
    ARK,
    ARK_CERTIFICATE,
    ASK,
    ASK_CERTIFICATE,
    REPORT,
    TURIN_VCEK,
    VCEK,
    VCEK_CHAIN,
    VLEK,
    certified,
    codes,
)
from tests.unit.snp_reports import CHIP

from imarium.errors import MalformedInput, UsageError
from imarium.formats.snp import (
    parse_key_extensions,
)
from imarium.verifier.certificates import CertifiedKey


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
