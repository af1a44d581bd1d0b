"""Challenges to a TPM: what is none, and keys that cannot be challenged. tests/real has the TPM that opens them."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.snp_builders import ecc_ek, ek

from imarium.errors import MalformedInput, UsageError
from imarium.formats.tpm import MAX_CHALLENGE, Credential, Public, parse_credential, parse_public_area
from imarium.verifier import make_challenge

RSA = parse_public_area(ek())


def changed(at: int, value: bytes, area: bytes | None = None) -> Public:
    data = bytearray(ek() if area is None else area)
    data[at : at + len(value)] = value
    return parse_public_area(bytes(data))


def test_a_challenge_is_another_each_time_and_reads_back() -> None:
    first, second = make_challenge(RSA, RSA), make_challenge(RSA, RSA)
    assert len(first.nonce) == 32
    assert first.nonce != second.nonce
    credential = parse_credential(first.data)
    assert credential.encode() == first.data
    assert (len(credential.blob), len(credential.secret)) == (2 + 32 + 2 + 32, 256)
    assert first.nonce not in first.data
    assert len(first.data) <= MAX_CHALLENGE


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\0\1x", Credential(b"", b"").encode() + b"\0", b"\0\x85" + bytes(0x85) + b"\0\0"]
)
def test_what_is_no_challenge(data: bytes) -> None:
    with pytest.raises(MalformedInput, match="challenge"):
        parse_credential(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        assert parse_credential(data).encode() == data
    except MalformedInput as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("bit", [1, 4, 5, 16, 17])
def test_keys_that_open_other_things_are_not_challenged(bit: int) -> None:
    with pytest.raises(UsageError, match="no endorsement key"):
        make_challenge(parse_public_area(ek(0x000300B2 & ~(1 << bit))), RSA)


def test_keys_of_other_algorithms_are_not_challenged() -> None:
    sm4 = parse_public_area(ek(symmetric=b"\0\x13\0\x80\0\x43"))
    with pytest.raises(UsageError, match="sha256 and SM4 cannot be challenged"):
        make_challenge(sm4, RSA)
    with pytest.raises(UsageError, match="sha1 and AES cannot be challenged"):
        make_challenge(parse_public_area(ek(policy=b"")[:2] + b"\0\4" + ek(policy=b"")[4:]), RSA)


def test_a_key_too_short_for_its_hash_is_not_challenged() -> None:
    """RSA 1024 with SHA-512: a seed and its padding are longer than the key."""
    head = b"\0\1\0\x0d" + ek(policy=b"")[4:]
    area = head[: head.index(b"\x08\0")] + b"\4\0" + bytes(4) + b"\0\x80" + b"\x80" + b"\1" * 127
    with pytest.raises(UsageError, match="1024 bits is too short for a seed of sha512"):
        make_challenge(parse_public_area(area), RSA)


def test_a_point_off_the_curve_is_no_key() -> None:
    with pytest.raises(MalformedInput, match="a usable key"):
        make_challenge(parse_public_area(ecc_ek()), RSA)


def test_the_page_explains_each_code() -> None:
    project = Path(__file__).parents[2]
    source = (project / "src/imarium/verifier/challenge.py").read_text()
    codes = set(re.findall(r'Reason\(\s*"(\w+)"', source))
    assert len(codes) == 2
    page = (project / "docs/tpm.md").read_text()
    assert {code for code in codes if f"`{code}`" in page} == codes
