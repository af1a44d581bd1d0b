"""A nonce that one TPM alone can read, and only while it has one attestation key loaded: TPM2_MakeCredential.

A quote over such a nonce proves that the attestation key is in the TPM with this endorsement key. Whose the endorsement
key is, its certificate says, or for the vTPM of an SVSM a report. Making a challenge draws random numbers.

TPM 2.0 Library specification, Part 1, sections 24 (credential protection), 11.4.10 (key derivation), B.10.4 and C.6.4
(secret sharing).
"""

import hmac
import secrets
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from imarium.errors import UsageError
from imarium.formats.tpm import Credential, ObjectAttributes, Public, StorageCipher
from imarium.verifier.certificates import CertifiedKey, open_chain
from imarium.verifier.reason import Reason
from imarium.verifier.signatures import VerificationKey, verification_key

__all__ = ["NONCE_SIZE", "Challenge", "check_endorsement", "is_endorsement_key", "make_challenge"]

NONCE_SIZE = 32
"""The bytes of the nonce in a challenge."""

_EK_PURPOSE = x509.ObjectIdentifier("2.23.133.8.1")
"""tcg-kp-EKCertificate."""

_IDENTITY = b"IDENTITY\0"
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_BLOCK = 16
_CIPHER = "AES"

_NEEDED = ObjectAttributes.FIXED_TPM | ObjectAttributes.FIXED_PARENT
_NEEDED |= ObjectAttributes.RESTRICTED | ObjectAttributes.DECRYPT | ObjectAttributes.SENSITIVE_DATA_ORIGIN


@dataclass(frozen=True, slots=True)
class Challenge:
    """A ``nonce`` to keep, and what to send: ``data``, in which it is hidden."""

    nonce: bytes
    data: bytes


def is_endorsement_key(key: Public) -> bool:
    """Whether it is restricted, decrypting, with a cipher for children, made in its TPM and bound to it."""
    return (
        key.attributes & _NEEDED == _NEEDED and not key.attributes & ObjectAttributes.SIGN and key.storage is not None
    )


def check_endorsement(ek: Public, certificate: CertifiedKey) -> tuple[Reason, ...]:
    """What is wrong with the certificate of an endorsement key, or with its being this key's; nothing if it is good.

    Raises UsageError for a time without a time zone.
    """
    leaf, faults = open_chain(certificate, understood={x509.SubjectAlternativeName.oid})
    reasons = [Reason("ek_certificate_invalid", fault) for fault in faults]
    if leaf is not None and not _for_endorsement(leaf):
        reasons.append(Reason("ek_certificate_invalid", "the certificate is for something else than endorsement keys"))
    if leaf is not None and _der(leaf.public_key()) != _der(verification_key(ek)):
        reasons.append(Reason("ek_certificate_other", "the certificate is not of this endorsement key"))
    return tuple(reasons)


def make_challenge(ek: Public, ak: Public) -> Challenge:
    """A challenge to the TPM with the endorsement key ``ek`` that only it can open, with ``ak`` loaded.

    Raises UsageError for a key that is no endorsement key or of an algorithm nobody uses for one, MalformedInput for
    numbers that are no key.
    """
    digest, cipher = _HASHES.get(ek.name_algorithm.name), ek.storage
    if not is_endorsement_key(ek) or cipher is None:
        raise UsageError("the key to challenge is no endorsement key; give the TPM's, from imarium rot ek")
    if digest is None or cipher.name != _CIPHER:
        found = f"{ek.name_algorithm.name} and {cipher.name}"
        raise UsageError(f"an endorsement key of {found} cannot be challenged; use one of the TCG's templates")
    nonce = secrets.token_bytes(NONCE_SIZE)
    seed, secret = _share(verification_key(ek), digest)
    return Challenge(nonce, Credential(_protect(nonce, seed, ak.name, digest, cipher), secret).encode())


def _for_endorsement(certificate: x509.Certificate) -> bool:
    """Whether its purposes, if it names any, have that of an endorsement key (TCG EK Credential Profile)."""
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return _EK_PURPOSE in purposes


def _share(ek: VerificationKey, digest: hashes.HashAlgorithm) -> tuple[bytes, bytes]:
    """A seed, and TPM2B_ENCRYPTED_SECRET's content, in which it is for the holder of the key alone.

    Raises UsageError for an RSA key that a seed does not fit into.
    """
    if isinstance(ek, rsa.RSAPublicKey):
        seed = secrets.token_bytes(digest.digest_size)
        try:
            return seed, ek.encrypt(seed, padding.OAEP(padding.MGF1(digest), digest, _IDENTITY))
        except ValueError as error:
            found = f"{ek.key_size} bits is too short for a seed of {digest.name}"
            raise UsageError(f"an endorsement key of {found}; use one of the TCG's templates") from error
    ephemeral = ec.generate_private_key(ek.curve)
    size = (ek.curve.key_size + 7) // 8
    here, there = (key.public_numbers() for key in (ephemeral.public_key(), ek))
    point = [number.to_bytes(size, "big") for number in (here.x, here.y)]
    info = _IDENTITY + point[0] + there.x.to_bytes(size, "big")
    seed = ConcatKDFHash(digest, digest.digest_size, info).derive(ephemeral.exchange(ec.ECDH(), ek))
    return seed, b"".join(map(_sized, point))


def _protect(value: bytes, seed: bytes, name: bytes, digest: hashes.HashAlgorithm, cipher: StorageCipher) -> bytes:
    """TPM2B_ID_OBJECT's content: the value encrypted, and an HMAC over it and the Name it is for."""
    hidden = _cfb(_derived(seed, b"STORAGE", name, digest, cipher.bits), _sized(value))
    key = _derived(seed, b"INTEGRITY", b"", digest, digest.digest_size * 8)
    return _sized(hmac.digest(key, hidden + name, digest.name)) + hidden


def _derived(seed: bytes, label: bytes, context: bytes, digest: hashes.HashAlgorithm, bits: int) -> bytes:
    """KDFa."""
    kdf = KBKDFHMAC(
        algorithm=digest,
        mode=Mode.CounterMode,
        length=bits // 8,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=label,
        context=context,
        fixed=None,
    )
    return kdf.derive(seed)


def _cfb(key: bytes, data: bytes) -> bytes:
    """AES in CFB mode from an initialisation vector of zeros. The library has moved its own from release to release."""
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - the mode is made of it
    found, last = b"", bytes(_BLOCK)
    for start in range(0, len(data), _BLOCK):
        part = data[start : start + _BLOCK]
        last = bytes(a ^ b for a, b in zip(part, block.update(last), strict=False))
        found += last
    return found


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _der(key: object) -> bytes:
    """A key's SubjectPublicKeyInfo; nothing for a kind of key that no TPM has."""
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        return b""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
