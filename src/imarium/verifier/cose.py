"""Signatures of COSE_Sign1, and the public keys they are checked with. RFC 9053, section 2.1; RFC 8230; RFC 8812."""

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from imarium.errors import MalformedInput
from imarium.formats.cca import CoseAlgorithm, Curve, EcPoint, Sign1, parse_cose_key, parse_jwk, parse_point
from imarium.verifier.signatures import VerificationKey

__all__ = ["accepted_key", "load_public_key", "point_key", "sign1_fault", "token_key"]

MAX_KEY = 16384
"""Largest file of a public key accepted, in bytes."""

MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192

_CURVES: dict[Curve, ec.EllipticCurve] = {
    Curve.P256: ec.SECP256R1(),
    Curve.P384: ec.SECP384R1(),
    Curve.P521: ec.SECP521R1(),
}
_ECDSA: dict[CoseAlgorithm, tuple[Curve, hashes.HashAlgorithm]] = {
    CoseAlgorithm.ES256: (Curve.P256, hashes.SHA256()),
    CoseAlgorithm.ES384: (Curve.P384, hashes.SHA384()),
    CoseAlgorithm.ES512: (Curve.P521, hashes.SHA512()),
}


def point_key(point: EcPoint) -> ec.EllipticCurvePublicKey:
    """The key of ``point``. Raises MalformedInput if it is off the curve."""
    x, y = int.from_bytes(point.x, "big"), int.from_bytes(point.y, "big")
    try:
        return ec.EllipticCurvePublicNumbers(x, y, _CURVES[point.curve]).public_key()
    except ValueError as error:
        raise _malformed(f"a point of {point.curve.value}", "another") from error


def token_key(data: bytes) -> VerificationKey:
    """The key that a token's public key claim is: an uncompressed point, a DER SubjectPublicKeyInfo or a COSE_Key.

    The first byte tells which. Raises MalformedInput.
    """
    match data[:1]:
        case b"\x04":
            return point_key(parse_point(data))
        case b"\x30":
            return _der(data)
        case _:
            return point_key(parse_cose_key(data))


def load_public_key(data: bytes) -> VerificationKey:
    """The key in a file of the caller's: JWK, PEM, DER or COSE_Key. Raises MalformedInput."""
    if len(data) > MAX_KEY:
        raise _malformed(f"at most {MAX_KEY} bytes", f"{len(data)}")
    text = data.strip()
    if text.startswith(b"{"):
        return point_key(parse_jwk(text))
    if text.startswith(b"-----BEGIN "):
        try:
            return accepted_key(serialization.load_pem_public_key(text))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _malformed("a public key in PEM", " ".join(str(error).split())[:80]) from error
    return token_key(data)


def sign1_fault(key: VerificationKey, envelope: Sign1) -> str | None:
    """Why ``envelope`` is not signed by ``key``; None if it is.

    The algorithm is the envelope's, on the curve of its name; PS256 has a salt as long as its hash.
    """
    ecdsa = _ECDSA.get(envelope.algorithm)
    try:
        if ecdsa is not None:
            return _ecdsa_fault(key, envelope, *ecdsa)
        if not isinstance(key, rsa.RSAPublicKey):
            return f"the signature is {envelope.algorithm.name}, the key is not RSA"
        scheme: padding.AsymmetricPadding = padding.PKCS1v15()
        if envelope.algorithm is CoseAlgorithm.PS256:
            scheme = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)
        key.verify(envelope.signature, envelope.to_be_signed, scheme, hashes.SHA256())
    except InvalidSignature:
        return "the signature is not this key's over this token"
    except UnsupportedAlgorithm:
        return f"this machine's OpenSSL cannot check {envelope.algorithm.name}"
    return None


def _ecdsa_fault(key: VerificationKey, envelope: Sign1, curve: Curve, algorithm: hashes.HashAlgorithm) -> str | None:
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != _CURVES[curve].name:
        return f"the signature is {envelope.algorithm.name}, the key is not of {curve.value}"
    signature, size = envelope.signature, curve.size
    if len(signature) != 2 * size:
        return f"the signature has {len(signature)} bytes, {envelope.algorithm.name} has {2 * size}"
    r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
    key.verify(encode_dss_signature(r, s), envelope.to_be_signed, ec.ECDSA(algorithm))
    return None


def _der(data: bytes) -> VerificationKey:
    try:
        return accepted_key(serialization.load_der_public_key(data))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _malformed("a public key in DER", " ".join(str(error).split())[:80]) from error


def accepted_key(key: object) -> VerificationKey:
    """``key`` if it is of a kind and size that signatures are accepted from. Raises MalformedInput."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in {curve.name for curve in _CURVES.values()}:
            raise _malformed("a key on P-256, P-384 or P-521", f"one on {key.curve.name}")
        return key
    if not isinstance(key, rsa.RSAPublicKey):
        raise _malformed("an EC or RSA key", "another kind of key")
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise _malformed(f"an RSA key of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits", f"{key.key_size} bits")
    return key


def _malformed(expected: str, found: str) -> MalformedInput:
    return MalformedInput("public key", offset=0, expected=expected, found=found)
