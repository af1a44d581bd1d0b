"""TPM 2.0 structures: bytes to values, bounded and exact, with no device and no I/O.

The structures are those of the TPM 2.0 Library specification, Part 2. Every parser takes a structure to its last
byte; what is left over, cut short, over its limit or unknown raises MalformedInput. Parsed values are claims: only
:mod:`imarium.verifier.quote` says whether to believe them.
"""

from imarium.formats.tpm.attest import ATTEST_QUOTE, TPM_GENERATED, Attest, ClockInfo, QuoteInfo, parse_attest
from imarium.formats.tpm.credential import MAX_CHALLENGE, Credential, parse_credential
from imarium.formats.tpm.public import (
    EccCurve,
    EccKey,
    ObjectAttributes,
    Public,
    RsaKey,
    SigningScheme,
    StorageCipher,
    parse_public,
    parse_public_area,
)
from imarium.formats.tpm.selection import PcrSelection, PcrValues, parse_selection, pcr_digest, selection_bytes
from imarium.formats.tpm.signature import (
    EcdsaSignature,
    RsaSignature,
    Signature,
    SignatureScheme,
    parse_signature,
)

__all__ = [
    "ATTEST_QUOTE",
    "MAX_CHALLENGE",
    "TPM_GENERATED",
    "Attest",
    "ClockInfo",
    "Credential",
    "EccCurve",
    "EccKey",
    "EcdsaSignature",
    "ObjectAttributes",
    "PcrSelection",
    "PcrValues",
    "Public",
    "QuoteInfo",
    "RsaKey",
    "RsaSignature",
    "Signature",
    "SignatureScheme",
    "SigningScheme",
    "StorageCipher",
    "parse_attest",
    "parse_credential",
    "parse_public",
    "parse_public_area",
    "parse_selection",
    "parse_signature",
    "pcr_digest",
    "selection_bytes",
]
