"""Event logs made here: what is taken, what is refused, and what a replay gives."""

import hashlib
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imarium.errors import MalformedInput, UsageError
from imarium.formats.eventlog import (
    CC_LOG,
    EV_EVENT_TAG,
    EV_NO_ACTION,
    EV_SEPARATOR,
    MAX_LOG_SIZE,
    TPM_LOG,
    CcType,
    application_events,
    event_type_name,
    parse_ccel_table,
    parse_event_log,
    parse_tagged_event,
    replay_events,
    rtmr_values,
)
from imarium.formats.registers import PcrIndex
from imarium.formats.tdx import RTMRS, CcEventIndex
from imarium.hashes import SHA1, SHA256, SHA384

UNKNOWN = (0x7FFF, 24)
"""An algorithm nobody knows, with 24-byte digests."""

Sizes = Sequence[tuple[int, int]]
SHA384_ONLY: Sizes = ((0x0C, 48),)
TWO_BANKS: Sizes = ((0x04, 20), (0x0B, 32))


def header(sizes: Sizes = SHA384_ONLY, *, vendor: bytes = b"", register: int = 0, count: int | None = None) -> bytes:
    body = b"Spec ID Event03\0" + struct.pack("<IBBBB", 0, 0, 2, 0, 2)
    body += struct.pack("<I", len(sizes) if count is None else count)
    body += b"".join(struct.pack("<HH", *pair) for pair in sizes) + bytes([len(vendor)]) + vendor
    return struct.pack("<II20xI", register, EV_NO_ACTION, len(body)) + body


def event(register: int, kind: int, digests: Sequence[tuple[int, bytes]], data: bytes = b"") -> bytes:
    values = b"".join(struct.pack("<H", identifier) + digest for identifier, digest in digests)
    return struct.pack("<III", register, kind, len(digests)) + values + struct.pack("<I", len(data)) + data


def sha384_event(register: int, data: bytes, kind: int = EV_SEPARATOR) -> bytes:
    return event(register, kind, [(0x0C, hashlib.sha384(data).digest())], data)


def two(register: int, data: bytes, kind: int = EV_SEPARATOR) -> bytes:
    digests = [(0x04, hashlib.sha1(data).digest()), (0x0B, hashlib.sha256(data).digest())]  # noqa: S324
    return event(register, kind, digests, data)


CC = header(register=1) + sha384_event(1, b"one") + sha384_event(3, b"two", 0x80000001) + sha384_event(1, b"three")


class TestReading:
    def test_events(self):
        events = list(parse_event_log(CC, CC_LOG))
        assert [one.number for one in events] == [0, 1, 2]
        assert [one.register for one in events] == [1, 3, 1]
        assert [one.data for one in events] == [b"one", b"two", b"three"]
        assert [one.type_name for one in events] == ["EV_SEPARATOR", "EV_EFI_VARIABLE_DRIVER_CONFIG", "EV_SEPARATOR"]
        assert CC[events[2].offset :] == sha384_event(1, b"three")
        assert all(one.hashes_data(SHA384) and one.digest(SHA256) is None for one in events)

    def test_a_log_is_read_again_and_again(self):
        log = parse_event_log(CC, CC_LOG)
        assert list(log) == list(log)

    @pytest.mark.parametrize("padding", [b"", b"\0", b"\xff", b"\0" * 11, b"\xff" * 3, b"\0" * 5000, b"\xff" * 5000])
    def test_a_cc_log_ends_where_its_padding_begins(self, padding):
        assert len(list(parse_event_log(CC + padding, CC_LOG))) == 3

    @pytest.mark.parametrize("padding", [b"\0" * 40 + b"\x01", b"\xff" * 40 + b"\0", b"\xff\xff\xff\xfe" * 5, b"\x05"])
    def test_padding_is_of_one_kind(self, padding):
        with pytest.raises(MalformedInput) as caught:
            list(parse_event_log(CC + padding, CC_LOG))
        assert caught.value.offset >= len(CC)

    @pytest.mark.parametrize("padding", [b"\0" * 16, b"\xff" * 16, b"\0"])
    def test_a_tpm_log_has_no_padding(self, padding):
        data = header(TWO_BANKS) + two(0, b"x")
        assert len(list(parse_event_log(data, TPM_LOG))) == 1
        with pytest.raises(MalformedInput):
            list(parse_event_log(data + padding, TPM_LOG))

    @pytest.mark.parametrize("kind", [TPM_LOG, CC_LOG])
    def test_every_cut_ends_at_an_event_or_is_malformed(self, kind):
        log = parse_event_log(CC, kind)
        ends = {log.start, *(one.offset for one in log), len(CC)}
        for size in range(len(CC)):
            try:
                events = list(parse_event_log(CC[:size], kind))
            except MalformedInput as error:
                assert error.offset <= size
            else:
                assert size in ends
                assert len(events) < 3

    def test_unknown_algorithms_are_stepped_over(self):
        sizes = (UNKNOWN, (0x0B, 32))
        digests = [(0x0B, b"\x11" * 32), (UNKNOWN[0], b"\x22" * 24)]
        log = parse_event_log(header(sizes, vendor=b"maker") + event(0, 1, digests, b"data"), TPM_LOG)
        (only,) = log
        assert (log.banks, log.vendor, log.sizes) == ((SHA256,), b"maker", dict(sizes))
        assert only.digests == dict(digests)
        assert set(replay_events(log)[PcrIndex(0)]) == {SHA256}

    @pytest.mark.parametrize(
        "data",
        [
            header(()),
            header(tuple((0x4000 + number, 20) for number in range(17))),
            header(((0x0B, 20),)),
            header(((0x0B, 32), (0x0B, 32))),
            header(((0x7FFF, 0),)),
            header(((0x7FFF, 129),)),
            header(count=2),
            header(count=0xFFFFFFFF),
            header(register=24),
            header()[:28] + struct.pack("<I", 0xFFFFFFFF) + header()[32:],
            struct.pack("<II20xI", 0, 1, 4) + b"SHA1",
            struct.pack("<II20xI", 0, EV_NO_ACTION, 4) + b"SHA1",
            b"",
        ],
    )
    def test_broken_headers(self, data):
        with pytest.raises(MalformedInput):
            parse_event_log(data, TPM_LOG)

    @pytest.mark.parametrize(
        "broken",
        [
            event(0, 1, []),
            event(0, 1, [(0x0C, bytes(48)), (0x0C, bytes(48))]),
            event(0, 1, [(0x0B, bytes(32))]),
            event(24, 1, [(0x0C, bytes(48))]),
            event(0, 1, [(0x0C, bytes(48))])[:-4] + struct.pack("<I", 1),
            struct.pack("<III", 0, 1, 0xFFFFFFFF),
        ],
    )
    def test_broken_events(self, broken):
        with pytest.raises(MalformedInput, match="TPM event log"):
            list(parse_event_log(header() + broken, TPM_LOG))

    def test_a_bank_an_event_leaves_out_is_malformed(self):
        with pytest.raises(MalformedInput, match="2 digests"):
            list(parse_event_log(header(TWO_BANKS) + event(0, 1, [(0x0B, bytes(32))]), TPM_LOG))
        with pytest.raises(MalformedInput, match="once"):
            list(parse_event_log(header(TWO_BANKS) + event(0, 1, [(0x0B, bytes(32))] * 2), TPM_LOG))

    def test_a_cc_log_counts_five_registers_and_never_extends_mrtd(self):
        assert next(iter(parse_event_log(header() + sha384_event(0, b"", EV_NO_ACTION), CC_LOG))).register == 0
        for register in (0, 5):
            with pytest.raises(MalformedInput):
                list(parse_event_log(header() + sha384_event(register, b"x"), CC_LOG))

    def test_a_long_log_is_refused_unread(self):
        with pytest.raises(MalformedInput, match="at most"):
            parse_event_log(CC.ljust(MAX_LOG_SIZE + 1, b"\0"), CC_LOG)

    @given(st.binary(max_size=300), st.sampled_from([TPM_LOG, CC_LOG]))
    def test_random_bytes(self, data, kind):
        for text in (data, header() + data):
            try:
                events = list(parse_event_log(text, kind))
            except MalformedInput:
                continue
            assert sum(len(one.data) for one in events) <= len(text)

    def test_names(self):
        assert event_type_name(0x800000E0) == "EV_EFI_VARIABLE_AUTHORITY"
        assert event_type_name(0x8000FFFF) == "0x8000ffff"


class TestReplay:
    def test_registers_are_chains_of_digests(self):
        values = replay_events(parse_event_log(CC, CC_LOG))
        chain = bytes(48)
        for data in (b"one", b"three"):
            chain = hashlib.sha384(chain + hashlib.sha384(data).digest()).digest()
        assert set(values) == {1, 3}
        assert values[CcEventIndex(1)] == {SHA384: chain}
        rtmrs = rtmr_values(values)
        assert [rtmrs[index] for index in RTMRS] == [chain, bytes(48), values[CcEventIndex(3)][SHA384], bytes(48)]

    def test_no_action_extends_nothing(self):
        data = header() + sha384_event(2, b"x", EV_NO_ACTION)
        assert replay_events(parse_event_log(data, CC_LOG)) == {}

    def test_banks(self):
        log = parse_event_log(header(TWO_BANKS) + two(7, b"x"), TPM_LOG)
        digest = hashlib.sha256(bytes(32) + hashlib.sha256(b"x").digest()).digest()
        assert replay_events(log, [SHA256]) == {PcrIndex(7): {SHA256: digest}}
        assert set(replay_events(log)[PcrIndex(7)]) == {SHA1, SHA256}
        with pytest.raises(UsageError, match="no sha384 digests; it has sha1, sha256"):
            replay_events(log, [SHA384])

    def test_rtmrs_need_their_own_bank(self):
        log = parse_event_log(header(TWO_BANKS) + two(1, b"x"), CC_LOG)
        with pytest.raises(UsageError, match="SHA-384"):
            rtmr_values(replay_events(log))

    @pytest.mark.parametrize("locality", [0, 3, 4])
    def test_startup_locality_is_pcr_0s_first_value(self, locality):
        start = two(0, b"StartupLocality\0" + bytes([locality]), EV_NO_ACTION)
        value = bytes(31) + bytes([locality])
        log = parse_event_log(header(TWO_BANKS) + start, TPM_LOG)
        assert replay_events(log, [SHA256]) == {PcrIndex(0): {SHA256: value}}
        log = parse_event_log(header(TWO_BANKS) + start + two(0, b"x"), TPM_LOG)
        value = hashlib.sha256(value + hashlib.sha256(b"x").digest()).digest()
        assert replay_events(log, [SHA256]) == {PcrIndex(0): {SHA256: value}}

    def test_startup_locality_elsewhere_means_nothing(self):
        start = two(1, b"StartupLocality\0\x03", EV_NO_ACTION)
        assert replay_events(parse_event_log(header(TWO_BANKS) + start, TPM_LOG)) == {}
        start = sha384_event(0, b"StartupLocality\0\x03", EV_NO_ACTION)
        assert replay_events(parse_event_log(header() + start, CC_LOG)) == {}

    @pytest.mark.parametrize(
        "events",
        [
            [(b"StartupLocality\0\x05", EV_NO_ACTION)],
            [(b"StartupLocality\0", EV_NO_ACTION)],
            [(b"StartupLocality\0\x03\0", EV_NO_ACTION)],
            [(b"StartupLocality\0\x03", EV_NO_ACTION), (b"StartupLocality\0\x00", EV_NO_ACTION)],
            [(b"x", 1), (b"StartupLocality\0\x03", EV_NO_ACTION)],
        ],
    )
    def test_startup_locality_comes_first_and_once(self, events):
        data = header(TWO_BANKS) + b"".join(two(0, text, kind) for text, kind in events)
        with pytest.raises(MalformedInput, match="startup locality"):
            replay_events(parse_event_log(data, TPM_LOG))


def tagged(text: bytes, tag: bytes = b"LEAA") -> bytes:
    return tag + struct.pack("<I", len(text)) + text


class TestApplications:
    def read(self, data: bytes, kind: int = EV_EVENT_TAG):
        return list(application_events(parse_event_log(header() + sha384_event(4, data, kind), CC_LOG)))

    def test_a_content_may_have_spaces(self):
        (one,) = self.read(tagged(b"coco.com load some thing"))
        assert (one.number, one.domain, one.operation, one.content) == (0, "coco.com", "load", "some thing")

    def test_other_events_are_passed_over(self):
        assert self.read(tagged(b"a b c"), EV_SEPARATOR) == []
        assert self.read(tagged(b"a b c", b"ABCD")) == []
        assert self.read(b"LE") == []

    @pytest.mark.parametrize("data", [tagged(b"a b"), tagged(b"\xff \xff \xff"), tagged(b"a b c") + b"\0", b"LEAA\x09"])
    def test_broken_ones_are_malformed(self, data):
        with pytest.raises(MalformedInput, match="TaggedEvent"):
            self.read(data)

    def test_tagged_events_are_exact(self):
        assert parse_tagged_event(tagged(b"xyz", b"\1\0\0\0")).tag == 1
        with pytest.raises(MalformedInput):
            parse_tagged_event(tagged(b"xyz")[:-1])


class TestTable:
    def table(self, kind: int = 2, length: int = 56) -> bytes:
        data = bytearray(struct.pack("<4sIBB6s8sI4sI", b"CCEL", length, 1, 0, b"MAKER ", b"TABLE   ", 2, b"ABCD", 1))
        data += struct.pack("<BBHQQ", kind, 0, 0, 0x10000, 0xBEDB0000)
        data[9] = -sum(data) % 256
        return bytes(data)

    def test_fields(self):
        table = parse_ccel_table(self.table())
        assert (table.cc_type, table.log_size, table.log_address) == (CcType.TDX, 0x10000, 0xBEDB0000)
        assert parse_ccel_table(self.table(1)).cc_type is CcType.SEV

    def test_every_bit_counts(self):
        good = self.table()
        for at in range(len(good)):
            with pytest.raises(MalformedInput, match="CCEL table"):
                parse_ccel_table(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        for data in (b"", good[:-1], good + b"\0", self.table(0), self.table(3), self.table(length=57)):
            with pytest.raises(MalformedInput, match="CCEL table"):
                parse_ccel_table(data)
