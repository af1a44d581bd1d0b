"""Checking TDX quotes: each step fails for its reason alone, and what is not proved is never accepted."""

import base64
import sys
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.tdx_builders import EXPIRED, NOW, Platform, certificate, collateral, new_key, patch, pem, recorded

from imarium.errors import MissingComponent, UsageError
from imarium.verifier import tdx_collateral
from imarium.verifier.tdx import TdxCheck, TdxStatus, check_tdx_chain, check_tdx_quote

REPORT_DATA = 568
BODY = 48


@pytest.fixture(scope="module")
def platform() -> Platform:
    return Platform()


def nonce() -> bytes:
    return recorded().body.report_data


def chain_check(platform: Platform, quote: bytes, **options: Any) -> TdxCheck:
    defaults: dict[str, Any] = {"nonce": nonce(), "now": NOW, "root_ca": platform.root_der}
    return check_tdx_chain(quote, **defaults | options)


def full_check(platform: Platform, quote: bytes, **options: Any) -> TdxCheck:
    defaults: dict[str, Any] = {
        "nonce": nonce(),
        "now": NOW,
        "root_ca": platform.root_der,
        "collateral": platform.collateral(),
    }
    return check_tdx_quote(quote, **defaults | options)


def codes(check: TdxCheck) -> list[str]:
    return [reason.code for reason in check.reasons]


def refused(check: TdxCheck, *expected: str) -> bool:
    """Refused for these reasons, and with nothing given out as fact."""
    assert codes(check) == list(expected)
    assert all("\n" not in reason.detail for reason in check.reasons)
    return check.status is TdxStatus.REFUSED and check.facts is None and not check.good


class TestAccepted:
    def test_all_steps(self, platform):
        check = full_check(platform, platform.quote())
        assert (check.status, check.good, check.reasons) == (TdxStatus.VERIFIED, True, ())
        assert check.tcb is not None and check.facts is not None and check.quote is not None
        assert (check.tcb.status, check.tcb.advisories) == ("UpToDate", ())
        td = recorded().body.td
        assert (check.facts.mrtd, check.facts.registers) == (td.mrtd, td.registers)

    def test_the_chain_alone_is_less_than_good(self, platform):
        check = chain_check(platform, platform.quote())
        assert (check.status, check.good, check.reasons) == (TdxStatus.CHAIN_ONLY, False, ())
        assert check.facts is not None
        assert check.tcb is None

    def test_a_debuggable_td_is_taken_only_if_asked_for_and_never_with_collateral(self, platform):
        quote = platform.quote(body={BODY + 120: b"\x01"})
        assert refused(chain_check(platform, quote), "td_debuggable")
        allowed = chain_check(platform, quote, allow_debug=True)
        assert allowed.status is TdxStatus.CHAIN_ONLY
        assert allowed.facts is not None and allowed.facts.attributes.debuggable
        assert refused(full_check(platform, quote, allow_debug=True), "collateral_refused")

    def test_padding_changes_nothing(self, platform):
        quote = platform.quote()
        assert full_check(platform, quote + bytes(1000)).good
        assert refused(full_check(platform, quote + bytes(1000) + b"\x01"), "quote_malformed")


class TestNonce:
    @pytest.mark.parametrize("size", [0, 32, 63, 65, 128])
    def test_it_is_never_padded_or_cut(self, platform, size):
        wrong = (nonce() * 2)[:size]
        for check in (chain_check, full_check):
            with pytest.raises(UsageError, match="64 bytes"):
                check(platform, platform.quote(), nonce=wrong)

    def test_another_one_is_refused(self, platform):
        other = patch(nonce(), {63: bytes([nonce()[63] ^ 1])})
        assert refused(chain_check(platform, platform.quote(), nonce=other), "nonce_mismatch")
        assert refused(full_check(platform, platform.quote(), nonce=other), "nonce_mismatch")

    def test_a_padded_short_one_is_another(self, platform):
        quote = platform.quote(body={REPORT_DATA: b"n" * 32 + bytes(32)})
        assert chain_check(platform, quote, nonce=b"n" * 32 + bytes(32)).reasons == ()


class TestChain:
    def test_a_module_that_is_not_intels(self, platform):
        for at in (BODY + 64, BODY + 112):
            assert refused(chain_check(platform, platform.quote(body={at: b"\x01"})), "tdx_module_untrusted")

    def test_a_body_changed_after_it_was_signed(self, platform):
        quote = patch(platform.quote(), {376: b"\xee"})
        assert refused(chain_check(platform, quote), "signature_invalid")

    def test_another_attestation_key(self, platform):
        other = Platform()
        key = patch(platform.quote(), {700: other.quote()[700:764]})
        assert refused(chain_check(platform, key), "signature_invalid", "attestation_key_unbound")
        key_and_signature = patch(platform.quote(), {636: other.quote()[636:764]})
        assert refused(chain_check(platform, key_and_signature), "attestation_key_unbound")

    def test_a_key_that_is_no_point(self, platform):
        assert refused(chain_check(platform, platform.quote(key=b"\x01" * 64)), "signature_invalid")
        assert refused(chain_check(platform, platform.quote(key=b"\xff" * 64)), "signature_invalid")

    @pytest.mark.parametrize("at", [636, 636 + 32])
    def test_signatures_of_zero(self, platform, at):
        assert refused(chain_check(platform, patch(platform.quote(), {at: bytes(32)})), "signature_invalid")

    def test_a_qe_report_about_something_else(self, platform):
        for changes in ({320: bytes(32)}, {383: b"\x01"}):
            assert refused(chain_check(platform, platform.quote(qe=changes)), "attestation_key_unbound")

    @pytest.mark.parametrize(
        "changes",
        [{128: b"\0"}, {256: b"\x01"}, {257: b"\x01"}, {48: b"\x13"}, {48: b"\x05"}, {49: b"\x01"}, {16: b"\x01"}],
        ids=["signer", "product", "product high", "debug", "no provisioning key", "attribute", "misc"],
    )
    def test_a_quoting_enclave_that_is_not_intels(self, platform, changes):
        assert refused(chain_check(platform, platform.quote(qe=changes)), "qe_untrusted")

    def test_a_qe_report_the_pck_did_not_sign(self, platform):
        other = replace(platform, pck_key=new_key())
        quote = other.quote(chain=pem(*platform.chain))
        assert refused(chain_check(platform, quote), "qe_signature_invalid")

    @pytest.mark.parametrize("now", [-1, 253402300800, 1 << 80])
    def test_times_that_are_none(self, platform, now):
        with pytest.raises(UsageError, match="not a time"):
            chain_check(platform, platform.quote(), now=now)

    def test_a_root_that_is_none(self, platform):
        with pytest.raises(UsageError, match="root CA"):
            chain_check(platform, platform.quote(), root_ca=b"root")


class TestPath:
    """The PCK's certificates, each fault alone."""

    def fault(self, platform: Platform, *chain: x509.Certificate, now: int = NOW) -> str:
        check = chain_check(platform, platform.quote(chain=pem(*chain)), now=now)
        assert refused(check, "pck_chain_invalid")
        return check.reasons[0].detail

    def pck(self, platform: Platform, **options: Any) -> x509.Certificate:
        defaults: dict[str, Any] = {"ca": False, "extra": platform.sgx}
        return certificate(platform.PCK, platform.pck_key, platform.CA, platform.ca_key, **defaults | options)

    def test_another_root_of_the_same_name(self, platform):
        other = Platform()
        foreign = check_tdx_chain(other.quote(), nonce=nonce(), now=NOW, root_ca=platform.root_der)
        assert refused(foreign, "pck_chain_invalid")
        assert refused(check_tdx_chain(platform.quote(), nonce=nonce(), now=NOW), "pck_chain_invalid")

    def test_a_root_put_at_the_end_of_a_foreign_chain(self, platform):
        other = Platform()
        quote = other.quote(chain=pem(other.pck, other.ca, platform.root))
        assert refused(chain_check(platform, quote), "pck_chain_invalid")

    def test_no_root(self, platform):
        check = chain_check(platform, platform.quote(chain=pem(platform.pck, platform.ca)))
        assert set(codes(check)) == {"pck_chain_invalid"}
        assert "trusted root" in check.reasons[0].detail

    def test_one_certificate(self, platform):
        check = check_tdx_chain(
            platform.quote(chain=pem(platform.pck)),
            nonce=nonce(),
            now=NOW,
            root_ca=platform.pck.public_bytes(serialization.Encoding.DER),
        )
        assert check.status is TdxStatus.REFUSED
        assert set(codes(check)) == {"pck_chain_invalid"}

    def test_expired(self, platform):
        assert "valid from" in self.fault(platform, self.pck(platform, end=EXPIRED), platform.ca, platform.root)
        before = chain_check(platform, platform.quote(), now=0)
        assert codes(before) == ["pck_chain_invalid"] * 3

    def test_a_pck_that_is_a_ca(self, platform):
        assert "is a CA's" in self.fault(platform, self.pck(platform, ca=True), platform.ca, platform.root)

    def test_a_ca_that_is_none(self, platform):
        for ca_flag, cert_sign in ((False, True), (True, False)):
            options: dict[str, Any] = {"ca": ca_flag, "cert_sign": cert_sign}
            ca = certificate(platform.CA, platform.ca_key, platform.ROOT, platform.root_key, **options)
            assert "not an authority" in self.fault(platform, platform.pck, ca, platform.root)

    def test_a_path_longer_than_its_ca_allows(self, platform):
        key = new_key()
        under = certificate("under", key, platform.CA, platform.ca_key, ca=True, path_length=0)
        pck = certificate(platform.PCK, platform.pck_key, "under", key, ca=False, extra=platform.sgx)
        check = chain_check(platform, platform.quote(chain=pem(pck, under, platform.ca, platform.root)))
        assert set(codes(check)) == {"pck_chain_invalid"}
        assert any("allows 0 authorities below it, not 1" in reason.detail for reason in check.reasons)

    def test_a_critical_extension_nobody_knows(self, platform):
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
        pck = self.pck(platform, extra=(*platform.sgx, (unknown, True)))
        assert "1.2.3.4" in self.fault(platform, pck, platform.ca, platform.root)

    def test_another_issuer(self, platform):
        stranger = certificate(platform.PCK, platform.pck_key, platform.CA, new_key(), ca=False, extra=platform.sgx)
        assert "is not signed by" in self.fault(platform, stranger, platform.ca, platform.root)

    @pytest.mark.parametrize("curve", [ec.SECP256K1(), ec.BrainpoolP256R1()], ids=lambda curve: curve.name)
    def test_a_pck_on_another_curve(self, curve):
        """Its signature over the QE report is good, and of the same size."""
        other = Platform(pck_key=new_key(curve))
        assert refused(chain_check(other, other.quote()), "qe_signature_invalid")

    def test_something_that_is_no_certificate(self, platform):
        junk = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        assert refused(chain_check(platform, platform.quote(chain=junk)), "pck_chain_invalid")

    @given(st.data())
    def test_damaged_certificates_never_raise(self, platform, data):
        place = data.draw(st.integers(0, 2))
        der = [certificate_.public_bytes(serialization.Encoding.DER) for certificate_ in platform.chain]
        changes = data.draw(
            st.dictionaries(st.integers(0, len(der[place]) - 1), st.integers(1, 255), min_size=1, max_size=3)
        )
        der[place] = bytes(byte ^ changes.get(at, 0) for at, byte in enumerate(der[place]))
        text = b"".join(
            b"-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n" % base64.encodebytes(one) for one in der
        )
        check = chain_check(platform, platform.quote(chain=text))
        assert check.status is TdxStatus.REFUSED
        assert "pck_chain_invalid" in codes(check) or "qe_signature_invalid" in codes(check)


class TestCollateral:
    @pytest.mark.parametrize("status", ["OutOfDate", "SWHardeningNeeded", "ConfigurationNeeded"])
    def test_a_status_is_accepted_only_by_name(self, platform, status):
        text = platform.collateral(status=status)
        strict = full_check(platform, platform.quote(), collateral=text)
        assert refused(strict, "tcb_status_unaccepted")
        assert strict.tcb is not None and strict.tcb.status == status
        assert full_check(platform, platform.quote(), collateral=text, accepted={"UpToDate", status}).good

    def test_an_empty_policy_accepts_nothing(self, platform):
        assert refused(full_check(platform, platform.quote(), accepted=()), "tcb_status_unaccepted")

    def test_revoked_is_never_accepted(self, platform):
        everything = {"accepted": {"Revoked", "UpToDate"}}
        text = platform.collateral(status="Revoked")
        assert refused(full_check(platform, platform.quote(), collateral=text, **everything), "collateral_refused")
        text = platform.collateral(revoked=(platform.pck,))
        assert refused(full_check(platform, platform.quote(), collateral=text, **everything), "collateral_refused")
        assert chain_check(platform, platform.quote()).status is TdxStatus.CHAIN_ONLY

    def test_collateral_of_another_root(self, platform):
        assert refused(full_check(platform, platform.quote(), collateral=collateral()), "collateral_refused")
        other = Platform()
        assert refused(full_check(platform, platform.quote(), collateral=other.collateral()), "collateral_refused")

    @pytest.mark.parametrize("text", ["", "{}", "[]", "null", "\0", "{" * 5000, '{"tcb_info": 1}', "\ud800"])
    def test_what_is_no_collateral(self, platform, text):
        assert refused(full_check(platform, platform.quote(), collateral=text), "collateral_malformed")

    def test_collateral_without_end(self, platform):
        text = " " * (tdx_collateral.MAX_COLLATERAL_SIZE + 1)
        assert refused(full_check(platform, platform.quote(), collateral=text), "collateral_malformed")

    @given(st.lists(st.tuples(st.integers(0, 16000), st.characters(codec="utf-8")), min_size=1, max_size=3))
    def test_changed_collateral_never_raises(self, changes):
        text = collateral()
        for at, character in changes:
            text = text[:at] + character + text[at + 1 :]
        check = check_tdx_quote(recorded().data, nonce=nonce(), now=NOW, collateral=text)
        assert check.good == (not check.reasons)

    def test_good_collateral_does_not_help_a_bad_quote(self, platform):
        quote = patch(platform.quote(), {376: b"\xee"})
        assert refused(full_check(platform, quote), "signature_invalid", "collateral_refused")

    def test_without_the_library_it_says_what_to_install(self, platform, monkeypatch):
        tdx_collateral._library.cache_clear()
        monkeypatch.setitem(sys.modules, "dcap_qvl", None)
        with pytest.raises(MissingComponent, match=r"imarium\[tdx\]"):
            full_check(platform, platform.quote())
        assert chain_check(platform, platform.quote()).status is TdxStatus.CHAIN_ONLY


def test_intels_root_is_told_by_its_fingerprint():
    root = x509.load_der_x509_certificate(recorded().pck_chain[-1])
    assert root.subject.rfc4514_string().endswith("CN=Intel SGX Root CA")
    given_root = check_tdx_chain(recorded().data, nonce=nonce(), now=NOW, root_ca=recorded().pck_chain[-1])
    by_default = check_tdx_chain(recorded().data, nonce=nonce(), now=NOW)
    assert given_root == by_default
    assert root.fingerprint(hashes.SHA256()).hex().startswith("44a0196b2b99f889")
