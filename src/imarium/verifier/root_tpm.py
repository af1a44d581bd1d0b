"""A TPM 2.0 as the root of trust: its quote by a trusted AK. ``docs/tpm.md``."""

from dataclasses import dataclass
from functools import partial

from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.formats.roots import TpmPart
from imarium.formats.tpm import Public
from imarium.verifier.attested import Attested, Life, Request, by_register, check_strength
from imarium.verifier.damage import explain_signature
from imarium.verifier.pcr_aggregate import pcr_aggregate
from imarium.verifier.quote import check_quote
from imarium.verifier.reason import Reason
from imarium.verifier.signatures import SIGNATURE_INVALID

__all__ = ["RESETTABLE", "TpmTrust", "check_tpm"]

RESETTABLE = frozenset({PcrIndex(16), PcrIndex(23)})
"""PCRs any program can reset (TCG PC Client Platform TPM Profile, section 4.6.2): their values prove no history."""

_OTHER_KEY = frozenset({"ak_mismatch", "ak_malformed"})
"""Reasons to look no further at what a signature is over: the sender chose the key, and so what that would cost."""


@dataclass(frozen=True, slots=True)
class TpmTrust:
    """The attestation key that is trusted."""

    ak: Public


def check_tpm(root: TpmPart, trust: TpmTrust, request: Request) -> Attested | tuple[Reason, ...]:
    """The steps of :mod:`imarium.verifier.quote`; and one bank is stronger than SHA-1."""
    required = frozenset({IMA_PCR, *request.registers})
    quote = check_quote(
        root.quote,
        root.signature,
        root.ak,
        trusted_name=trust.ak.name,
        nonce=request.nonce,
        values=root.values,
        required=dict.fromkeys(root.values, tuple(sorted(required))),
    )
    reasons = list(quote.reasons)
    if not any(reason.code in _OTHER_KEY for reason in reasons):
        reasons = [_explained(root, reason) for reason in reasons]
    reasons += check_strength(root.values, IMA_PCR)
    if reasons or quote.attest is None:
        return tuple(reasons)
    clock = quote.attest.clock_info
    stranger = Reason("state_other_ak", "the state was left by another AK; verify this machine with its own state")
    return Attested(
        values=by_register(root.values),
        required=required,
        life=Life(root.kind, trust.ak.name, clock.reset_count, clock.clock, stranger),
        aggregate=partial(pcr_aggregate, root.values),
        resettable=RESETTABLE,
    )


def _explained(root: TpmPart, reason: Reason) -> Reason:
    """The reason, or a closer one where a signature does not verify and one bit explains it."""
    if reason.code != SIGNATURE_INVALID:
        return reason
    return explain_signature(root.ak, root.quote, root.signature) or reason
