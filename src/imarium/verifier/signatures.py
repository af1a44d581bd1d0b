"""Signatures of TPM keys over attestation structures."""

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from imarium.errors import MalformedInput
from imarium.formats.tpm import EccCurve, EcdsaSignature, Public, RsaKey, RsaSignature, Signature, SignatureScheme
from imarium.hashes import HashAlgorithm
from imarium.verifier.reason import Reason

__all__ = ["SIGNATURE_INVALID", "VerificationKey", "verification_key", "verify_signature"]

SIGNATURE_INVALID = "signature_invalid"

VerificationKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
"""A bare public key, as ``load_der_public_key`` makes it of a SubjectPublicKeyInfo."""

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
    "sha3-256": hashes.SHA3_256(),
    "sha3-384": hashes.SHA3_384(),
    "sha3-512": hashes.SHA3_512(),
}
_CURVES: dict[EccCurve, ec.EllipticCurve] = {
    EccCurve.P256: ec.SECP256R1(),
    EccCurve.P384: ec.SECP384R1(),
    EccCurve.P521: ec.SECP521R1(),
}
_RSASSA_PREFIXES = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}
"""DER of DigestInfo up to the digest: RFC 8017, section 9.2, note 1."""


def verification_key(public: Public) -> VerificationKey:
    """The key of a TPM public area. Raises MalformedInput for numbers that are no key: a point off the curve."""
    key = public.key
    try:
        if isinstance(key, RsaKey):
            return rsa.RSAPublicNumbers(key.exponent, int.from_bytes(key.modulus, "big")).public_key()
        x, y = int.from_bytes(key.x, "big"), int.from_bytes(key.y, "big")
        return ec.EllipticCurvePublicNumbers(x, y, _CURVES[key.curve]).public_key()
    except ValueError as error:
        offset = len(public.area)
        raise MalformedInput("TPMT_PUBLIC", offset=offset, expected="a usable key", found=str(error)) from error


def verify_signature(key: VerificationKey, message: bytes, signature: Signature) -> Reason | None:
    """None if ``signature`` is that of ``key`` over ``message``, else a reason with the code ``signature_invalid``.

    Scheme and hash are the signature's own: compare them with the key's first, where the key is bound to some.
    SHA-1 is not accepted.
    """
    algorithm = _HASHES.get(signature.hash.name)
    if algorithm is None:
        return _invalid(f"signatures over {signature.hash.name} digests are not accepted")
    try:
        if isinstance(signature, EcdsaSignature):
            if not isinstance(key, ec.EllipticCurvePublicKey):
                return _invalid("the signature is ECDSA, the key is RSA")
            return _verify_ecdsa(key, message, signature, algorithm)
        if not isinstance(key, rsa.RSAPublicKey):
            return _invalid(f"the signature is {signature.scheme.name}, the key is ECC")
        return _verify_rsa(key, message, signature, algorithm)
    except UnsupportedAlgorithm:
        name = f"{signature.scheme.name} with {signature.hash.name}"
        return _invalid(f"this machine's OpenSSL cannot check {name}")


def _verify_ecdsa(
    key: ec.EllipticCurvePublicKey, message: bytes, signature: EcdsaSignature, algorithm: hashes.HashAlgorithm
) -> Reason | None:
    encoded = encode_dss_signature(int.from_bytes(signature.r, "big"), int.from_bytes(signature.s, "big"))
    try:
        key.verify(encoded, message, ec.ECDSA(algorithm))
    except InvalidSignature:
        return _invalid("the signature is not this key's over this statement")
    return None


def _verify_rsa(
    key: rsa.RSAPublicKey, message: bytes, signature: RsaSignature, algorithm: hashes.HashAlgorithm
) -> Reason | None:
    if signature.scheme is SignatureScheme.RSASSA:
        try:
            key.verify(signature.value, message, padding.PKCS1v15(), algorithm)
        except InvalidSignature:
            return _invalid(_rsassa_fault(key, signature))
        return None
    try:
        pss = padding.PSS(mgf=padding.MGF1(algorithm), salt_length=padding.PSS.AUTO)
        key.verify(signature.value, message, pss, algorithm)
    except InvalidSignature:
        return _invalid("the signature is not this key's over this statement")
    return None


def _rsassa_fault(key: rsa.RSAPublicKey, signature: RsaSignature) -> str:
    """Tells a signature over another message from one that is not this key's at all."""
    try:
        opened = key.recover_data_from_signature(signature.value, padding.PKCS1v15(), None)
    except InvalidSignature:
        return "the signature is not this key's"
    if _is_digest_info(opened, signature.hash):
        return "the signature is this key's, over another message"
    return "the signature is this key's, over something that is not a digest of the signature's hash"


def _is_digest_info(opened: bytes, algorithm: HashAlgorithm) -> bool:
    """Whether ``opened`` is the DER DigestInfo of a digest of ``algorithm``."""
    prefix = _RSASSA_PREFIXES.get(algorithm.name)
    return prefix is not None and opened.startswith(prefix) and len(opened) == len(prefix) + algorithm.size


def _invalid(detail: str) -> Reason:
    return Reason(SIGNATURE_INVALID, detail)
