"""Attestation keys in a TPM: made under the endorsement key, saved outside, loaded when needed.

The endorsement key is made anew from the TCG's default template each time it is needed (TCG EK Credential Profile
2.5, annex B.3); a TPM makes the same key of the same template. Its policy wants a session that proves knowledge of
the endorsement hierarchy's authorisation, empty on most machines.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from imarium.errors import DeviceError, UsageError
from imarium.formats.tpm import Credential, EccCurve, ObjectAttributes, SignatureScheme
from imarium.hashes import SHA256
from imarium.rot.ak_store import EndorsementKind, StoredKey
from imarium.rot.tss import Handle, Tss

__all__ = [
    "AK_ATTRIBUTES",
    "EndorsementKey",
    "KeyKind",
    "create_ak",
    "drop_ak",
    "endorsement_key",
    "load_ak",
    "make_persistent",
    "open_challenge",
    "public_template",
]

AK_ATTRIBUTES = (
    ObjectAttributes.FIXED_TPM
    | ObjectAttributes.FIXED_PARENT
    | ObjectAttributes.SENSITIVE_DATA_ORIGIN
    | ObjectAttributes.USER_WITH_AUTH
    | ObjectAttributes.NO_DA
    | ObjectAttributes.RESTRICTED
    | ObjectAttributes.SIGN
)
"""An AK signs only what its TPM made and never leaves it; its use needs no authorisation and no lockout stops it."""

OWNER_HANDLES = range(0x81000000, 0x81800000)
"""Persistent handles the owner of a TPM may use (Part 2, section 7.4, and the registry of reserved handles)."""

_EK_ATTRIBUTES = (
    ObjectAttributes.FIXED_TPM
    | ObjectAttributes.FIXED_PARENT
    | ObjectAttributes.SENSITIVE_DATA_ORIGIN
    | ObjectAttributes.ADMIN_WITH_POLICY
    | ObjectAttributes.RESTRICTED
    | ObjectAttributes.DECRYPT
)
_EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
_RSA_2048_BYTES = 256
_AES_128_CFB = struct.pack(">HHH", 0x0006, 128, 0x0043)
_NULL = struct.pack(">H", 0x0010)


_CERTIFICATES = {EndorsementKind.RSA_2048: 0x01C00002, EndorsementKind.ECC_P256: 0x01C0000A}
"""The NV indexes of the certificates for the keys of templates L-1 and L-2 (TCG EK Credential Profile 2.5, 2.2.1.4)."""


@dataclass(frozen=True, slots=True)
class EndorsementKey:
    """A TPM's endorsement key, a TPM2B_PUBLIC, and its certificate in DER, None where the TPM has none."""

    public: bytes
    certificate: bytes | None


@dataclass(frozen=True, slots=True)
class KeyKind:
    """The kind of an AK: ``rsa`` with 2048 bits, else ECC P-256; the hash is SHA-256."""

    scheme: SignatureScheme

    @property
    def rsa(self) -> bool:
        """Whether the scheme is one of RSA's."""
        return self.scheme is not SignatureScheme.ECDSA


def public_template(kind: KeyKind, attributes: ObjectAttributes = AK_ATTRIBUTES) -> bytes:
    """The TPM2B_PUBLIC to make a signing key from."""
    scheme = struct.pack(">HH", kind.scheme, SHA256.tcg_id)
    return _template(rsa=kind.rsa, attributes=attributes, policy=b"", symmetric=_NULL, scheme=scheme, unique=0)


def _template(
    *, rsa: bool, attributes: ObjectAttributes, policy: bytes, symmetric: bytes, scheme: bytes, unique: int
) -> bytes:
    """``unique`` is how many zero bytes stand for each number of the key."""
    key_type = 0x0001 if rsa else 0x0023
    head = struct.pack(">HHI", key_type, SHA256.tcg_id, attributes) + _sized(policy) + symmetric + scheme
    if rsa:
        area = head + struct.pack(">HI", 2048, 0) + _sized(bytes(unique))
    else:
        area = head + struct.pack(">H", EccCurve.P256) + _NULL + 2 * _sized(bytes(unique))
    return _sized(area)


def _sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def _ek_template(kind: EndorsementKind) -> bytes:
    """Templates L-1 (RSA 2048) and L-2 (ECC P-256)."""
    rsa = kind is EndorsementKind.RSA_2048
    return _template(
        rsa=rsa,
        attributes=_EK_ATTRIBUTES,
        policy=_EK_POLICY,
        symmetric=_AES_128_CFB,
        scheme=_NULL,
        unique=256 if rsa else 32,
    )


@contextmanager
def _parent(tss: Tss, kind: EndorsementKind) -> Iterator[tuple[Handle, Handle]]:
    """The endorsement key, and a session that opens it once; both leave the TPM with the context."""
    handle, _ = tss.create_endorsement_key(_ek_template(kind))
    with tss.flushed(handle) as ek, tss.endorsement_session() as session:
        yield ek, session


def endorsement_key(tss: Tss, kind: EndorsementKind) -> EndorsementKey:
    """The endorsement key and the certificate that the TPM's maker left for it. Raises DeviceError."""
    handle, public = tss.create_endorsement_key(_ek_template(kind))
    with tss.flushed(handle):
        return EndorsementKey(public, tss.nv_read(_CERTIFICATES[kind]))


def open_challenge(tss: Tss, loaded: Handle, credential: Credential) -> bytes:
    """What a verifier's challenge holds: only this TPM can tell, and only while it has this key ``loaded``.

    Raises DeviceError for a challenge to another TPM or key.
    """
    rsa = len(credential.secret) == _RSA_2048_BYTES  # else it is a point
    with _parent(tss, EndorsementKind.RSA_2048 if rsa else EndorsementKind.ECC_P256) as (ek, session):
        return tss.activate_credential(loaded, ek, session, credential.blob, credential.secret)


def create_ak(
    tss: Tss,
    kind: KeyKind,
    parent: EndorsementKind = EndorsementKind.ECC_P256,
    attributes: ObjectAttributes = AK_ATTRIBUTES,
) -> StoredKey:
    """Makes a new attestation key. Nothing of it stays in the TPM. Raises DeviceError."""
    with _parent(tss, parent) as (ek, session):
        private, public = tss.create(ek, session, public_template(kind, attributes))
    return StoredKey(public, private, parent)


def load_ak(tss: Tss, key: StoredKey) -> Handle:
    """Brings the key into the TPM, or finds the persistent one; :func:`drop_ak` undoes it.

    Raises DeviceError, also if the persistent handle holds another key.
    """
    if key.handle is not None:
        handle, found = tss.find(key.handle)
        if found == key.name:
            return handle
        tss.forget(handle)
        raise DeviceError(f"{key.handle:#x} holds the key {found.hex()}, not {key.name.hex()}: make a new key")
    if key.private is None:
        raise UsageError("this attestation key has no private part and no handle; make a new one")
    with _parent(tss, key.parent) as (ek, session):
        return tss.load(ek, session, key.private, key.public)


def drop_ak(tss: Tss, key: StoredKey, handle: Handle) -> None:
    """Flushes what :func:`load_ak` loaded; a persistent key stays."""
    if key.handle is None:
        tss.flush(handle)
    else:
        tss.forget(handle)


def make_persistent(tss: Tss, key: StoredKey, handle: int) -> StoredKey:
    """Stores the key in the TPM under ``handle``, by the owner's authority.

    Raises UsageError for a handle that is not an owner's persistent one, 0x81000000 to 0x817fffff; DeviceError.
    """
    if handle not in OWNER_HANDLES:
        raise UsageError(
            f"{handle:#x} is no persistent handle of the owner's; choose one from 0x81000000 to 0x817fffff"
        )
    with tss.flushed(load_ak(tss, key)) as loaded:
        tss.persist(loaded, handle)
    return StoredKey(key.public, handle=handle)
