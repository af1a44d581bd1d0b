"""TPMS_ATTEST: what a TPM signs about itself. TPM 2.0 Library specification, Part 2, section 10.12.

Parsing gives claims. Only a check of the signature, the magic number and the qualifying data gives facts.
"""

from dataclasses import dataclass

from imarium.formats.tpm.cursor import Cursor
from imarium.formats.tpm.selection import PcrSelection, read_selection
from imarium.hashes import ALGORITHMS, by_tcg_id

__all__ = [
    "ATTEST_QUOTE",
    "MAX_ATTEST_SIZE",
    "MAX_NAME_SIZE",
    "MAX_QUALIFYING_DATA",
    "TPM_GENERATED",
    "Attest",
    "ClockInfo",
    "QuoteInfo",
    "parse_attest",
]

TPM_GENERATED = 0xFF544347
"""TPM_GENERATED_VALUE: a restricted key signs nothing that starts with it but what the TPM made itself."""

ATTEST_QUOTE = 0x8018
"""TPM_ST_ATTEST_QUOTE."""

MAX_QUALIFYING_DATA = 66
"""The largest TPM2B_DATA: a TPMT_HA with the largest digest, 2 + 64 bytes."""

MAX_NAME_SIZE = 66
"""The largest TPM2B_NAME: a hash identifier and the largest digest."""

MAX_ATTEST_SIZE = 2048
"""No TPMS_ATTEST comes near this many bytes; longer input is refused before it is looked at."""

_MAX_DIGEST = max(algorithm.size for algorithm in ALGORITHMS)
_HANDLE_SIZE = 4
_KINDS = {
    0x8014: "NV",
    0x8015: "COMMAND_AUDIT",
    0x8016: "SESSION_AUDIT",
    0x8017: "CERTIFY",
    ATTEST_QUOTE: "QUOTE",
    0x8019: "TIME",
    0x801A: "CREATION",
    0x801C: "NV_DIGEST",
}


@dataclass(frozen=True, slots=True)
class ClockInfo:
    """TPMS_CLOCK_INFO, section 10.11.1.

    ``clock`` counts milliseconds while the TPM is powered, over its whole life. ``reset_count`` rises at each TPM
    reset (a reboot, not a kexec), ``restart_count`` at each resume or restart since then. ``safe`` is False where
    ``clock`` may have been reported before with this value. For a signing key outside the endorsement and platform
    hierarchies the TPM adds a secret number to both counts.
    """

    clock: int
    reset_count: int
    restart_count: int
    safe: bool


@dataclass(frozen=True, slots=True)
class QuoteInfo:
    """TPMS_QUOTE_INFO, section 10.12.4: which PCRs, and one digest over all of their values."""

    selection: PcrSelection
    pcr_digest: bytes


@dataclass(frozen=True, slots=True)
class Attest:
    """TPMS_ATTEST.

    ``magic`` is TPM_GENERATED in anything a TPM made; the parser lets other values pass, so that a verifier can
    say what it was given. ``quote`` is None for a statement of another ``kind`` (a TPM_ST_ATTEST value); ``body``
    then holds the attested structure unread. ``extra_data`` is the caller's qualifying data: the nonce.
    """

    magic: int
    kind: int
    qualified_signer: bytes
    extra_data: bytes
    clock_info: ClockInfo
    firmware_version: int
    quote: QuoteInfo | None
    body: bytes


def parse_attest(data: bytes) -> Attest:
    """The TPMS_ATTEST that ``data`` is, to the last byte. Raises MalformedInput."""
    cursor = Cursor(data, "TPMS_ATTEST")
    if len(data) > MAX_ATTEST_SIZE:
        raise cursor.fail(f"at most {MAX_ATTEST_SIZE} bytes", f"{len(data)}")
    magic = cursor.u32("magic")
    at = cursor.offset
    kind = cursor.u16("type")
    if kind not in _KINDS:
        raise cursor.fail("a TPM_ST_ATTEST type", f"{kind:#06x}", at=at)
    signer = _qualified_signer(cursor)
    extra_data = cursor.sized(MAX_QUALIFYING_DATA, "extraData")
    clock_info = _clock_info(cursor)
    firmware_version = cursor.u64("firmwareVersion")
    body = data[cursor.offset :]
    if kind == ATTEST_QUOTE:
        quote = _quote_info(cursor)
        cursor.end()
    else:
        quote = None
    return Attest(magic, kind, signer, extra_data, clock_info, firmware_version, quote, body)


def _qualified_signer(cursor: Cursor) -> bytes:
    """A TPM2B_NAME: empty, a handle, or a hash identifier with a digest of its size (section 10.5.3)."""
    at = cursor.offset
    name = cursor.sized(MAX_NAME_SIZE, "qualifiedSigner")
    if len(name) in (0, _HANDLE_SIZE):
        return name
    algorithm = by_tcg_id(int.from_bytes(name[:2], "big"))
    if algorithm is None or len(name) != 2 + algorithm.size:
        raise cursor.fail("a Name as qualifiedSigner", f"{len(name)} bytes, {name[:2].hex()}...", at=at)
    return name


def _clock_info(cursor: Cursor) -> ClockInfo:
    clock = cursor.u64("clock")
    reset_count = cursor.u32("resetCount")
    restart_count = cursor.u32("restartCount")
    at = cursor.offset
    safe = cursor.u8("safe")
    if safe > 1:
        raise cursor.fail("0 or 1 as safe", f"{safe}", at=at)
    return ClockInfo(clock, reset_count, restart_count, bool(safe))


def _quote_info(cursor: Cursor) -> QuoteInfo:
    selection = read_selection(cursor)
    return QuoteInfo(selection, cursor.sized(_MAX_DIGEST, "pcrDigest"))
