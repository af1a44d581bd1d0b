"""Chains of X.509 certificates, from a leaf to a root the caller trusts, at a time the caller gives. RFC 5280.

Revocation is not looked at: a verifier that has revocation lists leaves revoked certificates out.
"""

import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

from imarium.errors import MalformedInput, UsageError

__all__ = ["MAX_CERTIFICATE", "MAX_INTERMEDIATES", "CertifiedKey", "chain_faults", "load_certificate", "open_chain"]

MAX_CERTIFICATE = 16384
"""Largest certificate accepted, in bytes."""

MAX_INTERMEDIATES = 8
"""Most certificates accepted between a leaf and a root."""

_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for a certificate it cannot read."""

_SIGNATURE_HASHES = frozenset({"sha256", "sha384", "sha512"})
_UNDERSTOOD = frozenset({x509.BasicConstraints.oid, x509.KeyUsage.oid})
"""Critical extensions a chain may have: what is checked here."""


@dataclass(frozen=True, slots=True)
class CertifiedKey:
    """A key that is trusted because its certificate is.

    ``leaf`` is the key's certificate and ``intermediates`` are those above it, in order: these may come from anywhere.
    ``root`` is the one the caller trusts. All are in DER. ``at``, with a time zone, is when they must be valid.
    """

    leaf: bytes
    intermediates: tuple[bytes, ...]
    root: bytes
    at: datetime


def open_chain(
    certified: CertifiedKey, *, understood: Collection[x509.ObjectIdentifier] = ()
) -> tuple[x509.Certificate | None, tuple[str, ...]]:
    """The leaf, None if a certificate cannot be read, and what is wrong with the chain.

    ``understood`` are critical extensions that are good beside those checked here. Raises UsageError if the time has no
    time zone.
    """
    if len(certified.intermediates) > MAX_INTERMEDIATES:
        return None, (f"there are {len(certified.intermediates)} certificates between, at most {MAX_INTERMEDIATES} do",)
    try:
        chain = [load_certificate(data) for data in (certified.leaf, *certified.intermediates, certified.root)]
    except MalformedInput as error:
        return None, (str(error),)
    return chain[0], tuple(chain_faults(chain, certified.at, understood))


def load_certificate(data: bytes) -> x509.Certificate:
    """The certificate that ``data`` is, in DER. Raises MalformedInput.

    Its key, its signature's algorithm and its extensions can be read without an error. AMD numbers some certificates
    with 0, which RFC 5280 rules out: that is let pass. So are names of odd lengths, which the library would warn of on
    standard error.
    """
    if len(data) > MAX_CERTIFICATE:
        raise _malformed(f"at most {MAX_CERTIFICATE} bytes", f"{len(data)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # as those of the library are
            certificate = x509.load_der_x509_certificate(data)
            hash_name = _read(certificate)
    except _UNREADABLE as error:
        raise _malformed("an X.509 certificate in DER", " ".join(str(error).split())[:80]) from error
    if hash_name is None or hash_name.name not in _SIGNATURE_HASHES:
        found = hash_name.name if hash_name is not None else "no hash"
        raise _malformed("a signature with SHA-256, SHA-384 or SHA-512", found)
    return certificate


def _read(certificate: x509.Certificate) -> hashes.HashAlgorithm | None:
    """Reads what is read of a certificate later: the library parses these parts when they are asked for."""
    certificate.public_key()
    certificate.subject.rfc4514_string()
    certificate.issuer.rfc4514_string()
    for read in ("extensions", "not_valid_before_utc", "not_valid_after_utc", "signature_algorithm_parameters"):
        getattr(certificate, read)
    return certificate.signature_hash_algorithm


def chain_faults(
    chain: Sequence[x509.Certificate], at: datetime, understood: Collection[x509.ObjectIdentifier] = ()
) -> Iterator[str]:
    """What is wrong with ``chain``, which goes from the leaf to the trusted root; nothing if it is good.

    ``at`` is the time the certificates must be valid at, ``understood`` as in :func:`open_chain`. Raises UsageError if
    the time has no time zone.
    """
    if at.tzinfo is None:
        raise UsageError("the time of a verification needs a time zone")
    for certificate in chain:
        name = _name(certificate)
        if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
            start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            yield f"{name} is valid from {start:%Y-%m-%d} to {end:%Y-%m-%d} only, the time is {at:%Y-%m-%d}"
        for extension in certificate.extensions:
            if extension.critical and extension.oid not in {*_UNDERSTOOD, *understood}:
                yield f"{name} has a critical extension {extension.oid.dotted_string} that is not understood"
    for depth, (child, issuer) in enumerate(zip(chain, [*chain[1:], chain[-1]], strict=True)):
        if not _issued(child, issuer):
            yield f"{_name(child)} is not signed by {_name(issuer)}"
        if issuer is not child:
            yield from _issuer_faults(issuer, depth)


def _issued(child: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _issuer_faults(issuer: x509.Certificate, below: int) -> Iterator[str]:
    """An issuer is a certificate authority that may sign certificates, with at most so many authorities below it."""
    name = _name(issuer)
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        yield f"{name} does not say that it is a certificate authority and signs certificates"
        return
    if not constraints.ca or not usage.key_cert_sign:
        yield f"{name} is not an authority that signs certificates"
    if constraints.path_length is not None and below > constraints.path_length:
        yield f"{name} allows {constraints.path_length} authorities below it, not {below}"


def _name(certificate: x509.Certificate) -> str:
    return repr(certificate.subject.rfc4514_string()[:80])


def _malformed(expected: str, found: str) -> MalformedInput:
    return MalformedInput("X.509 certificate", offset=0, expected=expected, found=found)
