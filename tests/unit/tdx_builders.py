"""TDX quotes and collateral made here: real ones, changed, and signed again by a platform of our own."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID
from tests.vectors import vector

from imarium.formats.tdx import TdxQuote, parse_tdx_quote

NOW = 1750377600
"""2025-06-20: within the validity of the recorded collateral."""

SGX_EXTENSION = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
_START, _END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)


@cache
def recorded() -> TdxQuote:
    """The quote of which there is collateral."""
    return parse_tdx_quote(vector("dcap-qvl/tdx_quote"))


@cache
def collateral() -> str:
    return vector("dcap-qvl/tdx_quote_collateral.json").decode()


def sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def new_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def patch(data: bytes, changes: dict[int, bytes]) -> bytes:
    changed = bytearray(data)
    for at, value in changes.items():
        changed[at : at + len(value)] = value
    return bytes(changed)


def pem(*chain: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain)


def name(common: str) -> x509.Name:
    country, organisation = (NameOID.COUNTRY_NAME, "US"), (NameOID.ORGANIZATION_NAME, "Intel Corporation")
    return x509.Name([x509.NameAttribute(*part) for part in ((NameOID.COMMON_NAME, common), organisation, country)])


def certificate(
    common: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    ca: bool,
    path_length: int | None = None,
    cert_sign: bool | None = None,
    end: datetime = _END,
    extra: tuple[tuple[x509.ExtensionType, bool], ...] = (),
) -> x509.Certificate:
    usage = x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca if cert_sign is None else cert_sign,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(common))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_START)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca, path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    for value, critical in extra:
        builder = builder.add_extension(value, critical)
    return builder.sign(issuer_key, hashes.SHA256())


def revocation_list(issuer: str, key: ec.EllipticCurvePrivateKey, *revoked: x509.Certificate) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name(issuer))
        .last_update(_START)
        .next_update(_END)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    for certificate_ in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(certificate_.serial_number).revocation_date(_START)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@dataclass
class Platform:
    """A platform whose keys and certificates are ours, with the recorded quote's TCB."""

    root_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    ca_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    pck_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    tcb_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    attestation_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)

    ROOT, CA, PCK, TCB = "Intel SGX Root CA", "Intel SGX PCK Platform CA", "Intel SGX PCK Certificate", "Intel SGX TCB"

    def __post_init__(self) -> None:
        real = x509.load_der_x509_certificate(recorded().pck_chain[0])
        tcb = real.extensions.get_extension_for_oid(SGX_EXTENSION).value
        self.sgx = ((tcb, False),)
        self.root = certificate(self.ROOT, self.root_key, self.ROOT, self.root_key, ca=True, path_length=1)
        self.ca = certificate(self.CA, self.ca_key, self.ROOT, self.root_key, ca=True, path_length=0)
        self.pck = certificate(self.PCK, self.pck_key, self.CA, self.ca_key, ca=False, extra=self.sgx)
        self.tcb = certificate(self.TCB, self.tcb_key, self.ROOT, self.root_key, ca=False)

    @property
    def root_der(self) -> bytes:
        return self.root.public_bytes(serialization.Encoding.DER)

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return (self.pck, self.ca, self.root)

    def quote(
        self,
        *,
        body: dict[int, bytes] | None = None,
        qe: dict[int, bytes] | None = None,
        chain: bytes | None = None,
        auth_data: bytes = b"\x5a" * 32,
        key: bytes | None = None,
    ) -> bytes:
        """The recorded quote, changed at offsets of the quote's body and the QE report, with all its signatures."""
        signed = patch(recorded().signed, body or {})
        attestation_key = point(self.attestation_key) if key is None else key
        binding = hashlib.sha256(attestation_key + auth_data).digest() + bytes(32)
        report = patch(recorded().qe_report.data, {320: binding, **(qe or {})})
        certificates = pem(*self.chain) if chain is None else chain
        inner = report + sign(self.pck_key, report) + len(auth_data).to_bytes(2, "little") + auth_data
        inner += (5).to_bytes(2, "little") + len(certificates).to_bytes(4, "little") + certificates
        data = sign(self.attestation_key, signed) + attestation_key
        data += (6).to_bytes(2, "little") + len(inner).to_bytes(4, "little") + inner
        return signed + len(data).to_bytes(4, "little") + data

    def collateral(self, *, status: str = "UpToDate", revoked: tuple[x509.Certificate, ...] = ()) -> str:
        """The recorded collateral, with ``status`` at each TCB level of the platform, signed by our keys."""
        document: dict[str, Any] = json.loads(collateral())
        tcb_info = json.loads(document["tcb_info"])
        for level in tcb_info["tcbLevels"]:
            level["tcbStatus"] = status
        document["tcb_info"] = json.dumps(tcb_info, separators=(",", ":"))
        for part in ("tcb_info", "qe_identity"):
            document[f"{part}_signature"] = sign(self.tcb_key, document[part].encode()).hex()
            document[f"{part}_issuer_chain"] = pem(self.tcb, self.root).decode()
        document["pck_crl_issuer_chain"] = pem(self.ca, self.root).decode()
        document["pck_crl"] = revocation_list(self.CA, self.ca_key, *revoked).hex()
        document["root_ca_crl"] = revocation_list(self.ROOT, self.root_key, *revoked).hex()
        return json.dumps(document)


EXPIRED = datetime.fromtimestamp(NOW, UTC) - timedelta(days=1)
