"""CCA tokens made here, as the forms that platforms write: what verifies, and what is refused."""

import hashlib

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.cca_builders import (
    ALONE,
    NONCE,
    P521,
    PLATFORM,
    REALM,
    RSA_KEY,
    SUB,
    Maker,
    certified,
    codes,
    collection,
    cose_key,
    der,
    platform_map,
    realm_map,
    sign1,
)

from imarium.errors import MalformedInput, UsageError
from imarium.formats.cca import (
    PCR_COLUMN_MAP,
    VIRTCCA_MAP,
    RemIndex,
    RemMap,
    SlotIndex,
    parse_cca_token,
    rem_of_slot,
    slot_of_rem,
)
from imarium.formats.registers import PcrIndex
from imarium.verifier.cca import CcaPolicy, check_cca


@given(st.binary(max_size=300))
def test_any_bytes_get_a_verdict(data):
    assert codes(data, P521.public_key()) == ["cca_malformed"]


class TestForms:
    @pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
    @pytest.mark.parametrize("bits", [256, 384, 512])
    def test_every_curve_and_hash_verifies(self, curve, bits):
        key, realm = ec.generate_private_key(curve), ec.generate_private_key(curve)
        maker = Maker(platform_key=key, realm_key=realm, realm={44240: f"sha-{bits}"})
        maker.realm |= {k: v for k, v in realm_map(maker.realm[44237], bits=bits).items() if k not in {44240}}
        assert codes(maker.token(), key.public_key()) == []

    def test_a_cose_key_is_bound_as_it_is_written(self):
        realm = ec.generate_private_key(ec.SECP384R1())
        maker = Maker(realm_key=realm, realm={44237: cose_key(realm), 265: "tag:arm.com,2023:realm#1.0.0"})
        check = check_cca(maker.token(), anchor=maker.platform_key.public_key(), nonce=NONCE)
        assert check.good
        assert check.token is not None
        assert check.token.realm.claims.profile == "tag:arm.com,2023:realm#1.0.0"

    def test_new_virtcca_with_a_certified_platform_key(self):
        maker = Maker(platform_key=P521, realm_key=ec.generate_private_key(ec.SECP521R1()))
        assert codes(maker.token(), certified(P521)) == []
        assert codes(maker.token(wrapped=True), certified(P521)) == []
        assert codes(maker.token(), certified(SUB)) == ["platform_signature_invalid"]

    @pytest.mark.parametrize("algorithm", [-37, -257])
    def test_old_virtcca(self, algorithm):
        token = Maker(realm_key=RSA_KEY, platform=None).token(wrapped=True, algorithm=algorithm)
        assert len(der(RSA_KEY)) == 550
        assert codes(token, certified(RSA_KEY), policy=ALONE) == []
        assert codes(token, RSA_KEY.public_key(), policy=ALONE) == []
        assert codes(token, certified(RSA_KEY)) == ["realm_signature_invalid", "platform_missing"]
        other = rsa.generate_private_key(65537, 2048)
        assert codes(token, certified(other), policy=ALONE) == ["realm_key_mismatch"]
        assert codes(token, P521.public_key(), policy=ALONE) == ["realm_key_mismatch"]
        parsed = parse_cca_token(token)
        assert parsed.realm.wrapped
        assert parsed.platform is None

    def test_every_byte_of_an_old_token_counts(self):
        token = Maker(realm_key=RSA_KEY, platform=None).token(wrapped=True)
        anchor = RSA_KEY.public_key()
        for offset in range(len(token)):
            bad = bytearray(token)
            bad[offset] ^= 1 << offset % 8
            assert not check_cca(bytes(bad), anchor=anchor, nonce=NONCE, policy=ALONE).good, offset

    def test_a_platform_token_may_not_be_left_out(self):
        maker = Maker()
        token = collection({REALM: maker.parts()[REALM]})
        assert codes(token, maker.platform_key.public_key()) == ["platform_missing"]
        allowed = codes(token, maker.platform_key.public_key(), policy=ALONE)
        assert allowed == ["realm_signature_invalid", "realm_key_mismatch"]

    def test_an_ec_realm_alone_is_not_the_old_form(self):
        maker = Maker(platform=None)
        assert codes(maker.token(), maker.realm_key.public_key(), policy=ALONE) == ["realm_signature_invalid"]

    def test_rsa_beside_a_platform_token_is_refused(self):
        maker = Maker(realm_key=RSA_KEY)
        assert codes(maker.token(), maker.platform_key.public_key()) == ["realm_signature_invalid"]
        maker = Maker(platform_key=RSA_KEY)
        assert codes(maker.token(), RSA_KEY.public_key()) == ["platform_signature_invalid"]

    def test_the_platform_token_must_be_fresh_for_the_realm_key(self):
        maker = Maker(platform={10: bytes(32)})
        assert codes(maker.token(), maker.platform_key.public_key()) == ["binding_mismatch"]
        maker = Maker(realm={44240: "sha-512"})
        assert codes(maker.token(), maker.platform_key.public_key()) == []
        maker.realm[44240] = "sha-256"
        assert codes(maker.token(), maker.platform_key.public_key()) == ["binding_mismatch"]

    @pytest.mark.parametrize("lifecycle", [0, 0x10FF, 0x2000, 0x2FFF, 0x3100, 0x4000, 0x5001, 0x6000, 0xFFFF])
    def test_only_secured_platforms_are_accepted(self, lifecycle):
        maker = Maker(platform={2395: lifecycle})
        key = maker.platform_key.public_key()
        assert codes(maker.token(), key) == ["platform_not_secured"]
        assert codes(maker.token(), key, policy=CcaPolicy(lifecycle_states=frozenset({lifecycle >> 8}))) == []
        assert codes(Maker(maker.platform_key).token(), key, policy=CcaPolicy(lifecycle_states=frozenset())) == [
            "platform_not_secured"
        ]

    def test_profiles_are_those_of_the_policy(self):
        maker = Maker(platform={265: "huawei\nx"})
        key = maker.platform_key.public_key()
        assert codes(maker.token(), key) == ["platform_profile_unknown"]
        assert codes(maker.token(), key, policy=CcaPolicy(profiles=frozenset({"huawei\nx"}))) == []

    @pytest.mark.parametrize("claim", [b"", b"\x04" + bytes(96), b"\x30\x00", b"\xa0"])
    def test_a_realm_key_that_is_none_is_told(self, claim):
        maker = Maker()
        maker.realm[44237] = claim
        maker.platform = platform_map(hashlib.sha256(claim).digest())
        assert codes(maker.token(), maker.platform_key.public_key()) == ["realm_key_malformed"]

    def test_everything_wrong_is_named(self):
        maker = Maker(platform={265: "x", 2395: 0, 10: bytes(32)})
        assert codes(maker.token(algorithm=-7), P521.public_key(), bytes(64)) == [
            "realm_signature_invalid",
            "platform_signature_invalid",
            "binding_mismatch",
            "platform_profile_unknown",
            "platform_not_secured",
            "nonce_mismatch",
        ]


class TestClaims:
    def test_unknown_claims_are_kept(self):
        extra = {99: [1, {"a": None}], "vendor": True}
        maker = Maker(realm=dict(extra), platform=dict(extra))
        check = check_cca(maker.token(), anchor=maker.platform_key.public_key(), nonce=NONCE)
        assert check.good
        assert check.token is not None
        assert check.token.platform is not None
        assert check.token.realm.claims.unknown == extra
        assert check.token.platform.claims.unknown == extra

    @pytest.mark.parametrize("label", [10, 44235, 44236, 44237, 44238, 44239, 44240])
    @pytest.mark.parametrize("value", [None, 7, True, b"x", "x", [], {}, [b"x"] * 4, [bytes(32)] * 3, [0] * 4])
    def test_realm_claims_of_another_kind_are_refused(self, label, value):
        maker = Maker()
        maker.realm[label] = value
        self.refused(maker, unless=label == 44237 and value == b"x")

    @pytest.mark.parametrize("label", [10, 256, 265, 2395, 2396, 2399, 2400, 2401, 2402])
    @pytest.mark.parametrize("value", [None, -1, 1 << 16, True, b"x", "x", [], {}, [{}], [{2: b"x", 5: b"x"}]])
    def test_platform_claims_of_another_kind_are_refused(self, label, value):
        maker = Maker()
        assert maker.platform is not None
        maker.platform[label] = value
        self.refused(maker, unless=(label in {265, 2400, 2402} and value == "x") or (label == 2401 and value == b"x"))

    @pytest.mark.parametrize("label", [10, 44235, 44236, 44237, 44238, 44239, 44240])
    def test_realm_claims_are_all_needed(self, label):
        maker = Maker()
        del maker.realm[label]
        self.refused(maker)

    @pytest.mark.parametrize("label", [10, 256, 265, 2395, 2396, 2399, 2401, 2402])
    def test_platform_claims_are_all_needed(self, label):
        maker = Maker()
        assert maker.platform is not None
        del maker.platform[label]
        self.refused(maker)

    @pytest.mark.parametrize(
        ("label", "value"),
        [
            (256, b"\x02" + bytes(32)),
            (2399, [{2: bytes(32), 5: bytes(32)}] * 65),
            (2399, [{2: bytes(32), 5: bytes(32), 1: 5}]),
            (2399, [{2: bytes(32), 5: bytes(32), 6: b""}]),
            (2399, [5]),
        ],
    )
    def test_platform_claims_out_of_bounds_are_refused(self, label, value):
        maker = Maker()
        assert maker.platform is not None
        maker.platform[label] = value
        self.refused(maker)

    def test_registers_have_the_size_of_their_hash(self):
        for change in ({44238: bytes(48)}, {44239: [bytes(32)] * 3 + [bytes(64)]}, {44236: "sha-512"}, {44236: "sm3"}):
            self.refused(Maker(realm=change))
        self.refused(Maker(realm={44239: [bytes(32)] * 4 + [b""]}))

    @staticmethod
    def refused(maker: Maker, *, unless: bool = False) -> None:
        if unless:
            parse_cca_token(maker.token())
            return
        with pytest.raises(MalformedInput, match="CCA"):
            parse_cca_token(maker.token())
        assert codes(maker.token(), maker.platform_key.public_key()) == ["cca_malformed"]


@pytest.mark.parametrize(
    "token",
    [
        cbor2.dumps({REALM: Maker().parts()[REALM]}),
        cbor2.dumps(cbor2.CBORTag(400, Maker().parts())),
        collection([1]),
        collection({}),
        collection({REALM: 5}),
        collection({**Maker().parts(), PLATFORM: None}),
        collection({**Maker().parts(), 1: b""}),
        collection({**Maker().parts(), "x": b""}),
        collection({REALM: cbor2.loads(Maker().parts()[REALM])}),
        collection({REALM: sign1(P521, b"\x80")}),
        collection({REALM: sign1(P521, cbor2.dumps(cbor2.dumps(cbor2.dumps(realm_map(b"")))))}),
        bytes(16385),
    ],
)
def test_malformed_collections_are_refused(token):
    assert codes(token, P521.public_key()) == ["cca_malformed"]


def test_large_tokens_are_refused():
    maker = Maker(realm={99: bytes(14000)})
    assert codes(maker.token(), maker.platform_key.public_key()) == []
    with pytest.raises(MalformedInput, match="at most 16384 bytes"):
        parse_cca_token(Maker(realm={99: bytes(16000)}).token())


def test_slots_and_rems():
    assert [rem_of_slot(SlotIndex(slot)) for slot in range(1, 5)] == [0, 1, 2, 3]
    assert [slot_of_rem(RemIndex(rem)) for rem in range(4)] == [1, 2, 3, 4]
    for slot in (-1, 0, 5):
        with pytest.raises(UsageError):
            rem_of_slot(SlotIndex(slot))
    for rem in (-1, 4):
        with pytest.raises(UsageError):
            slot_of_rem(RemIndex(rem))


def test_columns_are_mapped_to_rems():
    assert {VIRTCCA_MAP.rem(PcrIndex(pcr)) for pcr in range(64)} == {RemIndex(0)}
    assert [PCR_COLUMN_MAP.rem(PcrIndex(pcr)) for pcr in range(6)] == [None, 0, 1, 2, 3, None]
    assert PCR_COLUMN_MAP.rem(PcrIndex(10)) is None
    assert RemMap(RemIndex(2), ((PcrIndex(10), RemIndex(1)),)).rem(PcrIndex(10)) == 1
    for bad in ((RemIndex(4), ()), (None, ((PcrIndex(1), RemIndex(-1)),)), (None, ((PcrIndex(1), RemIndex(1)),) * 2)):
        with pytest.raises(UsageError):
            RemMap(*bad)
