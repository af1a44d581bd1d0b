"""CCA tokens made here, by keys that sign as the real ones do; their certificates, and what is said of the tokens."""

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from imarium.verifier.cca import CcaPolicy, CertifiedKey, check_cca

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NONCE = bytes(range(64))
ES = {"secp256r1": (-7, 32, hashes.SHA256()), "secp384r1": (-35, 48, hashes.SHA384())}
ES["secp521r1"] = (-36, 66, hashes.SHA512())
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def der(key: PrivateKey) -> bytes:
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def cose_key(key: ec.EllipticCurvePrivateKey, **more: Any) -> bytes:
    curve = {"secp256r1": 1, "secp384r1": 2, "secp521r1": 3}[key.curve.name]
    size = ES[key.curve.name][1]
    raw = point(key)[1:]
    return cbor2.dumps({1: 2, -1: curve, -2: raw[:size], -3: raw[size:]} | more)


def signature(key: PrivateKey, algorithm: int, message: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        scheme: padding.AsymmetricPadding = padding.PKCS1v15()
        if algorithm == -37:
            scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        return key.sign(message, scheme, hashes.SHA256())
    _, size, digest = ES[key.curve.name]
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(digest)))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def sign1(key: PrivateKey, payload: bytes, *, algorithm: int | None = None, unprotected: Any = None) -> bytes:
    """A tagged COSE_Sign1."""
    if algorithm is None:
        algorithm = -37 if isinstance(key, rsa.RSAPrivateKey) else ES[key.curve.name][0]
    protected = cbor2.dumps({1: algorithm})
    message = cbor2.dumps(["Signature1", protected, b"", payload])
    parts = [protected, unprotected or {}, payload, signature(key, algorithm, message)]
    return cbor2.dumps(cbor2.CBORTag(18, parts))


def realm_map(public_key: bytes, *, bits: int = 256, key_hash: str = "sha-256") -> dict[Any, Any]:
    size = bits // 8
    return {
        10: NONCE,
        44235: bytes(64),
        44236: f"sha-{bits}",
        44237: public_key,
        44238: b"\xaa" * size,
        44239: [bytes([index]) * size for index in range(1, 5)],
        44240: key_hash,
    }


def platform_map(challenge: bytes) -> dict[Any, Any]:
    return {
        265: "tag:arm.com,2023:cca_platform#1.0.0",
        10: challenge,
        2396: b"\x22" * 32,
        256: b"\x01" + b"\x33" * 32,
        2401: b"\xcf" * 4,
        2395: 0x3005,
        2402: "sha-256",
        2399: [{1: "RMM", 2: b"\x44" * 32, 4: "1.0", 5: b"\x55" * 32, 6: "sha-256"}],
    }


@dataclass
class Maker:
    """Makes tokens; change its parts before."""

    platform_key: PrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))
    realm_key: PrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))
    realm: dict[Any, Any] = field(default_factory=dict)
    platform: dict[Any, Any] | None = field(default_factory=dict)

    def __post_init__(self) -> None:
        claim = point(self.realm_key) if isinstance(self.realm_key, ec.EllipticCurvePrivateKey) else der(self.realm_key)
        self.realm = realm_map(claim) | self.realm
        if self.platform is not None:
            name = self.realm[44240].replace("-", "")
            self.platform = platform_map(hashlib.new(name, self.realm[44237]).digest()) | self.platform

    def parts(self, *, wrapped: bool = False, algorithm: int | None = None) -> dict[int, bytes]:
        payload = cbor2.dumps(self.realm)
        parts = {44241: sign1(self.realm_key, cbor2.dumps(payload) if wrapped else payload, algorithm=algorithm)}
        if self.platform is not None:
            parts[44234] = sign1(self.platform_key, cbor2.dumps(self.platform))
        return parts

    def token(self, *, wrapped: bool = False, algorithm: int | None = None) -> bytes:
        return collection(self.parts(wrapped=wrapped, algorithm=algorithm))


def collection(parts: Any) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(399, parts))


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(
    key: Any,
    subject: str,
    issuer_key: Any = None,
    issuer: str | None = None,
    *,
    ca: bool = False,
    path_length: int | None = None,
    extensions: tuple[x509.ExtensionType, ...] = (),
    critical: tuple[x509.ExtensionType, ...] = (),
    signs: bool = True,
    pss: bool = False,
    digest: hashes.SHA384 | hashes.SHA224 | None = None,
) -> bytes:
    """A certificate in DER, valid for a year around NOW; self-signed without ``issuer_key``."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer or subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=180))
        .not_valid_after(NOW + timedelta(days=180))
    )
    if ca:
        usage = x509.KeyUsage(True, False, False, False, False, signs, False, False, False)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        builder = builder.add_extension(usage, critical=True)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    for extension in critical:
        builder = builder.add_extension(extension, critical=True)
    scheme = padding.PSS(padding.MGF1(hashes.SHA384()), 48) if pss else None
    signed = builder.sign(issuer_key or key, digest or hashes.SHA384(), rsa_padding=scheme)
    return signed.public_bytes(serialization.Encoding.DER)


REALM, PLATFORM = 44241, 44234
ALONE = CcaPolicy(realm_alone=True)
RSA_KEY = rsa.generate_private_key(65537, 4096)
P521 = ec.generate_private_key(ec.SECP521R1())
ROOT, SUB = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())


def codes(token: bytes, anchor: Any, nonce: bytes = NONCE, policy: CcaPolicy | None = None) -> list[str]:
    """Of the reasons against a token, in order."""
    check = check_cca(token, anchor=anchor, nonce=nonce, policy=policy or CcaPolicy())
    assert check.good == (not check.reasons)
    assert all("\n" not in reason.detail for reason in check.reasons)
    return [reason.code for reason in check.reasons]


def certified(key: Any, **changes: Any) -> CertifiedKey:
    """A key under a chain of three."""
    root = certificate(ROOT, "root", ca=True)
    sub = certificate(SUB, "sub", ROOT, "root", ca=True, path_length=0)
    return replace(CertifiedKey(certificate(key, "aik", SUB, "sub"), (sub,), root, NOW), **changes)


CERTIFIED = certified(P521)
