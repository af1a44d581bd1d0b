"""Checking a TDX quote.

The steps, in order. A step that fails gives reasons; the steps after it still run where they can, so that a verdict
names everything that is wrong.

1. Form: the quote parses. ``quote_malformed``.
2. The report data is the nonce. ``nonce_mismatch``.
3. The TD is closed to its host: no debug attribute, unless the caller allows it. ``td_debuggable``.
4. The TDX module under it is Intel's. ``tdx_module_untrusted``.
5. The attestation key signed header and body. ``signature_invalid``.
6. The report of the quoting enclave (QE) is about this key. ``attestation_key_unbound``.
7. The QE is Intel's for TDs, in production mode. ``qe_untrusted``.
8. The platform's PCK signed the QE's report. ``qe_signature_invalid``.
9. The PCK's certificates lead to the trusted root, at the given time. ``pck_chain_invalid``.
10. Collateral, which dcap-qvl checks together with the quote once more: nothing is revoked, platform, TDX module and
    QE have a known TCB level, and all is valid at the given time. ``collateral_malformed``, ``collateral_refused``.
11. The TCB status is an accepted one. ``tcb_status_unaccepted``.

:func:`check_tdx_quote` runs all of them. :func:`check_tdx_chain` ends with step 9: it cannot tell a revoked or
outdated platform, and its result is never ``good``.

Intel TDX DCAP Quoting Library API, appendix 3.
"""

import enum
import hmac
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from imarium.errors import MalformedInput, UsageError
from imarium.formats.tdx import REPORT_DATA_SIZE, RtmrIndex, TdAttributes, TdBody, TdxQuote, parse_tdx_quote
from imarium.verifier.reason import Reason
from imarium.verifier.tdx_chain import check_chain, root_fingerprint
from imarium.verifier.tdx_collateral import TcbStatus, check_collateral

__all__ = ["UP_TO_DATE", "TdxCheck", "TdxFacts", "TdxStatus", "check_tdx_chain", "check_tdx_quote"]

UP_TO_DATE = frozenset({"UpToDate"})
"""The TCB statuses accepted by default."""

_LAST_SECOND = 253402300799
"""The end of the year 9999: the last time a certificate can tell."""


class TdxStatus(enum.StrEnum):
    """How far a quote was proved."""

    VERIFIED = "verified"
    """Every step passed."""

    CHAIN_ONLY = "chain_only"
    """Steps 1 to 9 passed, and nothing more was asked for: a genuine TD, on a platform of unknown standing."""

    REFUSED = "refused"
    """A step failed."""


@dataclass(frozen=True, slots=True)
class TdxFacts:
    """What a quote proves: the registers of the TD, MRTD and its attributes, at the time of the nonce."""

    mrtd: bytes
    registers: Mapping[RtmrIndex, bytes]
    attributes: TdAttributes


@dataclass(frozen=True, slots=True)
class TdxCheck:
    """The outcome of a check.

    ``quote`` is what was parsed, a claim; None where that failed. ``facts`` are what was proved; None if the quote is
    refused. ``tcb`` is what the collateral says of the platform, as far as that was reached.
    """

    status: TdxStatus
    reasons: tuple[Reason, ...]
    quote: TdxQuote | None
    facts: TdxFacts | None
    tcb: TcbStatus | None

    @property
    def good(self) -> bool:
        """Whether every step passed, those with collateral included."""
        return self.status is TdxStatus.VERIFIED


def check_tdx_quote(
    quote: bytes,
    *,
    nonce: bytes,
    collateral: str,
    now: int,
    root_ca: bytes | None = None,
    accepted: Collection[str] = UP_TO_DATE,
    allow_debug: bool = False,
) -> TdxCheck:
    """Runs all the steps, offline.

    ``quote`` is a TDX quote of version 4 or 5, with or without zeros behind it. ``nonce`` is the expected report data,
    exactly 64 bytes. ``collateral`` is Intel's for this platform, as JSON in the form of dcap-qvl. ``now`` is in
    seconds of Unix time. ``root_ca`` is a certificate in DER; None is Intel's production root. ``accepted`` are TCB
    statuses by Intel's names. ``allow_debug`` skips step 3 only; dcap-qvl refuses such a TD all the same, in step 10.

    Never raises for what the quote or the collateral holds. Raises UsageError for a nonce of another size, a time
    out of range and a root that is no certificate, and MissingComponent without dcap-qvl.
    """
    parsed, reasons = _check_local(quote, nonce, now, root_ca, allow_debug=allow_debug)
    tcb: TcbStatus | None = None
    if parsed is not None:
        found = check_collateral(parsed.data, collateral, now=now, root_ca=root_ca)
        if isinstance(found, Reason):
            reasons.append(found)
        else:
            tcb = found
            reasons.extend(_check_status(tcb, accepted))
    proved = parsed is not None and tcb is not None and not reasons
    return _outcome(parsed, reasons, TdxStatus.VERIFIED if proved else TdxStatus.REFUSED, tcb)


def check_tdx_chain(
    quote: bytes, *, nonce: bytes, now: int, root_ca: bytes | None = None, allow_debug: bool = False
) -> TdxCheck:
    """Runs steps 1 to 9, with what the quote itself holds, for a verifier that has no collateral.

    The arguments and errors are those of :func:`check_tdx_quote`. The best status is ``CHAIN_ONLY``.
    """
    parsed, reasons = _check_local(quote, nonce, now, root_ca, allow_debug=allow_debug)
    proved = parsed is not None and not reasons
    return _outcome(parsed, reasons, TdxStatus.CHAIN_ONLY if proved else TdxStatus.REFUSED, None)


def _check_local(
    data: bytes, nonce: bytes, now: int, root_ca: bytes | None, *, allow_debug: bool
) -> tuple[TdxQuote | None, list[Reason]]:
    """Steps 1 to 9."""
    if len(nonce) != REPORT_DATA_SIZE:
        advice = "take a nonce of that size, or the SHA-512 digest of another one, on both sides"
        raise UsageError(f"the report data of a TDX quote has {REPORT_DATA_SIZE} bytes, not {len(nonce)}: {advice}")
    if not 0 <= now <= _LAST_SECOND:
        raise UsageError(f"{now} is not a time in seconds since 1970, up to the year 9999")
    root = root_fingerprint(root_ca)
    try:
        quote = parse_tdx_quote(data)
    except MalformedInput as error:
        return None, [Reason("quote_malformed", str(error))]
    reasons = list(_check_body(quote.body, nonce, allow_debug=allow_debug))
    reasons.extend(check_chain(quote, root=root, at=datetime.fromtimestamp(now, UTC)))
    return quote, reasons


def _check_body(body: TdBody, nonce: bytes, *, allow_debug: bool) -> Iterator[Reason]:
    """Steps 2 to 4."""
    if not hmac.compare_digest(body.report_data, nonce):
        yield Reason("nonce_mismatch", f"the report data is {body.report_data.hex()}, the nonce {nonce.hex()}")
    if body.td.attributes.debuggable and not allow_debug:
        detail = f"the TD is open to its host: ATTRIBUTES {int(body.td.attributes):#018x}"
        yield Reason("td_debuggable", detail)
    if any(body.mr_signer_seam) or body.seam_attributes:
        found = f"MRSIGNERSEAM {body.mr_signer_seam.hex()}, SEAMATTRIBUTES {body.seam_attributes:#018x}"
        yield Reason("tdx_module_untrusted", f"the TDX module is not Intel's: {found}")


def _check_status(tcb: TcbStatus, accepted: Collection[str]) -> Iterator[Reason]:
    """Step 11. An empty ``accepted`` accepts nothing."""
    if tcb.status not in accepted:
        advisories = f" ({', '.join(tcb.advisories)})" if tcb.advisories else ""
        listed = ", ".join(sorted(accepted)) or "none"
        yield Reason("tcb_status_unaccepted", f"the platform is {tcb.status}{advisories}; accepted: {listed}")


def _outcome(quote: TdxQuote | None, reasons: list[Reason], status: TdxStatus, tcb: TcbStatus | None) -> TdxCheck:
    facts = None
    if quote is not None and status is not TdxStatus.REFUSED:
        td = quote.body.td
        facts = TdxFacts(td.mrtd, td.registers, td.attributes)
    return TdxCheck(status, tuple(reasons), quote, facts, tcb)
