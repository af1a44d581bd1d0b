"""Why a signature does not verify: looking for the one bit whose change explains it.

An aid for people, after the verdict. A signature that does not verify says that statement and signature do not belong
together, not which of them was changed. Where turning one bit back makes it verify, that bit was changed: nobody
without the key makes such a pair.
"""

from collections.abc import Iterator

from imarium.errors import MalformedInput
from imarium.formats.tpm import Public, Signature, parse_public, parse_signature
from imarium.verifier.reason import Reason
from imarium.verifier.signatures import VerificationKey, verification_key, verify_signature

__all__ = ["MAX_TRIED", "explain_signature"]

MAX_TRIED = 640
"""Longest statement or signature searched, in bytes: a quote has about 150, an RSA-4096 signature 518."""


def explain_signature(ak: bytes, statement: bytes, signature: bytes) -> Reason | None:
    """``quote_altered`` or ``signature_altered`` where one changed bit explains it, None where none does.

    ``ak`` is a TPM2B_PUBLIC, ``statement`` what ``signature``, a TPMT_SIGNATURE, should be over.
    """
    try:
        public = parse_public(ak)
        key, signed = verification_key(public), parse_signature(signature)
    except MalformedInput:
        return None
    if not max(len(statement), len(signature)) <= MAX_TRIED:
        return None
    for place, changed in _one_bit_changed(statement):
        if _verifies(public, key, changed, signed):
            detail = f"the signature is the AK's over the quote with bit {place % 8} of byte {place // 8} changed"
            return Reason("quote_altered", detail)
    for place, changed in _one_bit_changed(signature):
        try:
            restored = parse_signature(changed)
        except MalformedInput:
            continue
        if _verifies(public, key, statement, restored):
            detail = f"it is the AK's signature over this quote but for bit {place % 8} of byte {place // 8}"
            return Reason("signature_altered", detail)
    return None


def _verifies(ak: Public, key: VerificationKey, message: bytes, signature: Signature) -> bool:
    bound = ak.scheme
    fits = bound is None or (bound.scheme, bound.hash) == (signature.scheme, signature.hash)
    return fits and verify_signature(key, message, signature) is None


def _one_bit_changed(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each bit's place, and the bytes with that bit changed."""
    changed = bytearray(data)
    for place in range(8 * len(data)):
        index, bit = place // 8, 1 << place % 8
        changed[index] ^= bit
        yield place, bytes(changed)
        changed[index] ^= bit
