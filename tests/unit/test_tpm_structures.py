"""The TPM parsers on real quotes, and on everything that is nearly one."""

import base64
import json
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.vectors import vector

from imarium.errors import MalformedInput, UsageError
from imarium.formats.registers import PcrIndex
from imarium.formats.tpm import (
    ATTEST_QUOTE,
    TPM_GENERATED,
    EccCurve,
    EccKey,
    EcdsaSignature,
    ObjectAttributes,
    PcrSelection,
    RsaKey,
    RsaSignature,
    SignatureScheme,
    StorageCipher,
    parse_attest,
    parse_public,
    parse_public_area,
    parse_selection,
    parse_signature,
    pcr_digest,
    selection_bytes,
)
from imarium.hashes import SHA1, SHA256, SHA384, by_name

AK = 0x00050072  # fixedTPM fixedParent sensitiveDataOrigin userWithAuth restricted sign
EK = 0x000300B2  # fixedTPM fixedParent sensitiveDataOrigin adminWithPolicy restricted decrypt


def sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def ecc_area(attributes: int = AK, *, scheme: bytes = b"\x00\x18\x00\x0b", curve: int = 3, x: int = 32) -> bytes:
    head = struct.pack(">HHI", 0x0023, 0x000B, attributes) + sized(b"") + b"\x00\x10" + scheme
    return head + struct.pack(">HH", curve, 0x0010) + sized(b"\x01" * x) + sized(b"\x02" * 32)


def rsa_area(attributes: int = AK, *, symmetric: bytes = b"\x00\x10", scheme: bytes = b"\x00\x14\x00\x0b") -> bytes:
    head = struct.pack(">HHI", 0x0001, 0x000B, attributes) + sized(b"\x07" * 32) + symmetric + scheme
    return head + struct.pack(">HI", 2048, 0) + sized(b"\xff" * 256)


def guard_quote() -> bytes:
    return vector("guard-oss-dl160/quote.msg")


def guard_signature() -> bytes:
    return vector("guard-oss-dl160/quote.sig")


def trustee_signature() -> bytes:
    text = json.loads(vector("trustee/tpm_evidence.json"))["tpm_quote"]["signature"]
    return base64.b64decode(text + "=" * (-len(text) % 4))


STRUCTURES: dict[str, tuple[Callable[[bytes], object], Callable[[], bytes]]] = {
    "attest": (parse_attest, guard_quote),
    "ecdsa": (parse_signature, guard_signature),
    "rsassa": (parse_signature, trustee_signature),
    "ecc": (parse_public, lambda: sized(ecc_area())),
    "rsa": (parse_public, lambda: sized(rsa_area())),
    "ecc area": (parse_public_area, ecc_area),
    "rsa area": (parse_public_area, rsa_area),
    "selection": (parse_selection, lambda: selection_bytes({SHA256: (PcrIndex(10),), SHA1: ()})),
}


def test_a_servers_quote_parses_and_its_digest_is_that_of_its_registers() -> None:
    attest = parse_attest(guard_quote())
    assert (attest.magic, attest.kind) == (TPM_GENERATED, ATTEST_QUOTE)
    assert attest.qualified_signer.hex().startswith("000baa128335b22e60")
    assert len(attest.extra_data) == 32
    assert attest.clock_info.clock == 0x4208AA5AF
    assert (attest.clock_info.reset_count, attest.clock_info.restart_count) == (21, 0)
    assert attest.clock_info.safe
    assert attest.firmware_version == 0x00490014_44A01A1C
    assert attest.quote is not None
    every = tuple(PcrIndex(index) for index in range(24))
    assert list(attest.quote.selection.items()) == [(SHA256, every), (SHA1, every)]
    pcrs = json.loads(vector("guard-oss-dl160/pcrs.json"))
    values = {
        by_name(bank): {PcrIndex(int(index)): bytes.fromhex(value) for index, value in of_bank.items()}
        for bank, of_bank in pcrs.items()
    }
    assert pcr_digest(attest.quote.selection, values, SHA256) == attest.quote.pcr_digest
    swapped = dict(reversed(list(attest.quote.selection.items())))
    assert pcr_digest(swapped, values, SHA256) != attest.quote.pcr_digest


def test_signatures_of_both_kinds_parse() -> None:
    ecdsa = parse_signature(guard_signature())
    assert isinstance(ecdsa, EcdsaSignature)
    assert (ecdsa.scheme, ecdsa.hash) == (SignatureScheme.ECDSA, SHA256)
    assert (ecdsa.r[:2].hex(), ecdsa.s[:2].hex()) == ("a494", "cd64")
    rsassa = parse_signature(trustee_signature())
    assert isinstance(rsassa, RsaSignature)
    assert (rsassa.scheme, rsassa.hash, len(rsassa.value)) == (SignatureScheme.RSASSA, SHA256, 256)


def test_public_areas_of_both_kinds_parse() -> None:
    ecc = parse_public_area(ecc_area())
    assert ecc.key == EccKey(EccCurve.P256, b"\x01" * 32, b"\x02" * 32)
    assert ecc.attributes & ObjectAttributes.RESTRICTED
    assert ecc.scheme is not None
    assert (ecc.scheme.scheme, ecc.scheme.hash, ecc.storage) == (SignatureScheme.ECDSA, SHA256, None)
    assert ecc.name == b"\x00\x0b" + SHA256.digest(ecc_area())
    assert parse_public(sized(ecc_area())) == ecc
    rsa = parse_public_area(rsa_area())
    assert rsa.key == RsaKey(2048, 65537, b"\xff" * 256)
    assert rsa.auth_policy == b"\x07" * 32
    ek = parse_public_area(rsa_area(EK, symmetric=bytes.fromhex("000600800043"), scheme=b"\x00\x10"))
    assert ek.storage == StorageCipher("AES", 128)
    assert ek.scheme is None


@pytest.mark.parametrize("kind", STRUCTURES)
def test_every_truncation_and_every_addition_is_an_error(kind: str) -> None:
    parse, data = STRUCTURES[kind]
    whole = data()
    parse(whole)
    for end in range(len(whole)):
        with pytest.raises(MalformedInput):
            parse(whole[:end])
    for tail in (b"\x00", b"\xff", b"\x00" * 4, bytes(5000)):
        with pytest.raises(MalformedInput):
            parse(whole + tail)


@pytest.mark.parametrize("kind", STRUCTURES)
@given(data=st.data())
def test_changed_bytes_give_a_value_or_malformed_input(kind: str, data: st.DataObject) -> None:
    parse, make = STRUCTURES[kind]
    whole = bytearray(make())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse(bytes(whole))
    except MalformedInput as error:
        assert "\n" not in str(error)


@given(st.binary(max_size=400))
def test_random_bytes_give_malformed_input(data: bytes) -> None:
    for parse in (parse_attest, parse_signature, parse_public, parse_public_area):
        with pytest.raises(MalformedInput):
            parse(data)


@pytest.mark.parametrize(
    ("area", "offset"),
    [
        pytest.param(b"\x00\x08" + ecc_area()[2:], 0, id="a keyed hash, not a key"),
        pytest.param(ecc_area()[:2] + b"\x00\x10" + ecc_area()[4:], 2, id="no name algorithm"),
        pytest.param(ecc_area(AK | 1), 4, id="reserved attribute 0"),
        pytest.param(ecc_area(AK | 1 << 31), 4, id="reserved attribute 31"),
        pytest.param(ecc_area()[:8] + sized(b"\x01") + ecc_area()[10:], 8, id="policy of no digest's size"),
        pytest.param(rsa_area(symmetric=bytes.fromhex("000600800043")), 42, id="a signing key with AES"),
        pytest.param(rsa_area(EK, symmetric=bytes.fromhex("000600800042"), scheme=b"\x00\x10"), 44, id="CBC"),
        pytest.param(rsa_area(EK), 44, id="a scheme without the sign attribute"),
        pytest.param(rsa_area(scheme=b"\x00\x18\x00\x0b"), 44, id="ECDSA with RSA"),
        pytest.param(ecc_area(scheme=b"\x00\x1a\x00\x0b\x00\x01"), 12, id="ECDAA"),
        pytest.param(ecc_area(scheme=b"\x00\x18\x00\x0a"), 14, id="an unknown hash"),
        pytest.param(ecc_area(curve=0x20), 16, id="the SM2 curve"),
        pytest.param(ecc_area(x=33), 20, id="a coordinate too long for the curve"),
        pytest.param(rsa_area().replace(struct.pack(">HI", 2048, 0), struct.pack(">HI", 2049, 0)), 48, id="bits"),
        pytest.param(rsa_area().replace(struct.pack(">HI", 2048, 0), struct.pack(">HI", 2048, 4)), 50, id="exponent"),
        pytest.param(rsa_area().replace(b"\x01\x00\xff", b"\x01\x00\x7f"), 54, id="a short modulus"),
        pytest.param(rsa_area()[:-1] + b"\xfe", 54, id="an even modulus"),
    ],
)
def test_a_public_area_that_is_not_a_key_we_know_is_refused_where_it_goes_wrong(area: bytes, offset: int) -> None:
    with pytest.raises(MalformedInput) as caught:
        parse_public_area(area)
    assert caught.value.what == "TPMT_PUBLIC"
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("00000011", id="too many banks"),
        pytest.param("00000001 000a 03 000000", id="an unknown bank"),
        pytest.param("00000001 000b 02 0000", id="a bit map too short"),
        pytest.param("00000001 000b 05 0000000000", id="a bit map too long"),
        pytest.param("00000002 000b 03 000400 000b 03 000800", id="a bank twice"),
    ],
)
def test_selections_out_of_bounds_are_refused(text: str) -> None:
    with pytest.raises(MalformedInput):
        parse_selection(bytes.fromhex(text))


@given(
    st.dictionaries(
        st.sampled_from([SHA1, SHA256, SHA384]),
        st.sets(st.integers(0, 31)).map(lambda found: tuple(PcrIndex(index) for index in sorted(found))),
    )
)
def test_a_selection_comes_back_as_it_was_in_the_same_order(selection: PcrSelection) -> None:
    again = parse_selection(selection_bytes(selection))
    assert list(again.items()) == list(selection.items())


@pytest.mark.parametrize(
    "selection",
    [{SHA256: (PcrIndex(32),)}, {SHA256: (PcrIndex(-1),)}, {by_name("md5"): (PcrIndex(1),)}],
)
def test_a_selection_no_tpm_has_is_not_written(selection: PcrSelection) -> None:
    with pytest.raises(UsageError):
        selection_bytes(selection)


def test_a_statement_of_another_kind_keeps_its_body_unread() -> None:
    quote = guard_quote()
    attest = parse_attest(quote[:4] + b"\x80\x19" + quote[6:])
    assert attest.quote is None
    assert attest.body == quote[-50:]
    with pytest.raises(MalformedInput):
        parse_attest(quote[:4] + b"\x80\x13" + quote[6:])


def test_values_that_are_missing_or_of_the_wrong_size_are_named() -> None:
    selection = {SHA256: (PcrIndex(0), PcrIndex(10))}
    with pytest.raises(MalformedInput, match="PCR 10 of the sha256 bank"):
        pcr_digest(selection, {SHA256: {PcrIndex(0): bytes(32)}}, SHA256)
    with pytest.raises(MalformedInput, match="found 20 bytes"):
        pcr_digest(selection, {SHA256: {PcrIndex(0): bytes(20)}}, SHA256)
