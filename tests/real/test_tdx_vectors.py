"""Recorded quotes, reports and event logs of real machines. No TDX hardware was at hand."""

import base64
import hashlib
import itertools
import json

import pytest
from tests.vectors import vector

from imarium.errors import MalformedInput
from imarium.formats.eventlog import (
    CC_LOG,
    TPM_LOG,
    CcType,
    application_events,
    parse_ccel_table,
    parse_event_log,
    replay_events,
    rtmr_values,
)
from imarium.formats.registers import PcrIndex
from imarium.formats.tdx import TdAttributes, parse_td_report, parse_tdx_quote, rtmr_index
from imarium.hashes import SHA1, SHA256, SHA384
from imarium.verifier.tdx import TdxStatus, check_tdx_chain, check_tdx_quote

NOW = 1780272000
"""2026-06-01: every recorded PCK certificate is valid."""

JUNE_2025 = 1750377600
"""2025-06-20: the collateral is valid from the day before, for 30 days."""

DAY = 86400
BEHIND_SPR_E4 = 39
"""Bytes of text that were put behind this quote to test readers."""

QUOTES = {
    "go-tdx-guest/cos-113-tdx-quote.dat": 4,
    "go-tdx-guest/tdx_prod_quote_SPR_E4.dat": 4,
    "go-tdx-guest/quote_v5_sample.dat": 5,
    "trustee/tdx_quote_4.dat": 4,
    "trustee/tdx_quote_5.dat": 5,
    "trustee/tdx_quote_6.dat": 4,
    "dcap-qvl/tdx_quote": 4,
}
DEBUGGABLE = "trustee/tdx_quote_4.dat"
CC_LOGS = {
    "trustee/CCEL_data": (5, {1, 2}),
    "trustee/CCEL_data_ovmf": (20, {1, 2, 3}),
    "trustee/eventlog/CCEL_AAEL_alibabacloud": (87, {1, 2, 3, 4}),
    "trustee/eventlog/CCEL_data_gcp": (21, {1, 2}),
    "trustee/eventlog/CCEL_data_grub": (37, {1, 2, 3}),
    "trustee/eventlog/CCEL_data_grub_gke": (35, {0, 1, 2, 3}),
}


def quote(name: str) -> bytes:
    data = vector(name)
    return data[:-BEHIND_SPR_E4] if name.endswith("SPR_E4.dat") else data


@pytest.mark.parametrize("name", QUOTES)
class TestQuotes:
    def test_their_signatures_lead_to_intels_root(self, name):
        parsed = parse_tdx_quote(quote(name))
        assert parsed.version == QUOTES[name]
        check = check_tdx_chain(
            quote(name), nonce=parsed.body.report_data, now=NOW, allow_debug=parsed.body.td.attributes.debuggable
        )
        assert (check.status, check.reasons) == (TdxStatus.CHAIN_ONLY, ())
        assert not check.good

    def test_only_the_debuggable_one_is_refused_for_it(self, name):
        nonce = parse_tdx_quote(quote(name)).body.report_data
        check = check_tdx_chain(quote(name), nonce=nonce, now=NOW)
        assert [reason.code for reason in check.reasons] == (["td_debuggable"] if name == DEBUGGABLE else [])

    def test_a_flipped_bit_anywhere_is_refused(self, name):
        """Every bit of header, body, signature and attestation key; one of every other byte, certificates included."""
        parsed = parse_tdx_quote(quote(name))
        data, nonce = parsed.data, parsed.body.report_data
        assert check_tdx_chain(data, nonce=nonce, now=NOW, allow_debug=True).reasons == ()
        whole = len(parsed.signed) + 4 + len(parsed.signature) + len(parsed.attestation_key)
        places = [(at, bit) for at in range(whole) for bit in range(8)]
        places += [(at, at % 8) for at in range(whole, len(data))]
        for at, bit in places:
            changed = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            check = check_tdx_chain(changed, nonce=nonce, now=NOW, allow_debug=True)
            assert check.status is TdxStatus.REFUSED, f"bit {bit} of byte {at}"
            assert check.reasons
            assert check.facts is None

    def test_every_cut_is_malformed(self, name):
        data = parse_tdx_quote(quote(name)).data
        for size in range(len(data)):
            with pytest.raises(MalformedInput):
                parse_tdx_quote(data[:size])


def test_what_is_behind_a_quote_must_be_zero():
    data = vector("go-tdx-guest/tdx_prod_quote_SPR_E4.dat")
    with pytest.raises(MalformedInput, match="zeros behind the quote") as caught:
        parse_tdx_quote(data)
    assert caught.value.offset == len(data) - BEHIND_SPR_E4


class TestCollateral:
    NAME = "dcap-qvl/tdx_quote"

    def check(self, data: bytes, now: int, **options):
        nonce = parse_tdx_quote(quote(self.NAME)).body.report_data
        text = vector("dcap-qvl/tdx_quote_collateral.json").decode()
        return check_tdx_quote(data, nonce=nonce, collateral=text, now=now, **options)

    def test_the_platform_was_up_to_date(self):
        check = self.check(quote(self.NAME), JUNE_2025)
        assert (check.status, check.reasons, check.good) == (TdxStatus.VERIFIED, (), True)
        assert check.tcb is not None and check.tcb.status == "UpToDate"
        assert check.facts is not None
        assert check.facts.mrtd == quote(self.NAME)[184:232]

    @pytest.mark.parametrize("days", [-2, 60, 2000])
    def test_collateral_of_another_time_says_nothing(self, days):
        check = self.check(quote(self.NAME), JUNE_2025 + days * DAY)
        assert [reason.code for reason in check.reasons] == ["collateral_refused"]
        assert (check.status, check.facts, check.tcb) == (TdxStatus.REFUSED, None, None)

    @pytest.mark.parametrize(
        "name", ["go-tdx-guest/cos-113-tdx-quote.dat", "trustee/tdx_quote_5.dat", "trustee/tdx_quote_6.dat"]
    )
    def test_it_is_of_one_kind_of_platform(self, name):
        text = vector("dcap-qvl/tdx_quote_collateral.json").decode()
        nonce = parse_tdx_quote(quote(name)).body.report_data
        other = check_tdx_quote(quote(name), nonce=nonce, collateral=text, now=JUNE_2025)
        assert [reason.code for reason in other.reasons] == ["collateral_refused"]
        assert "Fmspc" in other.reasons[0].detail

    def test_both_checks_see_a_flipped_bit(self):
        data = parse_tdx_quote(quote(self.NAME)).data
        for at in range(0, len(data), 61):
            changed = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
            assert not self.check(changed, JUNE_2025).good, f"byte {at}"


def test_a_cc_event_log_replays_to_the_registers_of_the_quote():
    parsed = parse_tdx_quote(vector("go-tdx-guest/cos-113-tdx-quote.dat"))
    log = parse_event_log(vector("go-tdx-guest/ccel_data.dat"), CC_LOG)
    assert len(list(log)) == 43
    assert rtmr_values(replay_events(log)) == parsed.body.td.registers
    assert parsed.body.report_data == vector("go-tdx-guest/nonce.dat")
    table = parse_ccel_table(vector("go-tdx-guest/ccel_table.dat"))
    assert (table.cc_type, table.log_size) == (CcType.TDX, len(log.data))


def test_a_changed_log_does_not_replay():
    """Each event in turn left out."""
    registers = parse_tdx_quote(vector("go-tdx-guest/cos-113-tdx-quote.dat")).body.td.registers
    data = vector("go-tdx-guest/ccel_data.dat")
    events = list(parse_event_log(data, CC_LOG))
    for left_out, following in itertools.pairwise(events):
        if left_out.extends:
            shorter = parse_event_log(data[: left_out.offset] + data[following.offset :], CC_LOG)
            assert rtmr_values(replay_events(shorter)) != registers


@pytest.mark.parametrize("name", CC_LOGS)
def test_cc_event_logs_are_read_to_their_padding(name):
    count, registers = CC_LOGS[name]
    log = parse_event_log(vector(name), CC_LOG)
    events = list(log)
    assert (len(events), {event.register for event in events}) == (count, registers)
    assert log.banks == (SHA384,)
    assert set(replay_events(log)) == registers - {0}
    assert all(event.type_name.startswith("EV_") for event in events)


def test_application_events():
    log = parse_event_log(vector("trustee/eventlog/CCEL_AAEL_alibabacloud"), CC_LOG)
    first, second = application_events(log)
    assert (first.number, first.domain, first.operation, first.content) == (
        85,
        "coco.com",
        "some-operation",
        "some-content",
    )
    assert json.loads(second.content) == {"key": "value", "nested-key": {"sub-key": "value"}}
    events = list(log)[85:]
    assert [rtmr_index(event.register) for event in events] == [3, 3]
    assert all(event.hashes_data(SHA384) for event in events)


def test_claims_agree_with_what_another_parser_says():
    expected = json.loads(vector("trustee/parse_tdx_claims_expected.json"))
    claims, attributes = expected["quote"]["body"], expected["td_attributes"]
    body = parse_tdx_quote(vector("trustee/tdx_quote_4.dat")).body
    td = body.td
    fields = {
        "mr_config_id": td.mr_config_id,
        "mr_owner": td.mr_owner,
        "mr_owner_config": td.mr_owner_config,
        "mr_td": td.mrtd,
        "mr_seam": body.mr_seam,
        "mrsigner_seam": body.mr_signer_seam,
        "seam_attributes": body.seam_attributes.to_bytes(8, "little"),
        "td_attributes": int(td.attributes).to_bytes(8, "little"),
        "xfam": td.xfam.to_bytes(8, "little"),
        "tcb_svn": body.tee_tcb_svn,
        "report_data": body.report_data,
        **{f"rtmr_{index}": value for index, value in td.registers.items()},
    }
    assert {name: value.hex() for name, value in fields.items()} == claims
    assert attributes == {
        "debug": td.attributes.debuggable,
        "key_locker": TdAttributes.KEY_LOCKER in td.attributes,
        "perfmon": TdAttributes.PERFMON in td.attributes,
        "protection_keys": TdAttributes.PKS in td.attributes,
        "septve_disable": TdAttributes.SEPT_VE_DISABLE in td.attributes,
    }
    events = list(parse_event_log(vector("trustee/CCEL_data"), CC_LOG))
    for event, claim in zip(events, expected["uefi_event_logs"], strict=True):
        assert (event.register, event.type_name) == (claim["index"], claim["type_name"])
        assert event.data == base64.b64decode(claim["event"])
        assert event.hashes_data(SHA384) == claim["digest_matches_event"]
        (digest,) = claim["digests"]
        assert (digest["alg"], event.digest(SHA384)) == ("SHA-384", bytes.fromhex(digest["digest"]))


def test_a_servers_tpm_log_replays_to_its_registers():
    """All but PCR 0, which no startup locality explains either."""
    values = json.loads(vector("guard-oss-dl160/pcrs.json"))
    log = parse_event_log(vector("guard-oss-dl160/binary_bios_measurements"), TPM_LOG)
    assert len(list(log)) == 132
    replayed = replay_events(log)
    assert set(replayed) == {*range(10), 14}
    for pcr, banks in replayed.items():
        for bank in (SHA1, SHA256):
            same = banks[bank] == bytes.fromhex(values[bank.name][str(pcr)])
            assert same == (pcr != PcrIndex(0)), f"PCR {pcr} {bank.name}"


def test_a_td_report():
    """The recorded one lacks its first 48 bytes: the digests over its parts show that the rest is one report."""
    recorded = vector("go-tdx-guest/report.dat")
    with pytest.raises(MalformedInput, match="a TDX report"):
        parse_td_report(recorded)
    tcb_info, td_info = recorded[208:447], recorded[464:976]
    tcb_digest = hashlib.sha384(tcb_info).digest()
    assert recorded[:32] == tcb_digest[16:]
    report = parse_td_report(b"\x81".ljust(32, b"\0") + tcb_digest[:16] + recorded[:976])
    assert report.hashes_agree
    assert report.mr_seam == parse_tdx_quote(vector("trustee/tdx_quote_4.dat")).body.mr_seam
    assert report.td.mrtd == td_info[16:64]
    assert report.td.registers == {index: bytes(48) for index in range(4)}
    assert report.td.xfam == 0xE7
