"""CBOR and COSE_Sign1 from anywhere: what is read, what is refused, what a signature covers."""

import base64
import json

import cbor2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.cca_builders import cose_key, der, point, sign1

from imarium.errors import MalformedInput
from imarium.formats.cca import CoseAlgorithm, Tagged, decode_cbor, parse_cose_key, parse_jwk, parse_point, parse_sign1
from imarium.verifier.cose import load_public_key, point_key, sign1_fault, token_key

CURVES = (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
X, Y = point(EC_KEY)[1:33], point(EC_KEY)[33:]
JWK = {"kty": "EC", "crv": "P-256"} | {
    name: base64.urlsafe_b64encode(part).decode().rstrip("=") for name, part in (("x", X), ("y", Y))
}
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=300) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.integers(-9, 99999) | st.text(), inner, max_size=5),
    max_leaves=20,
)


def depth(value: object) -> int:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return 1 + max(map(depth, inner), default=0)


@given(PLAIN.filter(lambda value: depth(value) <= 8))
def test_values_are_read_as_they_were_written(value):
    assert decode_cbor(cbor2.dumps(value), "value") == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    for parse in (lambda d: decode_cbor(d, "value"), lambda d: parse_sign1(d, "token"), parse_cose_key, parse_jwk):
        try:
            parse(data)
        except MalformedInput as error:
            assert "\n" not in str(error)
    try:
        load_public_key(data)
    except MalformedInput as error:
        assert "\n" not in str(error)


@given(PLAIN.filter(lambda value: depth(value) <= 8), st.data())
def test_every_truncation_is_refused(value, data):
    whole = cbor2.dumps(value)
    with pytest.raises(MalformedInput):
        decode_cbor(whole[: data.draw(st.integers(0, len(whole) - 1))], "value")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "cut short"),
        ("00 00", "1 more bytes"),
        ("18 17", "shortest form"),
        ("18", "cut short"),
        ("19 00ff", "shortest form"),
        ("1a 0000ffff", "shortest form"),
        ("1b 00000000ffffffff", "shortest form"),
        ("58 01 00", "shortest form"),
        ("1c", "known length"),
        ("5f 41 00 ff", "known length"),
        ("7f 61 61 ff", "known length"),
        ("9f ff", "known length"),
        ("bf ff", "known length"),
        ("ff", "known length"),
        ("f8 20", "known length"),
        ("f9 3c00", "known length"),
        ("fb 3ff0000000000000", "known length"),
        ("f7", "simple value 23"),
        ("e0", "simple value 0"),
        ("62 ffff", "UTF-8"),
        ("a2 01 00 01 00", "once"),
        ("a2 61 61 00 61 61 00", "once"),
        ("a1 41 00 00", "key"),
        ("a1 80 00", "key"),
        ("a1 a0 00", "key"),
        ("a1 f5 00", "key"),
        ("a1 c1 00 00", "tags: none"),
        ("a1 00", "cut short"),
        ("c2 41 00", "tags: none"),
        ("d8 23 61 61", "tags: none"),
        ("81" * 9 + "00", "levels"),
        ("a1 00" * 9 + "00", "levels"),
        ("5b ffffffffffffffff", "cut short"),
        ("9b ffffffffffffffff", "at most 1024"),
        ("bb 00000001 00000000", "at most 1024"),
        ("99 0401" + "00" * 1025, "at most 1024"),
        ("82" + "99 0300" + "00" * 768 + "99 0300" + "00" * 768, "at most 1024"),
    ],
)
def test_hostile_cbor_is_refused(data, message):
    with pytest.raises(MalformedInput, match=message):
        decode_cbor(bytes.fromhex(data), "value")


def test_only_the_tags_asked_for_are_read():
    assert decode_cbor(bytes.fromhex("d200"), "x", tags=frozenset({18})) == Tagged(18, 0)
    with pytest.raises(MalformedInput, match="tags: 18"):
        decode_cbor(bytes.fromhex("d100"), "x", tags=frozenset({18}))


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_ecdsa_signatures_verify_and_nothing_else_does(curve):
    key, other = ec.generate_private_key(curve), ec.generate_private_key(curve)
    envelope = parse_sign1(sign1(key, b"payload" * 60), "token")
    assert sign1_fault(key.public_key(), envelope) is None
    assert sign1_fault(other.public_key(), envelope) is not None
    assert "not of" in str(sign1_fault(RSA_KEY.public_key(), envelope))


@pytest.mark.parametrize("size", [0, 23, 24, 255, 256, 65535, 65536])
def test_payloads_of_any_size_are_signed_as_cbor_writes_them(size):
    envelope = parse_sign1(sign1(EC_KEY, b"x" * size), "token")
    assert envelope.to_be_signed == cbor2.dumps(["Signature1", envelope.protected, b"", b"x" * size])
    assert sign1_fault(EC_KEY.public_key(), envelope) is None


@pytest.mark.parametrize("algorithm", [CoseAlgorithm.PS256, CoseAlgorithm.RS256])
def test_rsa_signatures_verify(algorithm):
    envelope = parse_sign1(sign1(RSA_KEY, b"payload", algorithm=algorithm), "token")
    assert sign1_fault(RSA_KEY.public_key(), envelope) is None
    assert "not RSA" in str(sign1_fault(EC_KEY.public_key(), envelope))


def test_an_algorithm_holds_for_its_own_curve_only():
    envelope = parse_sign1(sign1(EC_KEY, b"payload", algorithm=-35), "token")
    assert sign1_fault(EC_KEY.public_key(), envelope) == "the signature is ES384, the key is not of P-384"


@pytest.mark.parametrize("size", [0, 63, 65, 72])
def test_a_signature_of_another_length_is_refused(size):
    tagged = cbor2.loads(sign1(EC_KEY, b"payload"))
    parts = [*tagged.value[:3], bytes(size)]
    envelope = parse_sign1(cbor2.dumps(cbor2.CBORTag(18, parts)), "token")
    assert f"{size} bytes" in str(sign1_fault(EC_KEY.public_key(), envelope))
    zero = parse_sign1(cbor2.dumps(cbor2.CBORTag(18, [*tagged.value[:3], bytes(64)])), "token")
    assert sign1_fault(EC_KEY.public_key(), zero) is not None


ALG = cbor2.dumps({1: -7})


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([ALG, {}, b"p"], "array of 4"),
        ([ALG, {}, b"p", b"s", 0], "array of 4"),
        ([{1: -7}, {}, b"p", b"s"], "as headers"),
        ([ALG, b"", b"p", b"s"], "as headers"),
        ([ALG, {}, None, b"s"], "as payload"),
        ([ALG, {}, "p", b"s"], "as payload"),
        ([ALG, {}, b"p", None], "as payload"),
        ([b"", {}, b"p", b"s"], "cut short"),
        ([b"\x80", {}, b"p", b"s"], "a map as protected"),
        ([b"\xa0", {1: -7}, b"p", b"s"], "protected algorithm"),
        ([ALG, {1: -7}, b"p", b"s"], "each header once"),
        ([cbor2.dumps({1: -8}), {}, b"p", b"s"], "protected algorithm"),
        ([cbor2.dumps({1: "ES256"}), {}, b"p", b"s"], "protected algorithm"),
        ([cbor2.dumps({1: [-7]}), {}, b"p", b"s"], "protected algorithm"),
        ([cbor2.dumps({1: -7, 2: [99], 99: 0}), {}, b"p", b"s"], "critical"),
        ([ALG, {2: [1]}, b"p", b"s"], "critical"),
    ],
)
def test_malformed_envelopes_are_refused(parts, message):
    with pytest.raises(MalformedInput, match=message):
        parse_sign1(cbor2.dumps(cbor2.CBORTag(18, parts)), "token")


@pytest.mark.parametrize("tag", [None, 17, 98])
def test_another_tag_is_refused(tag):
    parts = [ALG, {}, b"p", b"s"]
    with pytest.raises(MalformedInput):
        parse_sign1(cbor2.dumps(parts if tag is None else cbor2.CBORTag(tag, parts)), "token")


@pytest.mark.parametrize("value", [5, b"abcd", "abcd", {0: ALG, 1: {}, 2: b"p", 3: b"s"}])
def test_what_is_no_array_is_refused(value):
    with pytest.raises(MalformedInput, match="array of 4"):
        parse_sign1(cbor2.dumps(cbor2.CBORTag(18, value)), "token")


@pytest.mark.parametrize("first", [0, 2, 3, 6, 7, 0x30])
def test_points_in_another_form_are_refused(first):
    with pytest.raises(MalformedInput, match="uncompressed"):
        parse_point(bytes([first]) + point(EC_KEY)[1:])


@pytest.mark.parametrize("text", [b"[]", b"5", b"null", b'"EC"'])
def test_json_that_is_no_object_is_refused(text):
    with pytest.raises(MalformedInput, match="an object"):
        parse_jwk(text)


def test_a_long_jwk_is_refused():
    with pytest.raises(MalformedInput, match="at most 16384 bytes"):
        parse_jwk(b" " * 16385)


def test_unprotected_headers_change_nothing():
    envelope = parse_sign1(sign1(EC_KEY, b"payload", unprotected={4: b"kid"}), "token")
    assert envelope.unprotected == {4: b"kid"}
    assert sign1_fault(EC_KEY.public_key(), envelope) is None


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_keys_are_read_in_every_form(curve):
    key = ec.generate_private_key(curve)
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for data in (point(key), cose_key(key), der(key)):
        assert token_key(data) == key.public_key()
        assert load_public_key(data) == key.public_key()
    assert load_public_key(b"\n" + pem) == key.public_key()
    assert load_public_key(json.dumps(JWK).encode()) == EC_KEY.public_key()
    assert point_key(parse_point(point(key))) == key.public_key()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x04",
        point(EC_KEY)[:-1],
        point(EC_KEY) + b"\0",
        b"\x04" + bytes(64),
        b"\x02" + point(EC_KEY)[1:33],
        der(EC_KEY)[:-1],
        der(rsa.generate_private_key(65537, 1024)),  # noqa: S505
        der(ec.generate_private_key(ec.SECP256K1())),
        ed25519.Ed25519PrivateKey.generate()
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        cose_key(EC_KEY)[:-1],
        cbor2.dumps({1: 2, -1: 1, -2: b"x", -3: b"y"}),
        cbor2.dumps({1: 2, -1: 9, -2: bytes(32), -3: bytes(32)}),
        cbor2.dumps({1: 2, -1: 1, -2: bytes(32), -3: True}),
        cbor2.dumps({**cbor2.loads(cose_key(EC_KEY)), -4: bytes(32)}),
        cbor2.dumps({1: 1, -1: 6, -2: bytes(32)}),
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"{}",
        b'{"kty": "RSA"}',
        b'{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}',
        b'{"kty": "EC", "crv": ["P-256"], "x": "AA", "y": "AA"}',
        b'{"kty": "EC", "crv": "P-256", "x": "!", "y": 5}',
        b'{"kty": "EC", "crv": "P-256", "x": "AA==", "y": "AA"}',
        b'{"kty": "EC", "crv": "P-256", "x": "\xc3\xa9", "y": "AA"}',
        json.dumps(JWK | {"d": "AA"}).encode(),
        json.dumps(JWK | {"kty": "OKP"}).encode(),
        json.dumps(JWK | {"x": 5}).encode(),
        json.dumps(JWK | {"x": JWK["x"] + "="}).encode(),
        json.dumps(JWK | {"x": base64.urlsafe_b64encode(b"\0" + X).decode()}).encode(),
        json.dumps([JWK]).encode(),
        cbor2.dumps([cbor2.loads(cose_key(EC_KEY))]),
        cbor2.dumps({**cbor2.loads(cose_key(EC_KEY)), 1: 1}),
        cbor2.dumps({**cbor2.loads(cose_key(EC_KEY)), 1: None}),
        cbor2.dumps({**cbor2.loads(cose_key(EC_KEY)), -2: 5}),
        cbor2.dumps({**cbor2.loads(cose_key(EC_KEY)), -1: "P-256"}),
        cbor2.dumps({**cbor2.loads(cose_key(EC_KEY)), -2: b"\0" + X}),
        cbor2.dumps({**cbor2.loads(cose_key(EC_KEY)), -3: b"\0" + Y}),
        json.dumps(JWK | {"crv": "P-384"}).encode(),
        json.dumps(JWK | {"y": JWK["x"]}).encode(),
        json.dumps(JWK | {"y": JWK["y"] + "A"}).encode(),
        b'{"a":' * 5000,
        b"{" + b" " * 20000,
        b"\xff" * 40,
    ],
)
def test_what_is_no_public_key_is_refused(data):
    with pytest.raises(MalformedInput):
        load_public_key(data)
