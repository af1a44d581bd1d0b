"""Checking a CCA token: Arm CCA, and Huawei VirtCCA in its new and its old form.

The steps, in order. A step that fails gives reasons; the steps after it still run where they can, so that a verdict
names everything that is wrong.

1. Form: the token parses, to the last byte. ``cca_malformed``.
2. The anchor: where the trusted key comes in a certificate, its chain is good at the given time.
   ``certificate_invalid``.
3. The realm token is signed by the key it names. ``realm_key_malformed``, ``realm_signature_invalid``.
4. The platform token is there and signed by the trusted key. ``platform_missing``, ``platform_signature_invalid``.
5. The platform token's challenge is the hash of the realm's public key. ``binding_mismatch``.
   In the old form, which must be allowed, the realm's key is itself the trusted one. ``realm_key_mismatch``.
6. The platform's profile is known, and it is in an accepted state. ``platform_profile_unknown``,
   ``platform_not_secured``.
7. The realm's challenge is the nonce: 64 bytes, never padded or cut. ``nonce_mismatch``.

Realm Management Monitor specification (DEN0137), section A7.2.
"""

import hmac
from collections.abc import Iterator
from dataclasses import dataclass

from imarium.errors import MalformedInput
from imarium.formats.cca import CHALLENGE_SIZE, CcaToken, CoseAlgorithm, PlatformToken, RealmToken, parse_cca_token
from imarium.verifier.certificates import CertifiedKey, open_chain
from imarium.verifier.cose import accepted_key, load_public_key, sign1_fault, token_key
from imarium.verifier.reason import Reason
from imarium.verifier.signatures import VerificationKey

__all__ = ["SECURED", "CcaAnchor", "CcaCheck", "CcaPolicy", "CertifiedKey", "check_cca", "load_public_key"]

SECURED = 0x30
"""The lifecycle state of a platform on which nothing is being debugged."""

_PROFILES = frozenset({"http://arm.com/CCA-SSD/1.0.0", "tag:arm.com,2023:cca_platform#1.0.0"})
_RSA_ALGORITHMS = frozenset({CoseAlgorithm.PS256, CoseAlgorithm.RS256})


CcaAnchor = VerificationKey | CertifiedKey
"""What is trusted: the platform's key (CPAK, or VirtCCA's AIK) as it is, or by its certificate."""


@dataclass(frozen=True, slots=True)
class CcaPolicy:
    """What is accepted beyond good signatures.

    ``profiles`` are those of the platform token, ``lifecycle_states`` the upper bytes of its lifecycle claim.
    ``realm_alone`` accepts the old form of VirtCCA: no platform token, and an RSA key that is the realm's own.
    """

    profiles: frozenset[str] = _PROFILES
    lifecycle_states: frozenset[int] = frozenset({SECURED})
    realm_alone: bool = False


@dataclass(frozen=True, slots=True)
class CcaCheck:
    """The outcome of :func:`check_cca`.

    ``token`` is what was parsed, None where that failed. Its claims are facts only if ``good``; unknown claims and
    unprotected headers never are.
    """

    reasons: tuple[Reason, ...]
    token: CcaToken | None

    @property
    def good(self) -> bool:
        """Whether every step passed."""
        return not self.reasons


_DEFAULT_POLICY = CcaPolicy()


def check_cca(token: bytes, *, anchor: CcaAnchor, nonce: bytes, policy: CcaPolicy = _DEFAULT_POLICY) -> CcaCheck:
    """Runs all the steps; never raises for what it is given as a token or as certificates.

    ``token`` is the collection as the realm got it, ``nonce`` the 64 bytes it was asked with. Raises UsageError for
    an anchor whose time has no time zone.
    """
    reasons: list[Reason] = []
    trusted = _anchor_key(anchor, reasons)
    try:
        parsed = parse_cca_token(token)
    except MalformedInput as error:
        reasons.insert(0, Reason("cca_malformed", str(error)))
        return CcaCheck(tuple(reasons), None)
    realm_key = _realm_key(parsed.realm, reasons)
    alone = parsed.platform is None and policy.realm_alone
    if realm_key is not None:
        reasons.extend(_check_realm(parsed.realm, realm_key, rsa_key=alone))
    if parsed.platform is not None:
        reasons.extend(_check_platform(parsed.platform, trusted))
        reasons.extend(_check_binding(parsed.platform, parsed.realm))
        reasons.extend(_check_state(parsed.platform, policy))
    elif not alone:
        reasons.append(Reason("platform_missing", "the token has no platform token: nothing vouches for the realm"))
    elif realm_key is not None and (trusted is None or realm_key != trusted):
        reasons.append(Reason("realm_key_mismatch", "the realm's key is not the trusted one"))
    reasons.extend(_check_nonce(parsed.realm, nonce))
    return CcaCheck(tuple(reasons), parsed)


def _anchor_key(anchor: CcaAnchor, reasons: list[Reason]) -> VerificationKey | None:
    """Step 2: the trusted key, or None and reasons."""
    if not isinstance(anchor, CertifiedKey):
        return anchor
    leaf, faults = open_chain(anchor)
    reasons.extend(Reason("certificate_invalid", fault) for fault in faults)
    if leaf is None:
        return None
    try:
        return accepted_key(leaf.public_key())
    except MalformedInput as error:
        reasons.append(Reason("certificate_invalid", str(error)))
        return None


def _realm_key(realm: RealmToken, reasons: list[Reason]) -> VerificationKey | None:
    """Step 3, the key."""
    try:
        return token_key(realm.claims.public_key)
    except MalformedInput as error:
        reasons.append(Reason("realm_key_malformed", str(error)))
        return None


def _check_realm(realm: RealmToken, key: VerificationKey, *, rsa_key: bool) -> Iterator[Reason]:
    """Step 3, the signature."""
    if rsa_key != (realm.envelope.algorithm in _RSA_ALGORITHMS):
        wanted = "RSA in this form" if rsa_key else "ECDSA beside a platform token"
        detail = f"the realm token is signed with {realm.envelope.algorithm.name}, it must be {wanted}"
        yield Reason("realm_signature_invalid", detail)
        return
    fault = sign1_fault(key, realm.envelope)
    if fault is not None:
        yield Reason("realm_signature_invalid", fault)


def _check_platform(platform: PlatformToken, key: VerificationKey | None) -> Iterator[Reason]:
    """Step 4."""
    if platform.envelope.algorithm in _RSA_ALGORITHMS:
        detail = f"the platform token is signed with {platform.envelope.algorithm.name}, it must be ECDSA"
        yield Reason("platform_signature_invalid", detail)
        return
    fault = "there is no trusted key to check it with" if key is None else sign1_fault(key, platform.envelope)
    if fault is not None:
        yield Reason("platform_signature_invalid", fault)


def _check_binding(platform: PlatformToken, realm: RealmToken) -> Iterator[Reason]:
    """Step 5."""
    digest = realm.claims.public_key_hash.digest(realm.claims.public_key)
    if not hmac.compare_digest(digest, platform.claims.challenge):
        found = platform.claims.challenge.hex()
        yield Reason("binding_mismatch", f"the realm's key hashes to {digest.hex()}, the platform vouches for {found}")


def _check_state(platform: PlatformToken, policy: CcaPolicy) -> Iterator[Reason]:
    """Step 6."""
    claims = platform.claims
    if claims.profile not in policy.profiles:
        detail = f"the platform token is of profile {claims.profile[:80]!r}, which is not accepted"
        yield Reason("platform_profile_unknown", detail)
    if claims.lifecycle_state not in policy.lifecycle_states:
        accepted = ", ".join(f"{state:#04x}" for state in sorted(policy.lifecycle_states))
        detail = f"the platform's lifecycle state is {claims.lifecycle_state:#04x}, accepted: {accepted or 'none'}"
        yield Reason("platform_not_secured", detail)


def _check_nonce(realm: RealmToken, nonce: bytes) -> Iterator[Reason]:
    """Step 7."""
    if len(nonce) != CHALLENGE_SIZE:
        yield Reason("nonce_mismatch", f"the nonce has {len(nonce)} bytes, a realm's challenge {CHALLENGE_SIZE}")
    elif not hmac.compare_digest(realm.claims.challenge, nonce):
        detail = f"the challenge is {realm.claims.challenge.hex()}, the nonce {nonce.hex()}"
        yield Reason("nonce_mismatch", detail)
