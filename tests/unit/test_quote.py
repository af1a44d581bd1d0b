"""Checking quotes: a real one, and ones made here by keys that behave like a TPM's."""

import base64
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from tests.unit.builders import flipped
from tests.vectors import vector

from imarium.errors import MalformedInput
from imarium.formats.registers import PcrIndex
from imarium.formats.tpm import (
    EcdsaSignature,
    PcrSelection,
    PcrValues,
    RsaSignature,
    SignatureScheme,
    parse_attest,
    parse_public,
    parse_signature,
    pcr_digest,
    selection_bytes,
)
from imarium.hashes import SHA1, SHA256, SHA384, HashAlgorithm
from imarium.verifier.quote import QuoteCheck, check_quote, check_values, verification_key, verify_signature

ATTRIBUTES = 0x00050072
RESTRICTED, SIGN, DECRYPT, FIXED_TPM = 1 << 16, 1 << 18, 1 << 17, 1 << 1
Evidence = tuple[rsa.RSAPublicKey, bytes, bytes, PcrValues]
NONCE = bytes(range(32))
VALUES: PcrValues = {
    SHA256: {PcrIndex(0): b"\x11" * 32, PcrIndex(10): b"\x22" * 32},
    SHA1: {PcrIndex(10): b"\x33" * 20},
}
SELECTION: PcrSelection = {SHA256: (PcrIndex(0), PcrIndex(10)), SHA1: (PcrIndex(10),)}
REQUIRED: PcrSelection = {SHA1: (PcrIndex(10),), SHA256: (PcrIndex(10),)}


def sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def number(value: int, size: int) -> bytes:
    return sized(value.to_bytes(size, "big"))


@dataclass(frozen=True)
class Key:
    """A signing key with its TPM2B_PUBLIC; ``sign`` makes a TPMT_SIGNATURE."""

    public: bytes
    sign: Callable[[bytes], bytes]

    @property
    def name(self) -> bytes:
        return parse_public(self.public).name


def ecc_key(attributes: int = ATTRIBUTES, *, size: int = 32) -> Key:
    curve, identifier, algorithm, hash_id = {
        32: (ec.SECP256R1(), 3, hashes.SHA256(), 0x0B),
        48: (ec.SECP384R1(), 4, hashes.SHA384(), 0x0C),
        66: (ec.SECP521R1(), 5, hashes.SHA512(), 0x0D),
    }[size]
    private = ec.generate_private_key(curve)
    point = private.public_key().public_numbers()
    area = struct.pack(">HHI", 0x23, 0x0B, attributes) + sized(b"") + struct.pack(">HHH", 0x10, 0x18, hash_id)
    area += struct.pack(">HH", identifier, 0x10) + number(point.x, size) + number(point.y, size)

    def sign(message: bytes) -> bytes:
        r, s = decode_dss_signature(private.sign(message, ec.ECDSA(algorithm)))
        return struct.pack(">HH", 0x18, hash_id) + number(r, size) + number(s, size)

    return Key(sized(area), sign)


def rsa_key(scheme: SignatureScheme = SignatureScheme.RSASSA) -> Key:
    private = rsa.generate_private_key(65537, 2048)
    modulus = private.public_key().public_numbers().n
    area = struct.pack(">HHI", 0x01, 0x0B, ATTRIBUTES) + sized(b"") + struct.pack(">HHH", 0x10, scheme, 0x0B)
    area += struct.pack(">HI", 2048, 0) + number(modulus, 256)

    def sign(message: bytes) -> bytes:
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)
        pad = padding.PKCS1v15() if scheme is SignatureScheme.RSASSA else pss
        return struct.pack(">HH", scheme, 0x0B) + sized(private.sign(message, pad, hashes.SHA256()))

    return Key(sized(area), sign)


ECC = ecc_key()
RSA = rsa_key()
KEYS = {
    "P-256": ECC,
    "P-384": ecc_key(size=48),
    "P-521": ecc_key(size=66),
    "RSASSA": RSA,
    "RSAPSS": rsa_key(SignatureScheme.RSAPSS),
}


def statement(algorithm: HashAlgorithm = SHA256, *, magic: int = 0xFF544347, kind: int = 0x8018) -> bytes:
    head = struct.pack(">IH", magic, kind) + sized(b"\x00\x0b" + bytes(32)) + sized(NONCE)
    clock = struct.pack(">QIIBQ", 1000, 7, 1, 1, 0x20240125)
    return head + clock + selection_bytes(SELECTION) + sized(pcr_digest(SELECTION, VALUES, algorithm))


def check(
    key: Key,
    message: bytes,
    *,
    signature: bytes | None = None,
    trusted: bytes | None = None,
    nonce: bytes = NONCE,
    values: PcrValues = VALUES,
    required: PcrSelection = REQUIRED,
) -> QuoteCheck:
    return check_quote(
        message,
        key.sign(message) if signature is None else signature,
        key.public,
        trusted_name=key.name if trusted is None else trusted,
        nonce=nonce,
        values=values,
        required=required,
    )


def codes(outcome: QuoteCheck) -> list[str]:
    assert outcome.good is (not outcome.reasons)
    assert all(reason.detail and "\n" not in reason.detail for reason in outcome.reasons)
    return [reason.code for reason in outcome.reasons]


def decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    document = json.loads(vector("trustee/tpm_evidence.json"))
    key = serialization.load_der_public_key(decoded(document["ak_public"]))
    assert isinstance(key, rsa.RSAPublicKey)
    quote = document["tpm_quote"]
    values = {SHA256: {PcrIndex(index): bytes.fromhex(value) for index, value in enumerate(quote["pcrs"])}}
    return key, decoded(quote["message"]), decoded(quote["signature"]), values


def test_a_real_quote_verifies_and_covers_its_values(evidence: Evidence) -> None:
    key, message, signature, values = evidence
    assert verify_signature(key, message, parse_signature(signature)) is None
    attest = parse_attest(message)
    assert attest.quote is not None
    assert attest.quote.selection == {SHA256: tuple(range(24))}
    assert list(check_values(attest.quote, parse_signature(signature), values)) == []
    values = {SHA256: {**values[SHA256], PcrIndex(10): b"\x01" * 32}}
    assert [found.code for found in check_values(attest.quote, parse_signature(signature), values)] == [
        "values_mismatch"
    ]


def test_a_real_quote_with_any_one_bit_changed_does_not_verify(evidence: Evidence) -> None:
    key, message, signature, _ = evidence
    parsed = parse_signature(signature)
    for _, bad in flipped(message):
        reason = verify_signature(key, bad, parsed)
        assert reason is not None
        assert reason.code == "signature_invalid"
        assert reason.detail == "the signature is this key's, over another message"
    for bit, bad in flipped(signature):
        try:
            changed = parse_signature(bad)
        except MalformedInput:
            continue
        assert verify_signature(key, message, changed) is not None, bit


@pytest.mark.parametrize("kind", KEYS)
def test_a_quote_of_each_kind_of_key_is_good(kind: str) -> None:
    key = KEYS[kind]
    algorithm = parse_public(key.public).scheme
    assert algorithm is not None
    outcome = check(key, statement(algorithm.hash))
    assert codes(outcome) == []
    assert outcome.attest is not None
    assert outcome.attest.clock_info.reset_count == 7
    assert outcome.ak is not None
    assert outcome.ak.name == key.name


def assert_each_bit_counts(kind: str, step: int) -> None:
    """Of a statement and its signature, with each ``step``-th bit changed."""
    key = KEYS[kind]
    algorithm = parse_public(key.public).scheme
    assert algorithm is not None
    message = statement(algorithm.hash)
    signature = key.sign(message)
    for bit, bad in flipped(message, step):
        found = codes(check(key, bad, signature=signature))
        assert "signature_invalid" in found or "quote_malformed" in found, bit
    for bit, bad in flipped(signature, step):
        found = codes(check(key, message, signature=bad))
        assert "signature_invalid" in found or "signature_malformed" in found, bit


@pytest.mark.parametrize("kind", KEYS)
def test_any_bit_of_the_statement_or_the_signature_changed_is_noticed(kind: str) -> None:
    assert_each_bit_counts(kind, step=17)


def test_any_bit_of_the_attestation_key_changed_is_noticed() -> None:
    message = statement()
    signature = ECC.sign(message)
    for bit, bad in flipped(ECC.public):
        changed = replace(ECC, public=bad)
        found = codes(check(changed, message, signature=signature, trusted=ECC.name))
        assert "ak_mismatch" in found or "ak_malformed" in found, bit


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        (ATTRIBUTES & ~RESTRICTED, ["ak_not_restricted"]),
        (ATTRIBUTES & ~FIXED_TPM, ["ak_not_fixed_tpm"]),
        (ATTRIBUTES | DECRYPT, ["ak_decrypts"]),
        (ATTRIBUTES & ~RESTRICTED & ~FIXED_TPM | DECRYPT, ["ak_not_restricted", "ak_not_fixed_tpm", "ak_decrypts"]),
    ],
)
def test_a_key_that_is_no_attestation_key_is_refused_although_it_is_trusted(attributes: int, code: list[str]) -> None:
    assert codes(check(ecc_key(attributes), statement())) == code


def test_a_storage_key_is_not_a_signing_key() -> None:
    area = bytearray(ECC.public)
    area[6:10] = struct.pack(">I", ATTRIBUTES & ~SIGN | DECRYPT)
    area[12:16] = bytes.fromhex("00100010")  # symmetric and scheme NULL; the hash of the scheme goes
    public = sized(bytes(area[2:16]) + bytes(area[18:]))
    found = codes(check(replace(ECC, public=public), statement()))
    assert found == ["ak_not_signing", "ak_decrypts"]


def test_each_wrong_part_has_its_own_code() -> None:
    message = statement()
    assert codes(check(ECC, message, trusted=RSA.name)) == ["ak_mismatch"]
    assert codes(check(ECC, message, trusted=b"")) == ["ak_mismatch"]
    assert codes(check(ECC, message, nonce=NONCE[:-1])) == ["nonce_mismatch"]
    assert codes(check(ECC, message, nonce=NONCE + b"\0")) == ["nonce_mismatch"]
    assert codes(check(ECC, message, nonce=b"")) == ["nonce_mismatch"]
    assert codes(check(ECC, statement(magic=0xFF544348))) == ["quote_not_tpm_generated"]
    assert codes(check(ECC, statement(kind=0x8019))) == ["quote_wrong_type"]
    assert codes(check(ECC, message, signature=ecc_key().sign(message))) == ["signature_invalid"]
    assert codes(check(ECC, message[:-1])) == ["quote_malformed"]
    assert codes(check(ECC, message, signature=ECC.sign(message) + b"\0")) == ["signature_malformed"]
    assert codes(check(replace(ECC, public=b""), message, trusted=ECC.name)) == ["ak_malformed"]


def test_selection_and_values_are_held_against_the_quote() -> None:
    message = statement()
    assert codes(check(ECC, message, required={SHA256: (PcrIndex(11),)})) == ["selection_mismatch"]
    assert codes(check(ECC, message, required={SHA384: (PcrIndex(10),)})) == ["selection_mismatch"]
    assert codes(check(ECC, message, required={})) == []
    more = {**VALUES, SHA256: {**VALUES[SHA256], PcrIndex(11): bytes(32)}}
    assert codes(check(ECC, message, values=more)) == ["selection_mismatch"]
    assert codes(check(ECC, message, values={**VALUES, SHA384: {PcrIndex(0): bytes(48)}})) == ["selection_mismatch"]
    assert codes(check(ECC, message, values={SHA256: VALUES[SHA256]})) == ["selection_mismatch", "values_mismatch"]
    other = {**VALUES, SHA1: {PcrIndex(10): b"\x34" * 20}}
    assert codes(check(ECC, message, values=other)) == ["values_mismatch"]
    short = {**VALUES, SHA1: {PcrIndex(10): b"\x33" * 19}}
    assert codes(check(ECC, message, values=short)) == ["values_mismatch"]


def test_the_scheme_must_be_the_keys_own() -> None:
    pss = KEYS["RSAPSS"]
    message = statement()
    as_ssa = bytearray(pss.sign(message))
    as_ssa[:2] = struct.pack(">H", 0x14)
    outcome = check(pss, message, signature=bytes(as_ssa))
    assert codes(outcome) == ["signature_invalid"]
    assert outcome.reasons[0].detail == "the signature is RSASSA with sha256, the AK signs RSAPSS with sha256"


def test_a_signature_says_why_it_is_not_the_keys() -> None:
    key = verification_key(parse_public(RSA.public))
    ours = parse_signature(RSA.sign(b"another message"))
    theirs = parse_signature(rsa_key().sign(b"message"))
    assert detail(verify_signature(key, b"message", ours)) == "the signature is this key's, over another message"
    assert detail(verify_signature(key, b"message", theirs)) == "the signature is not this key's"
    short = RsaSignature(SignatureScheme.RSASSA, SHA256, b"\x01")
    assert detail(verify_signature(key, b"message", short)) == "the signature is not this key's"
    sha1 = RsaSignature(SignatureScheme.RSASSA, SHA1, bytes(256))
    assert "not accepted" in detail(verify_signature(key, b"message", sha1))
    assert "the key is RSA" in detail(verify_signature(key, b"", EcdsaSignature(SHA256, b"\1", b"\1")))
    point = verification_key(parse_public(ECC.public))
    assert "the key is ECC" in detail(verify_signature(point, b"message", ours))
    for r, s in ((b"\0", b"\0"), (b"\xff" * 66, b"\1")):
        assert verify_signature(point, b"message", EcdsaSignature(SHA256, r, s)) is not None


def detail(reason: object) -> str:
    assert reason is not None
    return getattr(reason, "detail", "")


def test_a_point_off_the_curve_is_a_malformed_key() -> None:
    public = ECC.public[:-1] + bytes([ECC.public[-1] ^ 1])
    outcome = check(replace(ECC, public=public), statement())
    assert codes(outcome) == ["ak_malformed"]


def test_nothing_at_all_gives_a_reason_for_each_part() -> None:
    outcome = check_quote(b"", b"", b"", trusted_name=b"", nonce=b"", values={}, required={})
    assert codes(outcome) == ["quote_malformed", "signature_malformed", "ak_malformed"]
    assert (outcome.attest, outcome.ak) == (None, None)
