"""A real CCA token, and what is made of it."""

from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import flipped
from tests.unit.cca_builders import (
    PLATFORM,
    REALM,
    RSA_KEY,
    Maker,
    codes,
    collection,
)
from tests.vectors import vector

from imarium.formats.cca import (
    RemIndex,
    parse_cca_token,
)
from imarium.hashes import SHA256, SHA512
from imarium.verifier.cca import check_cca, load_public_key


@pytest.fixture(scope="module")
def real() -> bytes:
    return vector("trustee/cca/misc/cca-example-token.cbor")


@pytest.fixture(scope="module")
def cpak() -> Any:
    return load_public_key(vector("trustee/cca/misc/cpak-pub.json"))


@pytest.fixture(scope="module")
def real_nonce(real: bytes) -> bytes:
    return parse_cca_token(real).realm.claims.challenge


def real_parts(real: bytes) -> dict[int, bytes]:
    return dict(cbor2.loads(real).value)


def spoiled(part: bytes, member: int) -> bytes:
    """A COSE_Sign1 with the last byte of one member changed."""
    members = list(cbor2.loads(part).value)
    members[member] = members[member][:-1] + bytes([members[member][-1] ^ 1])
    return cbor2.dumps(cbor2.CBORTag(18, members))


def assert_each_bit_counts(step: int) -> None:
    """Of the real token, with each ``step``-th bit changed."""
    token = vector("trustee/cca/misc/cca-example-token.cbor")
    key = load_public_key(vector("trustee/cca/misc/cpak-pub.json"))
    nonce = parse_cca_token(token).realm.claims.challenge
    assert check_cca(token, anchor=key, nonce=nonce).good
    for bit, bad in flipped(token, step):
        assert not check_cca(bad, anchor=key, nonce=nonce).good, bit


class TestTheRealToken:
    def test_verifies(self, real, cpak, real_nonce):
        check = check_cca(real, anchor=cpak, nonce=real_nonce)
        assert check.good
        assert check.token is not None
        claims = check.token.realm.claims
        assert claims.hash_algorithm is SHA512
        assert claims.public_key_hash is SHA256
        assert claims.rim.hex().startswith("ae87fbf7f105e71a")
        assert claims.registers == {RemIndex(index): bytes(64) for index in range(4)}
        assert claims.unknown == {}
        assert not check.token.realm.wrapped
        platform = check.token.platform
        assert platform is not None
        assert (platform.claims.lifecycle, platform.claims.lifecycle_state) == (0x3003, 0x30)
        assert platform.claims.profile == "http://arm.com/CCA-SSD/1.0.0"
        assert platform.claims.config == b"\xcf" * 4
        assert [component.kind for component in platform.claims.components][:3] == ["RSE_BL1_2", "RSE_BL2", "RSE_S"]
        assert len(platform.claims.components) == 13
        assert all(len(component.measurement) == 32 for component in platform.claims.components)

    def test_a_broken_realm_signature_is_told(self, real, cpak, real_nonce):
        parts = real_parts(real)
        token = collection(parts | {REALM: spoiled(parts[REALM], 3)})
        assert codes(token, cpak, real_nonce) == ["realm_signature_invalid"]

    def test_a_broken_platform_signature_is_told(self, real, cpak, real_nonce):
        parts = real_parts(real)
        token = collection(parts | {PLATFORM: spoiled(parts[PLATFORM], 3)})
        assert codes(token, cpak, real_nonce) == ["platform_signature_invalid"]

    def test_a_realm_token_of_another_platform_is_told(self, real, cpak):
        maker = Maker()
        token = collection({PLATFORM: real_parts(real)[PLATFORM], REALM: maker.parts()[REALM]})
        assert codes(token, cpak) == ["binding_mismatch"]

    def test_another_platform_key_is_told(self, real, real_nonce):
        other = ec.generate_private_key(ec.SECP384R1()).public_key()
        assert codes(real, other, real_nonce) == ["platform_signature_invalid"]
        assert codes(real, RSA_KEY.public_key(), real_nonce) == ["platform_signature_invalid"]

    @pytest.mark.parametrize("cut", [0, 32, 63])
    def test_a_nonce_is_never_cut_or_padded(self, real, cpak, real_nonce, cut):
        assert codes(real, cpak, real_nonce[:cut]) == ["nonce_mismatch"]
        assert codes(real, cpak, real_nonce + bytes(1)) == ["nonce_mismatch"]
        assert codes(real, cpak, bytes(64)) == ["nonce_mismatch"]

    def test_every_bit_counts(self):
        assert_each_bit_counts(step=61)

    def test_every_truncation_is_malformed(self, real, cpak, real_nonce):
        for size in range(len(real)):
            assert codes(real[:size], cpak, real_nonce) == ["cca_malformed"]
        assert codes(real + b"\0", cpak, real_nonce) == ["cca_malformed"]

    @given(st.data())
    def test_no_change_raises(self, real, cpak, real_nonce, data):
        bad = bytearray(real)
        for _ in range(data.draw(st.integers(1, 8))):
            bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
        assert check_cca(bytes(bad), anchor=cpak, nonce=real_nonce).good == (bytes(bad) == real)
