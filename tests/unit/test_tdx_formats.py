"""TDX structures: what is taken, and what is refused."""

import base64
import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.tdx_builders import patch, recorded
from tests.vectors import vector

from imarium.errors import MalformedInput, UsageError
from imarium.formats.tdx import (
    IMA_RTMR,
    MAX_QUOTE_SIZE,
    RTMRS,
    TD_REPORT_SIZE,
    CcEventIndex,
    RtmrIndex,
    TdAttributes,
    event_index,
    parse_td_report,
    parse_tdx_quote,
    rtmr_index,
    tdx_boot_aggregate,
)
from imarium.formats.tdx.certificates import MAX_CERTIFICATES, parse_pem_chain

V5 = "go-tdx-guest/quote_v5_sample.dat"


@pytest.fixture(scope="module", params=["dcap-qvl/tdx_quote", V5])
def quote(request) -> bytes:
    return parse_tdx_quote(vector(request.param)).data


def pem(der: bytes, *, width: int = 64, end: bytes = b"\n") -> bytes:
    digits = base64.b64encode(der)
    lines = [digits[at : at + width] for at in range(0, len(digits), width)]
    return end.join([b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""])


class TestQuote:
    def test_fields_are_where_they_are_in_version_4(self):
        data = vector("dcap-qvl/tdx_quote")
        quote = parse_tdx_quote(data)
        td = quote.body.td
        assert (quote.version, quote.signed) == (4, data[:632])
        assert (td.mrtd, quote.body.report_data) == (data[184:232], data[568:632])
        assert td.registers == {RtmrIndex(n): data[376 + 48 * n : 424 + 48 * n] for n in range(4)}
        assert (quote.body.tee_tcb_svn2, quote.body.mr_service_td) == (None, None)
        assert td.attributes == TdAttributes.SEPT_VE_DISABLE
        assert data[len(quote.data) :] == bytes(70)

    def test_fields_are_six_bytes_later_in_version_5(self):
        data = vector(V5)
        quote = parse_tdx_quote(data)
        assert (quote.version, quote.signed) == (5, data[: 54 + 648])
        assert (quote.body.td.mrtd, quote.body.report_data) == (data[190:238], data[574:638])
        assert quote.body.td.rtmrs[3] == data[382 + 144 : 382 + 192]
        assert (quote.body.tee_tcb_svn2, quote.body.mr_service_td) == (data[638:654], data[654:702])

    def test_a_version_5_quote_may_have_a_body_of_tdx_1_0(self):
        old = recorded()
        data = patch(old.data[:48], {0: b"\x05"}) + struct.pack("<HI", 2, 584) + old.data[48:]
        quote = parse_tdx_quote(data)
        assert (quote.version, quote.body) == (5, old.body)
        assert quote.signed == data[: 54 + 584]

    def test_every_cut_is_malformed(self, quote):
        for size in range(len(quote)):
            with pytest.raises(MalformedInput) as caught:
                parse_tdx_quote(quote[:size])
            assert caught.value.what == "TDX quote"
            assert 0 <= caught.value.offset <= size

    def test_zeros_may_follow_and_nothing_else(self, quote):
        assert parse_tdx_quote(quote + bytes(3000)).data == quote
        for extra in (b"\x01", bytes(200) + b"\x80", b"\0\xff\0"):
            with pytest.raises(MalformedInput, match="zeros behind the quote") as caught:
                parse_tdx_quote(quote + extra)
            assert caught.value.offset == len(quote)

    def test_a_long_input_is_refused_unread(self, quote):
        assert parse_tdx_quote(quote.ljust(MAX_QUOTE_SIZE, b"\0")).data == quote
        with pytest.raises(MalformedInput, match="at most 65536 bytes"):
            parse_tdx_quote(quote.ljust(MAX_QUOTE_SIZE + 1, b"\0"))

    @pytest.mark.parametrize(
        ("at", "value", "message"),
        [
            (0, b"\x03", "version 4 or 5"),
            (0, b"\x06", "version 4 or 5"),
            (2, b"\x03", "ECDSA P-256"),
            (4, b"\0", "a quote of a TD"),
            (635, b"\x7f", "bytes of signature data"),
            (764, b"\x05", "certification data type 6"),
            (766, b"\0", "bytes of certification data"),
            (632 + 4 + 134 + 448, b"\xff\xff", "QE authentication data"),
            (632 + 4 + 134 + 482, b"\x04", "certification data type 5"),
            (632 + 4 + 134 + 484, b"\0", "bytes of certification data"),
            (632 + 4 + 134 + 488, b"+", "PEM certificates"),
        ],
    )
    def test_what_is_wrong_is_named_with_its_place(self, at, value, message):
        with pytest.raises(MalformedInput, match=message) as caught:
            parse_tdx_quote(patch(recorded().data, {at: value}))
        assert abs(caught.value.offset - at) <= 4

    @pytest.mark.parametrize("head", [(1, 384), (3, 584), (2, 648), (4, 648)])
    def test_bodies_of_unknown_types_and_sizes_are_refused(self, head):
        with pytest.raises(MalformedInput, match=r"a TDX 1\.0 body") as caught:
            parse_tdx_quote(patch(vector(V5), {48: struct.pack("<HI", *head)}))
        assert caught.value.offset == 48

    @given(st.binary(max_size=2000))
    def test_random_bytes_are_malformed(self, data):
        with pytest.raises(MalformedInput):
            parse_tdx_quote(data)

    @given(st.dictionaries(st.integers(0, 5000), st.binary(min_size=1, max_size=4), min_size=1, max_size=5))
    def test_a_changed_quote_parses_or_is_malformed(self, changes):
        data = patch(recorded().data, changes)
        try:
            quote = parse_tdx_quote(data)
        except MalformedInput:
            return
        assert data.startswith(quote.data)


class TestCertificates:
    def test_a_chain_is_taken_apart(self):
        chain = (b"leaf" * 40, b"ca", b"root" * 20)
        text = b"".join(map(pem, chain))
        assert parse_pem_chain(text) == parse_pem_chain(text + b"\0") == chain
        assert parse_pem_chain(b"".join(pem(der, width=76, end=b"\r\n") for der in chain)) == chain
        assert parse_pem_chain(text.removesuffix(b"\n")) == chain

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"\0",
            pem(b"a") + b"\0\0",
            b" " + pem(b"a"),
            pem(b"a") + b"x",
            pem(b"a") + b"\n" + pem(b"b"),
            pem(b"a").replace(b"YQ==", b"YR=="),
            pem(b"a").replace(b"YQ==", b"YQ="),
            pem(b"a").replace(b"YQ==", b"YQ==YQ=="),
            pem(b"a").replace(b"YQ==", b"Y Q=="),
            pem(b"a") * (MAX_CERTIFICATES + 1),
        ],
    )
    def test_anything_else_is_malformed(self, text):
        with pytest.raises(MalformedInput, match="PCK certificate chain"):
            parse_pem_chain(text)


def td_report() -> bytes:
    """A TDREPORT with digests that are right. Offsets are those of the TDX Module ABI specification."""
    data = bytearray(TD_REPORT_SIZE)
    data[0] = 0x81
    fields = {16: b"C" * 16, 128: bytes(range(64)), 224: b"M" * 32, 264: b"T" * 16, 280: b"S" * 48}
    fields |= {512: b"\x01", 528: b"R" * 48, 912: b"V" * 48}
    fields |= {720 + 48 * index: bytes([0x10 + index]) * 48 for index in range(4)}
    for at, value in fields.items():
        data[at : at + len(value)] = value
    data[32:80] = hashlib.sha384(data[256:495]).digest()
    data[80:128] = hashlib.sha384(data[512:]).digest()
    return bytes(data)


class TestReport:
    def test_fields(self):
        report = parse_td_report(td_report())
        assert (report.cpu_svn, report.mac, report.tee_tcb_svn) == (b"C" * 16, b"M" * 32, b"T" * 16)
        assert (report.report_data, report.mr_seam) == (bytes(range(64)), b"S" * 48)
        assert (report.td.mrtd, report.service_td_hash) == (b"R" * 48, b"V" * 48)
        assert report.td.registers == {index: bytes([0x10 + index]) * 48 for index in RTMRS}
        assert report.td.attributes.debuggable
        assert report.hashes_agree

    @pytest.mark.parametrize("at", [32, 80, 264, 376, 494, 512, 720, 1023])
    def test_digests_that_disagree_are_seen(self, at):
        data = td_report()
        assert not parse_td_report(patch(data, {at: bytes([data[at] ^ 1])})).hashes_agree

    def test_sizes_and_types_are_exact(self):
        for data in (b"", td_report()[:-1], td_report() + b"\0"):
            with pytest.raises(MalformedInput, match="1024 bytes"):
                parse_td_report(data)
        for changes in ({0: b"\0"}, {0: b"\x80"}, {1: b"\x01"}):
            with pytest.raises(MalformedInput, match="a TDX report"):
                parse_td_report(patch(td_report(), changes))


class TestRegisters:
    def test_the_counts_of_an_event_log_and_of_a_td_convert(self):
        assert [rtmr_index(CcEventIndex(n)) for n in range(5)] == [None, 0, 1, 2, 3]
        assert all(rtmr_index(event_index(rtmr)) == rtmr for rtmr in RTMRS)
        for wrong in (-1, 5):
            with pytest.raises(UsageError):
                rtmr_index(CcEventIndex(wrong))
        for wrong in (-1, 4):
            with pytest.raises(UsageError):
                event_index(RtmrIndex(wrong))

    def test_boot_aggregate(self):
        registers = {RtmrIndex(n): bytes([n + 1]) * 48 for n in range(3)}
        mrtd = b"\x77" * 48
        expected = hashlib.sha384(mrtd + b"\x01" * 48 + b"\x02" * 48 + b"\x03" * 48).digest()
        assert tdx_boot_aggregate(mrtd, registers) == expected
        assert tdx_boot_aggregate(mrtd, registers | {RtmrIndex(3): b"\x09" * 48}) == expected
        with pytest.raises(UsageError, match="RTMR 2"):
            tdx_boot_aggregate(mrtd, {index: value for index, value in registers.items() if index != IMA_RTMR})
        with pytest.raises(UsageError, match="48 bytes"):
            tdx_boot_aggregate(mrtd[:-1], registers)

    def test_debug_is_the_whole_group(self):
        assert all(TdAttributes(1 << bit).debuggable for bit in range(8))
        assert not TdAttributes(~0xFF & (1 << 64) - 1).debuggable
