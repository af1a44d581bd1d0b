"""Checking a report of AMD SEV-SNP, and an SVSM's word for its vTPM.

The steps, in order. A step that fails gives reasons; the steps after it still run where they can, so that a verdict
names everything that is wrong.

1. Form: the report parses. ``snp_malformed``.
2. The certificates: the chain is good, up to the trusted root, at the given time; the leaf is on P-384 and has AMD's
   extensions. ``certificate_invalid``.
3. The leaf is of the kind of key that the report names. ``report_unsigned``, ``signing_key_mismatch``.
4. The signature is the leaf's. ``signature_invalid``.
5. The leaf is for this chip, or this provider, and for the firmware that the report names. ``chip_mismatch``,
   ``csp_mismatch``, ``tcb_mismatch``.
6. Firmware and guest are as the policy wants them. ``tcb_too_old``, ``debug_allowed``, ``migration_allowed``,
   ``vmpl_mismatch``, ``measurement_unknown``.
7. The report's data is what is expected. ``report_data_mismatch``.

For a vTPM, before that:

a. The service is the vTPM, and the nonce has 64 bytes. ``service_mismatch``, ``nonce_size_mismatch``.
b. The manifest has the size of the expected kind of endorsement key, and is one: restricted, decrypting, not signing,
   bound to its TPM and parent. ``manifest_size_mismatch``, ``manifest_malformed``, ``ek_unsuitable``.

SEV Secure Nested Paging Firmware ABI specification (AMD 56860), section 7.3; AMD 57230; AMD 58019.
"""

import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from imarium.errors import MalformedInput
from imarium.formats.snp import (
    AMD_ARC,
    NONCE_SIZE,
    RSA_2048_EK_SIZE,
    VTPM_SERVICE,
    GuestPolicy,
    KeyCertificate,
    SigningKey,
    SnpReport,
    TcbVersion,
    parse_key_extensions,
    parse_snp_report,
    parse_vtpm_manifest,
    svsm_report_data,
)
from imarium.formats.tpm import Public
from imarium.verifier.certificates import CertifiedKey, open_chain
from imarium.verifier.challenge import is_endorsement_key
from imarium.verifier.reason import Reason

__all__ = [
    "MEASUREMENT_SIZE",
    "CertifiedKey",
    "SnpCheck",
    "SnpPolicy",
    "SvsmEvidence",
    "VtpmCheck",
    "check_snp",
    "check_svsm_vtpm",
]

MEASUREMENT_SIZE = 48
"""The bytes of a launch measurement."""


@dataclass(frozen=True, slots=True)
class SnpPolicy:
    """What is accepted beyond a good signature.

    ``measurements`` are the launch digests, 48 bytes each, of what may run; with none, nothing passes. ``vmpl`` is
    the privilege level that asked for the report: 0 for an SVSM, and for a guest without one. ``minimum_tcb`` is
    compared with the reported version, part by part. ``csp_id`` is the provider a VLEK must be of; None takes any.
    """

    measurements: frozenset[bytes]
    vmpl: int = 0
    minimum_tcb: TcbVersion | None = None
    csp_id: str | None = None
    allow_debug: bool = False
    allow_migration: bool = False


@dataclass(frozen=True, slots=True)
class SnpCheck:
    """The outcome of :func:`check_snp`. ``report`` is None if it did not parse, and a fact only if ``good``."""

    reasons: tuple[Reason, ...]
    report: SnpReport | None

    @property
    def good(self) -> bool:
        """Whether every step passed."""
        return not self.reasons


@dataclass(frozen=True, slots=True)
class SvsmEvidence:
    """What configfs-tsm gives for a service of an SVSM: ``outblob``, ``manifestblob``, and what it was asked for."""

    report: bytes
    manifest: bytes
    manifest_version: int
    service: UUID


@dataclass(frozen=True, slots=True)
class VtpmCheck:
    """The outcome of :func:`check_svsm_vtpm`. ``ek`` is the vTPM's endorsement key; facts only if ``good``."""

    reasons: tuple[Reason, ...]
    report: SnpReport | None
    ek: Public | None

    @property
    def good(self) -> bool:
        """Whether every step passed."""
        return not self.reasons


def check_snp(report: bytes, *, certificates: CertifiedKey, report_data: bytes, policy: SnpPolicy) -> SnpCheck:
    """Runs the numbered steps; never raises for what it is given as a report or as certificates.

    ``certificates`` are the VCEK or VLEK, the ASK or ASVK that issued it, and the ARK, which is trusted.
    ``report_data`` is all 64 bytes of it. Raises UsageError for a time without a time zone.
    """
    reasons: list[Reason] = []
    try:
        parsed = parse_snp_report(report)
    except MalformedInput as error:
        reasons.append(Reason("snp_malformed", str(error)))
        parsed = None
    leaf, faults = open_chain(certificates)
    reasons.extend(Reason("certificate_invalid", fault) for fault in faults)
    key, named = _leaf(leaf, reasons) if leaf is not None else (None, None)
    if parsed is None:
        return SnpCheck(tuple(reasons), None)
    if named is not None:
        reasons.extend(_check_kind(parsed, named))
    if key is not None:
        reasons.extend(_check_signature(parsed, key))
    if named is not None:
        reasons.extend(_check_named(parsed, named, policy))
    reasons.extend(_check_policy(parsed, policy))
    if not hmac.compare_digest(parsed.report_data, report_data):
        detail = f"the report's data is {parsed.report_data.hex()}, expected is {report_data.hex() or 'nothing'}"
        reasons.append(Reason("report_data_mismatch", detail))
    return SnpCheck(tuple(reasons), parsed)


def check_svsm_vtpm(
    evidence: SvsmEvidence,
    *,
    certificates: CertifiedKey,
    nonce: bytes,
    policy: SnpPolicy,
    ek_size: int = RSA_2048_EK_SIZE,
) -> VtpmCheck:
    """Whether an SVSM vouches for the endorsement key in its manifest; ``nonce`` is what it was asked with.

    ``ek_size`` is the size of the manifest, and so of the endorsement key, that an SVSM with these measurements makes.
    Nothing in the report tells where the nonce ends and the manifest starts. A guest that asks with a longer nonce
    has what it added taken for the start of a longer manifest; at the one right size there is nothing to add.
    """
    reasons: list[Reason] = []
    if evidence.service != VTPM_SERVICE:
        reasons.append(Reason("service_mismatch", f"the service is {evidence.service}, the vTPM is {VTPM_SERVICE}"))
    if len(nonce) != NONCE_SIZE:
        reasons.append(Reason("nonce_size_mismatch", f"the nonce has {len(nonce)} bytes, it must have {NONCE_SIZE}"))
    if len(evidence.manifest) != ek_size:
        detail = f"the manifest has {len(evidence.manifest)} bytes, the expected endorsement key has {ek_size}"
        reasons.append(Reason("manifest_size_mismatch", detail))
    ek = _endorsement_key(evidence, reasons)
    data = svsm_report_data(nonce, evidence.manifest)
    check = check_snp(evidence.report, certificates=certificates, report_data=data, policy=policy)
    return VtpmCheck((*reasons, *check.reasons), check.report, ek)


def _endorsement_key(evidence: SvsmEvidence, reasons: list[Reason]) -> Public | None:
    """Step b."""
    try:
        ek = parse_vtpm_manifest(evidence.manifest, evidence.manifest_version)
    except MalformedInput as error:
        reasons.append(Reason("manifest_malformed", str(error)))
        return None
    if not is_endorsement_key(ek):
        detail = f"the key's attributes {int(ek.attributes):#010x} are not those of an endorsement key"
        reasons.append(Reason("ek_unsuitable", detail))
    return ek


def _leaf(
    leaf: x509.Certificate, reasons: list[Reason]
) -> tuple[ec.EllipticCurvePublicKey | None, KeyCertificate | None]:
    """Step 2, the leaf."""
    public = leaf.public_key()
    key = public if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP384R1) else None
    if key is None:
        reasons.append(Reason("certificate_invalid", "the certificate's key is not on P-384"))
    extensions = {
        extension.oid.dotted_string.removeprefix(AMD_ARC): extension.value.value
        for extension in leaf.extensions
        if extension.oid.dotted_string.startswith(AMD_ARC) and isinstance(extension.value, x509.UnrecognizedExtension)
    }
    try:
        return key, parse_key_extensions(extensions)
    except MalformedInput as error:
        reasons.append(Reason("certificate_invalid", str(error)))
        return key, None


def _check_kind(report: SnpReport, named: KeyCertificate) -> Iterator[Reason]:
    """Step 3."""
    if report.signing_key is SigningKey.NONE:
        yield Reason("report_unsigned", "the report says that no key signed it")
        return
    kind = SigningKey.VCEK if named.hardware_id is not None else SigningKey.VLEK
    if kind is not report.signing_key or (named.hardware_id is None) == (named.csp_id is None):
        detail = f"the report is signed by a {report.signing_key.name}, the certificate is not of one"
        yield Reason("signing_key_mismatch", detail)


def _check_signature(report: SnpReport, key: ec.EllipticCurvePublicKey) -> Iterator[Reason]:
    """Step 4."""
    try:
        key.verify(encode_dss_signature(report.r, report.s), report.signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        yield Reason("signature_invalid", "the signature is not this key's over this report")


def _check_named(report: SnpReport, named: KeyCertificate, policy: SnpPolicy) -> Iterator[Reason]:
    """Step 5."""
    if named.hardware_id is not None:
        chip = named.hardware_id.ljust(len(report.chip_id), b"\0")
        if chip != report.chip_id or not any(report.chip_id):
            found = report.chip_id.hex() if any(report.chip_id) else "masked"
            yield Reason("chip_mismatch", f"the report's chip is {found}, the certificate's {named.hardware_id.hex()}")
    if policy.csp_id is not None and named.csp_id != policy.csp_id:
        detail = f"the certificate's provider is {named.csp_id!r}, accepted is {policy.csp_id!r}"
        yield Reason("csp_mismatch", detail)
    if named.tcb != report.reported_tcb:
        yield Reason("tcb_mismatch", f"the report is for {report.reported_tcb}, the certificate for {named.tcb}")


def _check_policy(report: SnpReport, policy: SnpPolicy) -> Iterator[Reason]:
    """Step 6."""
    if policy.minimum_tcb is not None and not report.reported_tcb.at_least(policy.minimum_tcb):
        yield Reason("tcb_too_old", f"the firmware is {report.reported_tcb}, wanted is {policy.minimum_tcb} or later")
    if report.policy & GuestPolicy.DEBUG and not policy.allow_debug:
        yield Reason("debug_allowed", "the guest's policy lets the host read its memory for debugging")
    if report.policy & GuestPolicy.MIGRATE_MA and not policy.allow_migration:
        yield Reason("migration_allowed", "the guest's policy lets a migration agent move it to other hosts")
    if report.vmpl != policy.vmpl:
        yield Reason("vmpl_mismatch", f"the report was asked for at VMPL {report.vmpl}, expected is {policy.vmpl}")
    if report.measurement not in policy.measurements:
        yield Reason("measurement_unknown", f"the launch measurement {report.measurement.hex()} is not a known one")
