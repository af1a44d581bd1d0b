"""The claims of realm and platform tokens.

Realm Management Monitor specification (DEN0137), section A7.2.3; draft-ffm-rats-cca-token. A claim that is known must
have its type and size. Claims that are not known are kept as they are, and nothing is made of them.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

from imarium.errors import MalformedInput
from imarium.formats.cca.cbor import CborKey, CborValue
from imarium.formats.cca.registers import REMS, RemIndex
from imarium.hashes import SHA256, SHA384, SHA512, HashAlgorithm

__all__ = ["CHALLENGE_SIZE", "PlatformClaims", "RealmClaims", "SoftwareComponent", "platform_claims", "realm_claims"]

CHALLENGE_SIZE = 64
"""The bytes of a realm's challenge."""

MAX_COMPONENTS = 64
"""Most software components accepted."""

_HASHES = {"sha-256": SHA256, "sha-384": SHA384, "sha-512": SHA512}
_HASH_SIZES = (32, 48, 64)
_PERSONALIZATION_SIZE = 64
_IMPLEMENTATION_SIZE = 32
_INSTANCE_SIZE, _UEID_RAND = 33, 1

_T = TypeVar("_T", bytes, str, int)


@dataclass(frozen=True, slots=True)
class RealmClaims:
    """What the realm token says.

    ``challenge`` and ``personalization`` have 64 bytes. ``hash_algorithm`` is that of ``rim`` and of the four
    ``rems``. ``public_key`` is the realm's attestation key as the token writes it: an uncompressed point, a COSE_Key
    or a DER SubjectPublicKeyInfo; ``public_key_hash`` is the hash that the platform token binds it with.
    """

    challenge: bytes
    personalization: bytes
    hash_algorithm: HashAlgorithm
    public_key: bytes
    public_key_hash: HashAlgorithm
    rim: bytes
    rems: tuple[bytes, ...]
    profile: str | None
    unknown: Mapping[CborKey, CborValue]

    @property
    def registers(self) -> Mapping[RemIndex, bytes]:
        """The REMs by their index."""
        return {RemIndex(index): value for index, value in enumerate(self.rems)}


@dataclass(frozen=True, slots=True)
class SoftwareComponent:
    """One measured part of the platform. ``kind`` is its role, ``signer`` the hash of its signer's key."""

    kind: str | None
    measurement: bytes
    version: str | None
    signer: bytes
    hash_name: str | None
    unknown: Mapping[CborKey, CborValue]


@dataclass(frozen=True, slots=True)
class PlatformClaims:
    """What the platform token says.

    ``challenge`` is the hash of the realm's public key. ``instance`` is 0x01 and 32 bytes that name the platform's
    key. ``lifecycle`` has the state in its upper byte and the implementation's own bits in the lower one.
    """

    profile: str
    challenge: bytes
    implementation: bytes
    instance: bytes
    config: bytes
    lifecycle: int
    components: tuple[SoftwareComponent, ...]
    verification_service: str | None
    hash_name: str
    unknown: Mapping[CborKey, CborValue]

    @property
    def lifecycle_state(self) -> int:
        """The state: 0x30 is secured (section A7.2.3.2.6)."""
        return self.lifecycle >> 8


class _Claims:
    """Takes known claims out of a map; what is left is unknown."""

    def __init__(self, value: CborValue, what: str) -> None:
        self.what = what
        if not isinstance(value, dict):
            raise self.fail("a map of claims", value)
        self.left = dict(value)

    def fail(self, expected: str, found: CborValue) -> MalformedInput:
        return MalformedInput(self.what, offset=0, expected=expected, found=_describe(found))

    def optional(self, label: int, kind: type[_T], name: str) -> _T | None:
        if label not in self.left:
            return None
        value = self.left.pop(label)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.fail(f"claim {label} ({name}) to be {kind.__name__}", value)
        return value

    def required(self, label: int, kind: type[_T], name: str) -> _T:
        value = self.optional(label, kind, name)
        if value is None:
            raise MalformedInput(self.what, offset=0, expected=f"claim {label} ({name})", found="none")
        return value

    def octets(self, label: int, name: str, sizes: Collection[int]) -> bytes:
        value = self.required(label, bytes, name)
        if len(value) not in sizes:
            raise self.fail(f"claim {label} ({name}) of {' or '.join(map(str, sizes))} bytes", value)
        return value

    def items(self, label: int, name: str) -> list[CborValue]:
        value = self.left.pop(label, None)
        if not isinstance(value, list):
            raise self.fail(f"claim {label} ({name}) to be a list", value)
        return value

    def hash(self, label: int, name: str) -> HashAlgorithm:
        value = self.required(label, str, name)
        if value not in _HASHES:
            raise self.fail(f"claim {label} ({name}) to be {', '.join(_HASHES)}", value)
        return _HASHES[value]


def realm_claims(value: CborValue) -> RealmClaims:
    """The claims of a realm token's payload. Raises MalformedInput."""
    claims = _Claims(value, "CCA realm claims")
    algorithm = claims.hash(44236, "hash algorithm")
    sizes = (algorithm.size,)
    return RealmClaims(
        challenge=claims.octets(10, "challenge", (CHALLENGE_SIZE,)),
        personalization=claims.octets(44235, "personalization value", (_PERSONALIZATION_SIZE,)),
        hash_algorithm=algorithm,
        public_key=claims.required(44237, bytes, "public key"),
        public_key_hash=claims.hash(44240, "public key hash algorithm"),
        rim=claims.octets(44238, "initial measurement", sizes),
        rems=_rems(claims, algorithm.size),
        profile=claims.optional(265, str, "profile"),
        unknown=claims.left,
    )


def _rems(claims: _Claims, size: int) -> tuple[bytes, ...]:
    values = claims.items(44239, "extensible measurements")
    rems = tuple(value for value in values if isinstance(value, bytes) and len(value) == size)
    if len(values) != REMS or len(rems) != REMS:
        raise claims.fail(f"claim 44239 (extensible measurements) of {REMS} times {size} bytes", values)
    return rems


def platform_claims(value: CborValue) -> PlatformClaims:
    """The claims of a platform token's payload. Raises MalformedInput."""
    claims = _Claims(value, "CCA platform claims")
    instance = claims.octets(256, "instance ID", (_INSTANCE_SIZE,))
    if instance[0] != _UEID_RAND:
        raise claims.fail("claim 256 (instance ID) to start with 0x01", instance)
    lifecycle = claims.required(2395, int, "lifecycle")
    if not 0 <= lifecycle <= 0xFFFF:
        raise claims.fail("claim 2395 (lifecycle) of 16 bits", lifecycle)
    components = claims.items(2399, "software components")
    if not 1 <= len(components) <= MAX_COMPONENTS:
        raise claims.fail(f"claim 2399 (software components) of 1 to {MAX_COMPONENTS}", components)
    return PlatformClaims(
        profile=claims.required(265, str, "profile"),
        challenge=claims.octets(10, "challenge", _HASH_SIZES),
        implementation=claims.octets(2396, "implementation ID", (_IMPLEMENTATION_SIZE,)),
        instance=instance,
        config=claims.required(2401, bytes, "config"),
        lifecycle=lifecycle,
        components=tuple(map(_component, components)),
        verification_service=claims.optional(2400, str, "verification service"),
        hash_name=claims.required(2402, str, "hash algorithm"),
        unknown=claims.left,
    )


def _component(value: CborValue) -> SoftwareComponent:
    claims = _Claims(value, "CCA software component")
    return SoftwareComponent(
        kind=claims.optional(1, str, "type"),
        measurement=claims.octets(2, "measurement value", _HASH_SIZES),
        version=claims.optional(4, str, "version"),
        signer=claims.octets(5, "signer ID", _HASH_SIZES),
        hash_name=claims.optional(6, str, "hash algorithm"),
        unknown=claims.left,
    )


def _describe(value: CborValue) -> str:
    match value:
        case None:
            return "none"
        case bytes():
            return f"{len(value)} bytes"
        case list() | dict():
            return f"a {type(value).__name__} of {len(value)}"
        case _:
            return repr(value)[:40]
