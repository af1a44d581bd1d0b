"""TPM2B_PUBLIC: the public area of RSA and ECC keys, and their Names.

TPM 2.0 Library specification, Part 2, sections 8.3 (TPMA_OBJECT) and 12.2 (TPMT_PUBLIC); Part 1, section 16 (Names).
"""

import enum
from dataclasses import dataclass

from imarium.formats.tpm.cursor import Cursor
from imarium.formats.tpm.signature import MAX_ECC_BYTES, MAX_RSA_BYTES, SignatureScheme
from imarium.hashes import ALGORITHMS, HashAlgorithm

__all__ = [
    "EccCurve",
    "EccKey",
    "ObjectAttributes",
    "Public",
    "RsaKey",
    "SigningScheme",
    "StorageCipher",
    "parse_public",
    "parse_public_area",
]

MAX_PUBLIC_SIZE = 1024
"""No TPMT_PUBLIC of an RSA or ECC key comes near this many bytes."""

ENDORSEMENT_HIERARCHY = (0x4000000B).to_bytes(4, "big")
"""TPM_RH_ENDORSEMENT, which stands for the hierarchy in Qualified Names of its keys."""

DEFAULT_EXPONENT = 65537
"""What an exponent of 0 stands for (section 12.2.3.5)."""

_RSA, _ECC, _NULL = 0x0001, 0x0023, 0x0010
_RSA_BITS = (1024, 2048, 3072, 4096)
_MAX_DIGEST = max(algorithm.size for algorithm in ALGORITHMS)
_CFB = 0x0043
_BLOCK_CIPHERS = {0x0006: "AES", 0x0013: "SM4", 0x0026: "CAMELLIA"}
_KDFS = (0x0007, 0x0020, 0x0021, 0x0022)
_SCHEMES_OF_TYPE = {
    _RSA: (SignatureScheme.RSASSA, SignatureScheme.RSAPSS),
    _ECC: (SignatureScheme.ECDSA,),
}


class ObjectAttributes(enum.IntFlag):
    """TPMA_OBJECT. The bits that are not here are reserved and must be zero."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    FIRMWARE_LIMITED = 1 << 8
    SVN_LIMITED = 1 << 9
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18
    X509_SIGN = 1 << 19


_KNOWN_ATTRIBUTES = sum(ObjectAttributes)


class EccCurve(enum.IntEnum):
    """The curves imarium knows, by TPM_ECC_CURVE."""

    P256 = 0x0003
    P384 = 0x0004
    P521 = 0x0005

    @property
    def size(self) -> int:
        """The bytes of a coordinate."""
        return {EccCurve.P256: 32, EccCurve.P384: 48, EccCurve.P521: 66}[self]


@dataclass(frozen=True, slots=True)
class SigningScheme:
    """The scheme and hash a key is bound to."""

    scheme: SignatureScheme
    hash: HashAlgorithm


@dataclass(frozen=True, slots=True)
class StorageCipher:
    """The symmetric cipher, in CFB mode, that a key protects its children with, and the bits of its keys."""

    name: str
    bits: int


@dataclass(frozen=True, slots=True)
class RsaKey:
    """An RSA public key; ``modulus`` is big-endian and has exactly ``bits`` bits."""

    bits: int
    exponent: int
    modulus: bytes


@dataclass(frozen=True, slots=True)
class EccKey:
    """An ECC public key; ``x`` and ``y`` are big-endian. Whether they are a point of the curve is not checked."""

    curve: EccCurve
    x: bytes
    y: bytes


@dataclass(frozen=True, slots=True)
class Public:
    """TPMT_PUBLIC of an RSA or ECC key.

    ``area`` is the structure as it was given. ``scheme`` is None for a key that signs with any scheme, and for one
    that does not sign. ``storage`` is the cipher for the key's children, None where it can have none.
    """

    area: bytes
    name_algorithm: HashAlgorithm
    attributes: ObjectAttributes
    auth_policy: bytes
    storage: StorageCipher | None
    scheme: SigningScheme | None
    key: RsaKey | EccKey

    @property
    def name(self) -> bytes:
        """The Name: the identifier of nameAlg, and its digest of the TPMT_PUBLIC.

        Raises MissingComponent if this machine cannot compute nameAlg.
        """
        return self.name_algorithm.tcg_id.to_bytes(2, "big") + self.name_algorithm.digest(self.area)

    def qualified_name(self, parent: "Public | None" = None) -> bytes:
        """The Qualified Name as a child of ``parent``, a primary key of the endorsement hierarchy, or as such a key.

        Part 1, section 16. Raises MissingComponent as :attr:`name`.
        """
        above = ENDORSEMENT_HIERARCHY if parent is None else parent.qualified_name()
        return self.name_algorithm.tcg_id.to_bytes(2, "big") + self.name_algorithm.digest(above + self.name)


def parse_public(data: bytes) -> Public:
    """The TPM2B_PUBLIC that ``data`` is, to the last byte. Raises MalformedInput."""
    cursor = Cursor(data, "TPM2B_PUBLIC")
    area = cursor.sized(MAX_PUBLIC_SIZE, "publicArea")
    cursor.end()
    return parse_public_area(area)


def parse_public_area(data: bytes) -> Public:
    """The TPMT_PUBLIC that ``data`` is, to the last byte.

    Raises MalformedInput, also for what is not an RSA or ECC key, for an algorithm or curve imarium does not know,
    for reserved attributes, and for a signing key with a symmetric cipher.
    """
    cursor = Cursor(data, "TPMT_PUBLIC")
    kind = cursor.u16("type")
    if kind not in _SCHEMES_OF_TYPE:
        raise cursor.fail("RSA or ECC as type", f"{kind:#06x}", at=0)
    name_algorithm = cursor.hash_algorithm("nameAlg")
    attributes = _attributes(cursor)
    policy = _auth_policy(cursor, name_algorithm)
    storage = _symmetric(cursor, attributes)
    scheme = _scheme(cursor, kind, attributes)
    key = _rsa(cursor) if kind == _RSA else _ecc(cursor, attributes)
    cursor.end()
    return Public(data, name_algorithm, attributes, policy, storage, scheme, key)


def _attributes(cursor: Cursor) -> ObjectAttributes:
    at = cursor.offset
    bits = cursor.u32("objectAttributes")
    if bits & ~_KNOWN_ATTRIBUTES:
        raise cursor.fail("reserved attributes to be zero", f"{bits & ~_KNOWN_ATTRIBUTES:#010x}", at=at)
    return ObjectAttributes(bits)


def _auth_policy(cursor: Cursor, algorithm: HashAlgorithm) -> bytes:
    at = cursor.offset
    policy = cursor.sized(_MAX_DIGEST, "authPolicy")
    if len(policy) not in (0, algorithm.size):
        raise cursor.fail(f"no authPolicy or {algorithm.size} bytes", f"{len(policy)} bytes", at=at)
    return policy


def _symmetric(cursor: Cursor, attributes: ObjectAttributes) -> StorageCipher | None:
    """A TPMT_SYM_DEF_OBJECT (section 11.1.7); None for TPM_ALG_NULL."""
    at = cursor.offset
    identifier = cursor.u16("symmetric")
    if identifier == _NULL:
        return None
    if attributes & ObjectAttributes.SIGN:
        raise cursor.fail("no symmetric cipher in a signing key", f"{identifier:#06x}", at=at)
    if identifier not in _BLOCK_CIPHERS:
        raise cursor.fail("AES, SM4 or CAMELLIA as symmetric", f"{identifier:#06x}", at=at)
    at = cursor.offset
    bits, mode = cursor.u16("symmetric keyBits"), cursor.u16("symmetric mode")
    if bits not in (128, 192, 256) or mode != _CFB:
        raise cursor.fail("128, 192 or 256 key bits in CFB mode", f"{bits}, mode {mode:#06x}", at=at)
    return StorageCipher(_BLOCK_CIPHERS[identifier], bits)


def _scheme(cursor: Cursor, kind: int, attributes: ObjectAttributes) -> SigningScheme | None:
    """A TPMT_RSA_SCHEME or TPMT_ECC_SCHEME (sections 11.2.4.2, 11.2.5.6), of which only signing is supported."""
    at = cursor.offset
    identifier = cursor.u16("scheme")
    if identifier == _NULL:
        return None
    allowed = _SCHEMES_OF_TYPE[kind]
    if identifier not in allowed or not attributes & ObjectAttributes.SIGN:
        expected = " or ".join(scheme.name for scheme in allowed)
        raise cursor.fail(f"no scheme, or {expected} in a signing key,", f"{identifier:#06x}", at=at)
    return SigningScheme(SignatureScheme(identifier), cursor.hash_algorithm("hash of the scheme"))


def _rsa(cursor: Cursor) -> RsaKey:
    """TPMS_RSA_PARMS from keyBits on, and the modulus (sections 12.2.3.5, 12.2.3.2)."""
    at = cursor.offset
    bits = cursor.u16("keyBits")
    if bits not in _RSA_BITS:
        raise cursor.fail("1024, 2048, 3072 or 4096 as keyBits", f"{bits}", at=at)
    at = cursor.offset
    exponent = cursor.u32("exponent") or DEFAULT_EXPONENT
    if exponent < 3 or exponent % 2 == 0:
        raise cursor.fail("0 or an odd exponent above 2", f"{exponent}", at=at)
    at = cursor.offset
    modulus = cursor.sized(MAX_RSA_BYTES, "unique")
    number = int.from_bytes(modulus, "big")
    if len(modulus) * 8 != bits or number.bit_length() != bits or number % 2 == 0:
        found = f"{number.bit_length()} bits in {len(modulus)} bytes"
        raise cursor.fail(f"an odd modulus of {bits} bits", found, at=at)
    return RsaKey(bits, exponent, modulus)


def _ecc(cursor: Cursor, attributes: ObjectAttributes) -> EccKey:
    """TPMS_ECC_PARMS from curveID on, and the point (sections 12.2.3.6, 12.2.3.2)."""
    at = cursor.offset
    identifier = cursor.u16("curveID")
    try:
        curve = EccCurve(identifier)
    except ValueError:
        raise cursor.fail("P-256, P-384 or P-521 as curveID", f"{identifier:#06x}", at=at) from None
    at = cursor.offset
    kdf = cursor.u16("kdf")
    if kdf != _NULL:
        if kdf not in _KDFS or attributes & ObjectAttributes.SIGN:
            raise cursor.fail("no key derivation in a signing key", f"{kdf:#06x}", at=at)
        cursor.hash_algorithm("hash of the kdf")
    return EccKey(curve, _coordinate(cursor, curve, "x"), _coordinate(cursor, curve, "y"))


def _coordinate(cursor: Cursor, curve: EccCurve, name: str) -> bytes:
    """Some TPMs leave leading zeros out, so a coordinate may be short."""
    at = cursor.offset
    value = cursor.sized(MAX_ECC_BYTES, name)
    if not 1 <= len(value) <= curve.size:
        raise cursor.fail(f"1 to {curve.size} bytes of {name}", f"{len(value)}", at=at)
    return value
