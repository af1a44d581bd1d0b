"""Certificates of the keys that sign platform tokens, and keys that are none."""

import warnings
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.cca_builders import (
    CERTIFIED,
    NONCE,
    NOW,
    P521,
    ROOT,
    SUB,
    Maker,
    certificate,
    certified,
    codes,
    name,
)

from imarium.errors import MalformedInput, UsageError
from imarium.verifier.cca import CertifiedKey, check_cca
from imarium.verifier.certificates import load_certificate, open_chain

NO_AUTHORITY = (
    x509.BasicConstraints(ca=False, path_length=None),
    x509.KeyUsage(True, False, False, False, False, True, False, False, False),
)


class TestCertificates:
    def codes(self, anchor: CertifiedKey, key: Any = P521) -> set[str]:
        return set(codes(Maker(platform_key=key).token(), anchor))

    def test_a_good_chain(self):
        assert self.codes(certified(P521)) == set()
        root = certificate(ROOT, "root", ca=True)
        assert self.codes(CertifiedKey(certificate(P521, "aik", ROOT, "root"), (), root, NOW)) == set()

    @pytest.mark.parametrize("days", [-181, 181])
    def test_out_of_time(self, days):
        assert self.codes(certified(P521, at=NOW + timedelta(days=days))) == {"certificate_invalid"}

    def test_a_time_needs_a_zone(self):
        with pytest.raises(UsageError, match="time zone"):
            self.codes(certified(P521, at=datetime(2026, 1, 1)))

    @pytest.mark.parametrize(
        "change",
        [
            {"intermediates": ()},
            {"intermediates": (CERTIFIED.intermediates[0],) * 9},
            {"intermediates": (certificate(SUB, "sub", ROOT, "root"),)},
            {"intermediates": (certificate(SUB, "other", ROOT, "root", ca=True),)},
            {"intermediates": (certificate(SUB, "sub", P521, "root", ca=True),)},
            {"intermediates": (certificate(SUB, "sub", ROOT, "root", ca=True, signs=False),)},
            {"intermediates": (certificate(SUB, "sub", ca=True),)},
            {"intermediates": (certificate(SUB, "sub", ROOT, "root", critical=NO_AUTHORITY),)},
            {"intermediates": (b"",)},
            {"intermediates": (bytes(16385),)},
            {"root": certificate(ROOT, "root", ca=True, path_length=0)},
            {"root": certificate(ROOT, "root", ca=True, signs=False)},
            {"root": certificate(ROOT, "root", P521, "root", ca=True)},
            {"root": certificate(P521, "root", ca=True)},
            {"leaf": certificate(P521, "aik", SUB, "sub", critical=(x509.OCSPNoCheck(),))},
            {"leaf": certificate(P521, "aik", SUB, "sub", digest=hashes.SHA224())},
            {"leaf": certificate(P521, "aik", SUB, "sub") + b"\0"},
        ],
        ids=range(17),
    )
    def test_chains_that_do_not_hold(self, change):
        assert "certificate_invalid" in self.codes(certified(P521, **change))

    def test_keys_that_are_not_accepted(self):
        for key in (rsa.generate_private_key(65537, 1024), ed25519.Ed25519PrivateKey.generate()):  # noqa: S505
            assert self.codes(certified(key)) == {"certificate_invalid", "platform_signature_invalid"}

    def test_limits(self):
        many = replace(CERTIFIED, intermediates=CERTIFIED.intermediates * 9)
        assert open_chain(many) == (None, ("there are 9 certificates between, at most 8 do",))
        large = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), bytes(16384)),)
        with pytest.raises(MalformedInput, match="at most 16384 bytes"):
            load_certificate(certificate(P521, "aik", extensions=large))

    def test_names_of_odd_lengths_are_not_warned_of(self):
        """A sender's certificate must not write on standard error."""
        key, start, end = P521, NOW - timedelta(days=1), NOW + timedelta(days=1)
        with pytest.warns(UserWarning, match="length"):
            country = x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "nowhere at all", _validate=False)
        subject = x509.Name([country])
        builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, start, end)
        data = builder.sign(key, hashes.SHA384()).public_bytes(serialization.Encoding.DER)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            leaf, faults = open_chain(CertifiedKey(data, (), data, NOW))
        assert leaf is not None
        assert any("nowhere at all" in fault for fault in faults)

    def test_signatures_without_a_hash_are_refused(self):
        key = ed25519.Ed25519PrivateKey.generate()
        start, end = NOW - timedelta(days=1), NOW + timedelta(days=1)
        builder = x509.CertificateBuilder(name("a"), name("a"), key.public_key(), 1, start, end)
        with pytest.raises(MalformedInput, match="no hash"):
            load_certificate(builder.sign(key, None).public_bytes(serialization.Encoding.DER))

    def test_every_byte_of_a_leaf_counts(self):
        anchor = certified(P521)
        token = Maker(platform_key=P521).token()
        for offset in range(len(anchor.leaf)):
            bad = bytearray(anchor.leaf)
            bad[offset] ^= 1 << offset % 8
            assert not check_cca(token, anchor=replace(anchor, leaf=bytes(bad)), nonce=NONCE).good, offset

    @given(st.data())
    def test_no_certificate_raises(self, data):
        anchor = CERTIFIED
        bad = bytearray(data.draw(st.sampled_from([anchor.leaf, *anchor.intermediates, anchor.root])))
        for _ in range(data.draw(st.integers(1, 4))):
            bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
        self.codes(replace(anchor, leaf=bytes(bad)))
        self.codes(replace(anchor, root=bytes(bad)))
        self.codes(replace(anchor, intermediates=(bytes(bad),)))
