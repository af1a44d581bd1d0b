"""What TPM2_MakeCredential makes and TPM2_ActivateCredential opens, one behind the other.

TPM 2.0 Library specification, Part 2, sections 12.4.3 (TPM2B_ID_OBJECT) and 11.4.3 (TPM2B_ENCRYPTED_SECRET).
"""

from dataclasses import dataclass

from imarium.formats.tpm.cursor import Cursor

__all__ = ["MAX_CHALLENGE", "Credential", "parse_credential"]

_MAX_ID_OBJECT = 132
"""An HMAC and a protected digest of at most 64 bytes each, with their sizes."""

_MAX_SECRET = 512
"""An RSA 4096 ciphertext; a point of the curves imarium knows is smaller."""

MAX_CHALLENGE = 2 + _MAX_ID_OBJECT + 2 + _MAX_SECRET
"""Largest challenge accepted, in bytes."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret for the TPM with one endorsement key, to be told where it has one attestation key loaded.

    ``blob`` is the content of TPM2B_ID_OBJECT, ``secret`` that of TPM2B_ENCRYPTED_SECRET.
    """

    blob: bytes
    secret: bytes

    def encode(self) -> bytes:
        """Both structures with their sizes."""
        return b"".join(len(part).to_bytes(2, "big") + part for part in (self.blob, self.secret))


def parse_credential(data: bytes) -> Credential:
    """The challenge that ``data`` is, to the last byte. Raises MalformedInput."""
    cursor = Cursor(data, "challenge")
    blob, secret = cursor.sized(_MAX_ID_OBJECT, "credentialBlob"), cursor.sized(_MAX_SECRET, "secret")
    cursor.end()
    return Credential(blob, secret)
