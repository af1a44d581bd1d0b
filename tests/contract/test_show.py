"""``imarium show``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.contract.conftest import Ended
from tests.unit.builders import ascii_line, binary, kexec, ng

MADE = [ng(b"boot_aggregate"), ng(b"/bin/sh"), ng(b"/a\nb\xff", 11), ng(b"/v", violation=True), ng(b"/bin/true")]
CARRIED = [MADE[0], MADE[1], MADE[3], MADE[4]]
SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def made_list(tmp_path: Path) -> Path:
    path = tmp_path / "list"
    path.write_bytes(binary(MADE))
    return path


def lines(ended: Ended) -> list[bytes]:
    assert (ended.status, ended.err) == (0, "")
    return ended.out.splitlines()


def test_people_get_a_line_per_record(imarium, made_list):
    shown = lines(imarium("show", made_list))
    assert len(shown) == 5
    assert shown[2].startswith(b"      2   11 ")
    assert shown[2].endswith(b" /a\\x0ab\\xff")
    assert shown[3].startswith(b"      3 V 10 " + b"0" * 40)


def test_a_template_digest_that_is_not_the_datas_is_marked(imarium, tmp_path):
    data = bytearray(binary(MADE))
    data[5] ^= 1
    (tmp_path / "list").write_bytes(data)
    assert lines(imarium("show", tmp_path / "list"))[0].startswith(b"      0 ! 10 ")


def test_choosing_records(imarium, made_list):
    def numbers(*options: str) -> list[int]:
        return [int(line.split()[0]) for line in lines(imarium("show", made_list, *options))]

    assert numbers("--from", "1", "--count", "2") == [1, 2]
    assert numbers("--grep", "/bin/") == [1, 4]
    assert numbers("--grep", "/bin/", "--count", "1") == [1]
    assert numbers("--from", "99") == []
    assert numbers("--count", "0") == []


def test_the_kernels_own_lines(imarium, made_list):
    assert imarium("show", made_list, "--to", "ascii").out == b"".join(map(ascii_line, MADE))


def test_conversions_go_both_ways(imarium, tmp_path):
    plain, text, back = tmp_path / "plain", tmp_path / "text", tmp_path / "back"
    plain.write_bytes(binary(CARRIED, "sha256"))
    assert imarium("show", plain, "--to", "ascii", "-o", text).status == 0
    assert text.read_bytes() == b"".join(ascii_line(made, "sha256") for made in CARRIED)
    assert imarium("show", text, "--to", "binary", "-o", back).status == 0
    assert back.read_bytes() == plain.read_bytes()


def test_a_kexec_buffer_becomes_a_list(imarium):
    assert imarium("show", "-", "--to", "binary", stdin=kexec(MADE, slack=bytes(100))).out == binary(MADE)


def test_text_that_could_not_carry_a_record_is_not_made_binary(imarium):
    text = b"".join(ascii_line(made) for made in CARRIED).replace(b" /bin/true\n", b" /bin/false\n")
    ended = imarium("show", "-", "--to", "binary", stdin=text)
    assert ended.status == 3
    assert ended.err.startswith("imarium: -: record 3 at byte ")
    assert ended.out == binary(CARRIED[:3])


@pytest.mark.parametrize("options", [("--json",), ("--to", "json")])
def test_json(imarium, made_list, options):
    records = json.loads(imarium("show", made_list, *options).out)
    assert [record["record"] for record in records] == [0, 1, 2, 3, 4]
    assert records[2] == {
        "record": 2,
        "offset": records[1]["offset"] + len(MADE[1].binary()),
        "pcr": 11,
        "template_digest": MADE[2].true_digest("sha1", "little").hex(),
        "template": "ima-ng",
        "violation": False,
        "digest_is_good": True,
        "fields": {
            "d-ng": "sha256:" + MADE[2].fields[0][8:].hex(),
            "n-ng": "/a\\x0ab\\xff",
            "n-ng_hex": b"/a\nb\xff".hex(),
        },
    }
    assert records[3]["violation"] is True
    assert json.loads(imarium("show", made_list, "--count", "0", *options).out) == []


def test_records_before_a_broken_one_are_shown(imarium):
    ended = imarium("show", "-", stdin=binary(MADE[:2]) + b"\xff" * 100)
    assert ended.status == 3
    assert ended.out.count(b"\n") == 2
    assert ended.err.startswith("imarium: -: record 2 at byte ")


def test_the_list_is_not_overwritten_by_its_own_conversion(imarium, made_list):
    ended = imarium("show", made_list, "--to", "binary", "-o", made_list)
    assert ended.status == 2
    assert "is the list itself" in ended.err
    assert made_list.read_bytes() == binary(MADE)


@pytest.mark.parametrize("arguments", [["show"], ["show", "--json"], ["show", "--to", "ascii"], ["replay"]])
def test_nobody_reading_on_is_no_error_and_no_verdict(dl160, arguments):
    """As ``| head -1``: the reader goes away after the first bytes."""
    command = [sys.executable, "-m", "imarium", *arguments, str(dl160)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stderr is not None
    if arguments != ["replay"]:
        process.stdout.read(1)
    process.stdout.close()
    error = process.stderr.read()
    assert (process.wait(60), error) == (141, b"")
    process.stderr.close()
