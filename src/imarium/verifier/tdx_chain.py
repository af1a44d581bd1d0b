"""Who signed a TDX quote: steps 5 to 9 of :mod:`imarium.verifier.tdx`, with the quote's own certificates alone.

Intel TDX DCAP Quoting Library API, appendix 3; Intel SGX PCK Certificate and CRL Profile.
"""

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from imarium.errors import MalformedInput, UsageError
from imarium.formats.tdx import QeReport, TdxQuote
from imarium.verifier.certificates import chain_faults, load_certificate
from imarium.verifier.reason import Reason

__all__ = ["INTEL_QE_SIGNER", "INTEL_ROOT", "check_chain", "root_fingerprint"]

INTEL_ROOT = bytes.fromhex("44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3")
"""SHA-256 of Intel's production root, "Intel SGX Root CA", valid from 2018-05-21 to 2049-12-31, in DER."""

INTEL_QE_SIGNER = bytes.fromhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")
"""MRSIGNER of Intel's TD quoting enclave."""

_QE_PRODUCT = 2
_QE_ATTRIBUTES = bytes.fromhex("11000000000000000000000000000000")
_QE_ATTRIBUTES_MASK = bytes.fromhex("fbffffffffffffff0000000000000000")
"""INIT and PROVISIONKEY, and no DEBUG; MODE64BIT and XFRM may be anything. From Intel's signed TD_QE identity."""


def root_fingerprint(root_ca: bytes | None) -> bytes:
    """SHA-256 of the root certificate ``root_ca`` (DER), or of Intel's. Raises UsageError for what is none."""
    if root_ca is None:
        return INTEL_ROOT
    try:
        load_certificate(root_ca)
    except MalformedInput as error:
        raise UsageError(f"the root CA is not a certificate in DER ({error}); give one") from error
    return hashlib.sha256(root_ca).digest()


def check_chain(quote: TdxQuote, *, root: bytes, at: datetime) -> Iterator[Reason]:
    """Steps 5 to 9. ``root`` is the SHA-256 fingerprint of the trusted root certificate.

    Without collateral this cannot tell a revoked key, or an outdated platform or QE.
    """
    if not _signed(_attestation_key(quote.attestation_key), quote.signature, quote.signed):
        yield Reason("signature_invalid", "the quote's signature is not its attestation key's over header and body")
    yield from _check_binding(quote)
    yield from _check_qe(quote.qe_report)
    try:
        chain = [load_certificate(certificate) for certificate in quote.pck_chain]
    except MalformedInput as error:
        yield _bad_chain(f"a certificate cannot be read: {error}")
        return
    pck = chain[0].public_key()
    key = pck if isinstance(pck, ec.EllipticCurvePublicKey) and isinstance(pck.curve, ec.SECP256R1) else None
    if not _signed(key, quote.qe_report_signature, quote.qe_report.data):
        yield Reason("qe_signature_invalid", "the QE report's signature is not the PCK's")
    yield from _check_path(chain, root=root, at=at)


def _check_binding(quote: TdxQuote) -> Iterator[Reason]:
    """Step 6."""
    bound = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest() + bytes(32)
    if not hmac.compare_digest(bound, quote.qe_report.report_data):
        yield Reason("attestation_key_unbound", "the QE report is not about the quote's attestation key")


def _check_qe(report: QeReport) -> Iterator[Reason]:
    """Step 7. A PCK signs for any enclave that may ask for it, so that the quoting enclave must be known as Intel's."""
    if report.mr_signer != INTEL_QE_SIGNER or report.isv_prod_id != _QE_PRODUCT:
        found = f"MRSIGNER {report.mr_signer.hex()}, product {report.isv_prod_id}"
        yield Reason("qe_untrusted", f"the quoting enclave is not Intel's for TDs: {found}")
    masked = bytes(have & mask for have, mask in zip(report.attributes, _QE_ATTRIBUTES_MASK, strict=True))
    if masked != _QE_ATTRIBUTES or any(report.misc_select):
        found = f"ATTRIBUTES {report.attributes.hex()}, MISCSELECT {report.misc_select.hex()}"
        yield Reason("qe_untrusted", f"the quoting enclave runs in a mode Intel's does not: {found}")


def _check_path(chain: Sequence[x509.Certificate], *, root: bytes, at: datetime) -> Iterator[Reason]:
    """Step 9: each certificate is issued by the next, and the last is the trusted root itself."""
    if len(chain) < 2:
        yield _bad_chain("it has one certificate: the root must be in it")
    if not hmac.compare_digest(chain[-1].fingerprint(SHA256()), root):
        yield _bad_chain(f"it does not end with the trusted root, but with {chain[-1].fingerprint(SHA256()).hex()}")
    for fault in chain_faults(chain, at):
        yield _bad_chain(fault)
    if _is_authority(chain[0]):
        yield _bad_chain("the PCK certificate is a CA's, or does not say that it is none")


def _is_authority(certificate: x509.Certificate) -> bool:
    """Whether it is an authority's, or does not say."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return True


def _attestation_key(point: bytes) -> ec.EllipticCurvePublicKey | None:
    """The P-256 key with these coordinates, or None where they are not on the curve."""
    half = len(point) // 2
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(point[:half], "big"), int.from_bytes(point[half:], "big"), ec.SECP256R1()
    )
    try:
        return numbers.public_key()
    except ValueError:
        return None


def _signed(key: ec.EllipticCurvePublicKey | None, signature: bytes, message: bytes) -> bool:
    """Whether ``signature``, r and s of 32 bytes each, is that of ``key`` over ``message`` with SHA-256."""
    if key is None:
        return False
    half = len(signature) // 2
    encoded = encode_dss_signature(int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))
    try:
        key.verify(encoded, message, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _bad_chain(detail: str) -> Reason:
    return Reason("pck_chain_invalid", f"the PCK chain: {detail}")
