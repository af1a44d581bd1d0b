"""A server's real list, and a list of hundreds of megabytes."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.vectors import vector

from imarium.chain import ChainState, Replay, replay
from imarium.formats.ascii import ascii_line, read_ascii
from imarium.formats.lists import ListForm, ListKind, detect_form
from imarium.formats.records import ListLayout, RecordFramer, encode_record, read_records
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.formats.tpm import parse_attest, pcr_digest
from imarium.hashes import SHA1, SHA256, by_name

PROJECT = Path(__file__).resolve().parents[2]
RECORDS, VIOLATIONS = 16169, 24
BIG = 300 << 20
LIMIT_KIB = 100 << 10
MEASURED = """
import re, sys
sys.argv = sys.argv[1:]
from imarium.cli import main
try:
    main()
finally:
    print(re.search("VmHWM:[^0-9]*([0-9]+)", open("/proc/self/status").read()).group(1), file=sys.stderr)
"""
"""Runs imarium and then prints its own peak in KiB. What wait4 tells includes the size of the process it came from."""


@pytest.fixture(scope="module")
def measurements() -> bytes:
    return gzip.decompress(vector("guard-oss-dl160/binary_runtime_measurements.gz"))


@pytest.fixture(scope="module")
def values():
    document = json.loads(vector("guard-oss-dl160/pcrs.json"))
    return {
        PcrIndex(10): {SHA1: bytes.fromhex(document["sha1"]["10"]), SHA256: bytes.fromhex(document["sha256"]["10"])}
    }


def test_the_list_replays_to_the_registers(measurements, values):
    blocks = [measurements[i : i + 65536] for i in range(0, len(measurements), 65536)]
    result = replay(blocks, ListLayout(), targets=values)
    assert (result.records, result.violations, result.bad_digests) == (RECORDS, VIOLATIONS, ())
    assert result.state.values == values
    assert result.matches.covered == {IMA_PCR: {SHA1: RECORDS, SHA256: RECORDS}}
    assert (result.matches.prefix, result.unverified) == (RECORDS, 0)


def test_the_form_is_told(measurements):
    assert detect_form(measurements[:65536], complete=False) == ListForm(ListKind.BINARY, ListLayout())


def test_every_record_goes_through_text(measurements):
    records = list(read_records([measurements], ListLayout()))
    assert b"".join(map(encode_record, records)) == measurements
    text = b"".join(map(ascii_line, records))
    copies = list(read_ascii([text], ListLayout()))
    assert b"".join(map(encode_record, copies)) == measurements


def test_the_quote_covers_the_given_registers():
    document = json.loads(vector("guard-oss-dl160/pcrs.json"))
    quote = parse_attest(vector("guard-oss-dl160/quote.msg")).quote
    registers = {
        by_name(bank): {PcrIndex(int(pcr)): bytes.fromhex(value) for pcr, value in found.items()}
        for bank, found in document.items()
    }
    assert quote is not None
    assert pcr_digest(quote.selection, registers, SHA256) == quote.pcr_digest


@pytest.mark.parametrize("split", [1, 5000, RECORDS - 1])
def test_a_replay_is_taken_up_where_it_was_left(measurements, values, split):
    frames = RecordFramer(ListLayout()).feed(measurements)
    first = Replay(ListLayout())
    first.feed(frames[:split])
    state = ChainState.from_document(json.loads(json.dumps(first.result().state.to_document())))
    rest = Replay(ListLayout(), start=state, targets=values)
    rest.feed(frames[split:])
    assert rest.result().matches.prefix == RECORDS
    assert rest.result().violations + first.result().violations == VIOLATIONS


def test_a_long_list_is_replayed_in_little_memory(measurements, tmp_path):
    """300 MiB: the real list again and again. Measured in a process of its own."""
    times = BIG // len(measurements) + 1
    path = tmp_path / "long"
    with path.open("wb") as file:
        for _ in range(times):
            file.write(measurements)
    assert path.stat().st_size >= BIG
    arguments = ["imarium", "replay", str(path), "--bank", "sha1", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT / "src")},
    )
    document = json.loads(done.stdout)
    peak = int(done.stderr)
    assert (document["records"], document["violations"]) == (times * RECORDS, times * VIOLATIONS)
    assert peak < LIMIT_KIB, f"{peak} KiB"
    value = bytes(20)
    frames = RecordFramer(ListLayout()).feed(measurements)
    digests = [frame[1] if any(frame[1]) else b"\xff" * 20 for frame in frames]
    for _ in range(times):
        for digest in digests:
            value = hashlib.sha1(value + digest).digest()  # noqa: S324 - a register's
    assert document["chains"]["10"]["sha1"] == value.hex()
