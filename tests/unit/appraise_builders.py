"""Evidence of kind tpm, signed by a key made here; and what is said of it."""

import struct
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from tests.unit.builders import Made, binary, naive_replay, ng

from imarium.formats.evidence import Evidence, ListPart, TpmPart
from imarium.formats.records import ListLayout
from imarium.formats.registers import PcrIndex
from imarium.formats.tpm import PcrValues, parse_public, pcr_digest, selection_bytes
from imarium.hashes import SHA1, SHA256, HashAlgorithm
from imarium.verifier import Result, TpmTrust, VerifierState, appraise

NONCE = b"\x05" * 20
PRIVATE = ec.generate_private_key(ec.SECP256R1())
QUOTED = tuple(PcrIndex(pcr) for pcr in range(12))


def sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def public_area(key: ec.EllipticCurvePrivateKey = PRIVATE) -> bytes:
    point = key.public_key().public_numbers()
    area = struct.pack(">HHI", 0x23, 0x0B, 0x00050072) + sized(b"") + struct.pack(">HHHHH", 0x10, 0x18, 0x0B, 3, 0x10)
    return sized(area + sized(point.x.to_bytes(32, "big")) + sized(point.y.to_bytes(32, "big")))


AK = parse_public(public_area())


def quote(
    values: PcrValues,
    *,
    clock: int = 1000,
    resets: int = 7,
    nonce: bytes = NONCE,
    signer: bytes = b"\x00\x0b" + bytes(32),
) -> TpmPart:
    """What a TPM with these values would say."""
    selection = {bank: tuple(of_bank) for bank, of_bank in values.items()}
    message = struct.pack(">IH", 0xFF544347, 0x8018) + sized(signer) + sized(nonce)
    message += struct.pack(">QIIBQ", clock, resets, 1, 1, 0) + selection_bytes(selection)
    message += sized(pcr_digest(selection, values, SHA256))
    r, s = decode_dss_signature(PRIVATE.sign(message, ec.ECDSA(hashes.SHA256())))
    signature = struct.pack(">HH", 0x18, 0x0B) + sized(r.to_bytes(32, "big")) + sized(s.to_bytes(32, "big"))
    return TpmPart(message, signature, public_area(), values)


def values_after(records: list[Made], banks: tuple[HashAlgorithm, ...], pcrs: tuple[PcrIndex, ...]) -> PcrValues:
    values: dict[HashAlgorithm, dict[PcrIndex, bytes]] = {}
    for bank in banks:
        last = naive_replay(records, bank.name)[-1]
        ones = {pcr: b"\xff" if 17 <= pcr <= 22 else b"\0" for pcr in pcrs}
        values[bank] = {pcr: last.get(pcr, ones[pcr] * bank.size) for pcr in pcrs}
    return values


def evidence(
    records: list[Made],
    *,
    first: int = 0,
    later: int = 0,
    banks: tuple[HashAlgorithm, ...] = (SHA1, SHA256),
    pcrs: tuple[PcrIndex, ...] = QUOTED,
    **more: Any,
) -> Evidence:
    """Evidence whose quote covers all but the last ``later`` records."""
    covered = records[: len(records) - later]
    part = ListPart(first, len(records) - first, ListLayout(), binary(records[first:]))
    return Evidence(quote(values_after(covered, banks, pcrs), **more), part)


BOOT = ng(b"boot_aggregate", content=bytes(320))
LOG = [BOOT, ng(b"/a"), ng(b"/b", 11), ng(b"/c"), ng(b"/d")]


def ask(given: Evidence | bytes, state: VerifierState | None = None, registers: tuple[PcrIndex, ...] = ()) -> Result:
    data = given if isinstance(given, bytes) else given.encode()
    result = appraise(data, nonce=NONCE, trust=[TpmTrust(AK)], state=state, registers=registers)
    assert result.passed is (result.state is not None)
    assert result.passed or result.covered == 0
    return result


def codes(given: Evidence | bytes, state: VerifierState | None = None) -> list[str]:
    return [reason.code for reason in ask(given, state).reasons]


def state_after(count: int) -> VerifierState:
    state = ask(evidence(LOG[:count])).state
    assert state is not None
    return state
