"""Checking a TPM quote.

The steps, in order. A step that fails gives reasons; the steps after it still run where they can, so that a verdict
names everything that is wrong.

1. Form: the quote, the signature and the AK parse. ``quote_malformed``, ``signature_malformed``, ``ak_malformed``.
2. The AK is a key that signs only what its own TPM made: restricted, signing, bound to its TPM, not decrypting.
   ``ak_not_restricted``, ``ak_not_signing``, ``ak_not_fixed_tpm``, ``ak_decrypts``.
3. The AK is the trusted one: the Names are equal. ``ak_mismatch``.
4. The signature is the AK's, in the AK's scheme, over the quote's bytes. ``signature_invalid``.
5. A TPM made the statement, and it is a quote. ``quote_not_tpm_generated``, ``quote_wrong_type``.
6. The qualifying data is the nonce. ``nonce_mismatch``.
7. The selection holds the required PCRs, and the values given are those of the selection. ``selection_mismatch``.
8. The values hash to the quote's digest. ``values_mismatch``.

TPM 2.0 Library specification, Part 2, section 10.12; Part 3, section 18.4.
"""

import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from imarium.errors import MalformedInput, MissingComponent
from imarium.formats.tpm import (
    ATTEST_QUOTE,
    TPM_GENERATED,
    Attest,
    ObjectAttributes,
    PcrSelection,
    PcrValues,
    Public,
    QuoteInfo,
    Signature,
    parse_attest,
    parse_public,
    parse_signature,
    pcr_digest,
)
from imarium.verifier.reason import Reason
from imarium.verifier.signatures import VerificationKey, verification_key, verify_signature

__all__ = ["QuoteCheck", "VerificationKey", "check_quote", "check_values", "verification_key", "verify_signature"]

_Given = TypeVar("_Given")
_Parsed = TypeVar("_Parsed")

_REQUIRED_ATTRIBUTES = (
    (ObjectAttributes.RESTRICTED, "ak_not_restricted", "the AK is not restricted: it signs anything it is given"),
    (ObjectAttributes.SIGN, "ak_not_signing", "the AK is not a signing key"),
    (ObjectAttributes.FIXED_TPM, "ak_not_fixed_tpm", "the AK is not bound to one TPM: it can have copies"),
)


@dataclass(frozen=True, slots=True)
class QuoteCheck:
    """The outcome of :func:`check_quote`.

    ``attest`` and ``ak`` are what was parsed, None where that failed. They are facts only if ``good``.
    """

    reasons: tuple[Reason, ...]
    attest: Attest | None
    ak: Public | None

    @property
    def good(self) -> bool:
        """Whether every step passed."""
        return not self.reasons


def check_quote(
    attest: bytes,
    signature: bytes,
    ak: bytes,
    *,
    trusted_name: bytes,
    nonce: bytes,
    values: PcrValues,
    required: PcrSelection,
) -> QuoteCheck:
    """Runs all the steps; never raises for what it is given.

    ``attest`` is a TPMS_ATTEST, ``signature`` a TPMT_SIGNATURE, ``ak`` a TPM2B_PUBLIC. ``trusted_name`` is the Name
    of the AK the caller trusts. ``values`` are the PCR values that came with the quote. ``required`` are the PCRs
    the quote must cover; more may be there, and the order of its banks does not matter.
    """
    reasons: list[Reason] = []
    statement = _parse(parse_attest, attest, "quote_malformed", reasons)
    signed = _parse(parse_signature, signature, "signature_malformed", reasons)
    public = _parse(parse_public, ak, "ak_malformed", reasons)
    key = _parse(verification_key, public, "ak_malformed", reasons) if public is not None else None
    if public is not None:
        reasons.extend(_check_attributes(public))
        reasons.extend(_check_name(public, trusted_name))
        if signed is not None and key is not None:
            reasons.extend(_check_signature(public, key, attest, signed))
    if statement is not None:
        reasons.extend(_check_statement(statement, nonce))
        if statement.quote is not None:
            reasons.extend(_check_selection(statement.quote.selection, values, required))
            if signed is not None:
                reasons.extend(check_values(statement.quote, signed, values))
    return QuoteCheck(tuple(reasons), statement, public)


def check_values(quote: QuoteInfo, signature: Signature, values: PcrValues) -> Iterator[Reason]:
    """Step 8 alone: the values hash, with the signature's hash, to the quote's digest."""
    try:
        digest = pcr_digest(quote.selection, values, signature.hash)
    except (MalformedInput, MissingComponent) as error:
        yield Reason("values_mismatch", f"the quote's digest cannot be computed: {error}")
        return
    if digest != quote.pcr_digest:
        detail = f"the PCR values hash to {digest.hex()}, the quote says {quote.pcr_digest.hex()}"
        yield Reason("values_mismatch", detail)


def _parse(parse: Callable[[_Given], _Parsed], data: _Given, code: str, reasons: list[Reason]) -> _Parsed | None:
    """Step 1: the value, or None and a reason."""
    try:
        return parse(data)
    except MalformedInput as error:
        reasons.append(Reason(code, str(error)))
        return None


def _check_attributes(ak: Public) -> Iterator[Reason]:
    """Step 2."""
    for attribute, code, detail in _REQUIRED_ATTRIBUTES:
        if not ak.attributes & attribute:
            yield Reason(code, detail)
    if ak.attributes & ObjectAttributes.DECRYPT:
        yield Reason("ak_decrypts", "the AK also decrypts")


def _check_name(ak: Public, trusted_name: bytes) -> Iterator[Reason]:
    """Step 3."""
    try:
        name = ak.name
    except MissingComponent as error:
        yield Reason("ak_mismatch", f"the AK's Name cannot be computed: {error}")
        return
    if not hmac.compare_digest(name, trusted_name):
        yield Reason("ak_mismatch", f"the AK's Name is {name.hex()}, the trusted one's is {trusted_name.hex()}")


def _check_signature(ak: Public, key: VerificationKey, message: bytes, signature: Signature) -> Iterator[Reason]:
    """Step 4."""
    bound = ak.scheme
    if bound is not None and (bound.scheme, bound.hash) != (signature.scheme, signature.hash):
        found = f"{signature.scheme.name} with {signature.hash.name}"
        expected = f"{bound.scheme.name} with {bound.hash.name}"
        yield Reason("signature_invalid", f"the signature is {found}, the AK signs {expected}")
        return
    reason = verify_signature(key, message, signature)
    if reason is not None:
        yield reason


def _check_statement(attest: Attest, nonce: bytes) -> Iterator[Reason]:
    """Steps 5 and 6."""
    if attest.magic != TPM_GENERATED:
        detail = f"the statement starts with {attest.magic:#010x}: no TPM made it"
        yield Reason("quote_not_tpm_generated", detail)
    if attest.kind != ATTEST_QUOTE:
        yield Reason("quote_wrong_type", f"the statement is of type {attest.kind:#06x}, not a quote")
    if not hmac.compare_digest(attest.extra_data, nonce):
        detail = f"the qualifying data is {attest.extra_data.hex() or 'empty'}, the nonce {nonce.hex() or 'empty'}"
        yield Reason("nonce_mismatch", detail)


def _check_selection(selection: PcrSelection, values: PcrValues, required: PcrSelection) -> Iterator[Reason]:
    """Step 7."""
    for bank, indexes in required.items():
        missing = sorted(set(indexes) - set(selection.get(bank, ())))
        if missing:
            listed = ", ".join(map(str, missing))
            yield Reason("selection_mismatch", f"the quote does not cover PCR {listed} of the {bank.name} bank")
    for bank in [*selection, *(bank for bank in values if bank not in selection)]:
        if set(selection.get(bank, ())) != set(values.get(bank, {})):
            detail = f"the values given for the {bank.name} bank are not of the PCRs the quote covers"
            yield Reason("selection_mismatch", detail)
