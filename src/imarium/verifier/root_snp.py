"""A guest of SEV-SNP as the root of trust: its SVSM's vTPM, and the report that vouches for it. ``docs/snp.md``."""

from dataclasses import dataclass, replace
from datetime import datetime

from imarium.errors import MalformedInput, MissingComponent
from imarium.formats.report_data import report_data
from imarium.formats.roots import SnpPart
from imarium.formats.snp import (
    RSA_2048_EK_SIZE,
    VTPM_SERVICE,
    SigningKey,
    parse_certificate_table,
    parse_snp_report,
)
from imarium.formats.tpm import Public, parse_attest, parse_public
from imarium.verifier.attested import Attested, Request
from imarium.verifier.certificates import CertifiedKey
from imarium.verifier.reason import Reason
from imarium.verifier.root_tpm import TpmTrust, check_tpm
from imarium.verifier.snp import SnpPolicy, SvsmEvidence, check_svsm_vtpm

__all__ = ["SnpTrust", "check_snp_root"]


@dataclass(frozen=True, slots=True)
class SnpTrust:
    """What is trusted and accepted of an SNP guest.

    ``root`` is AMD's root (ARK), ``issuer`` what it issued (ASK or ASVK) and ``leaf`` the certificate of the chip's key
    (VCEK) or the provider's (VLEK), all in DER; what is None is taken from the host's table in the evidence. They must
    be valid at ``at``, which has a time zone. ``ak`` is the attestation key, proved to be a child of the endorsement
    key ``ek`` (by a challenge, see docs/tpm.md). Without ``ek``, the key that the quote names as the AK's parent must
    be the report's. ``ek_size`` is the size of the endorsement keys of such SVSMs, in bytes.
    """

    ak: Public
    root: bytes
    at: datetime
    policy: SnpPolicy
    issuer: bytes | None = None
    leaf: bytes | None = None
    ek: Public | None = None
    ek_size: int = RSA_2048_EK_SIZE


def check_snp_root(root: SnpPart, trust: SnpTrust, request: Request) -> Attested | tuple[Reason, ...]:
    """Report and quote over the SHA-512 digest of the nonce, and that they are of one TPM.

    The steps are those of :mod:`imarium.verifier.snp` and of :mod:`imarium.verifier.quote`; then the AK is a child of
    the endorsement key that the report vouches for. Raises UsageError for a time without a time zone.
    """
    bound = report_data(request.nonce)
    certificates = _certificates(root, trust)
    if isinstance(certificates, Reason):
        return (certificates,)
    vtpm = check_svsm_vtpm(
        SvsmEvidence(root.report, root.manifest, 0, VTPM_SERVICE),
        certificates=certificates,
        nonce=bound,
        policy=trust.policy,
        ek_size=trust.ek_size if trust.ek is None else len(trust.ek.area),
    )
    quoted = check_tpm(root.tpm, TpmTrust(trust.ak), replace(request, nonce=bound))
    reasons = list(vtpm.reasons)
    if vtpm.ek is not None:
        reasons += _check_parent(root, trust, vtpm.ek)
    if not isinstance(quoted, Attested):
        return (*reasons, *quoted)
    if reasons or vtpm.ek is None:
        return tuple(reasons)
    return replace(quoted, life=replace(quoted.life, kind=root.kind))


def _certificates(root: SnpPart, trust: SnpTrust) -> CertifiedKey | Reason:
    """The chain to check: what is given, completed from the host's table."""
    leaf, issuer = trust.leaf, trust.issuer
    if leaf is None or issuer is None:
        try:
            kind = parse_snp_report(root.report).signing_key
        except MalformedInput as error:
            return Reason("snp_malformed", str(error))
        try:
            table = parse_certificate_table(root.certificates)
        except MalformedInput as error:
            return Reason("certificate_table_malformed", str(error))
        leaf = leaf or (table.vlek if kind is SigningKey.VLEK else table.vcek)
        issuer = issuer or table.issuer
        if leaf is None or issuer is None:
            what = f"the {kind.name}" if leaf is None else "what issued it (ASK or ASVK)"
            return Reason("certificate_missing", f"the host gave no certificate of {what}: give one")
    return CertifiedKey(leaf, (issuer,), trust.root, trust.at)


def _check_parent(root: SnpPart, trust: SnpTrust, ek: Public) -> list[Reason]:
    """The report's endorsement key is the one the AK was proved a child of; the quote names it as the AK's parent."""
    if trust.ek is not None and trust.ek.area != ek.area:
        detail = f"the report vouches for the endorsement key {ek.name.hex()}, expected is {trust.ek.name.hex()}"
        return [Reason("ek_mismatch", detail)]
    try:
        signer = parse_attest(root.tpm.quote).qualified_signer
        expected = parse_public(root.tpm.ak).qualified_name(ek)
    except (MalformedInput, MissingComponent):
        return []  # the steps of the quote say so
    if signer != expected:
        return [Reason("ak_not_of_vtpm", "the AK is not a child of the endorsement key that the report vouches for")]
    return []
