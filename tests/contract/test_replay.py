"""``imarium replay``."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.unit.builders import Made, Order, ascii_line, binary, kexec, naive_replay, ng

MADE = [ng(b"boot_aggregate"), ng(b"/a"), ng(b"/b", 11), ng(b"/v", violation=True), ng(b"/d")]
SHA1 = "de1e977e6de537e0475221aac6b68b816d56d960"
SHA256 = "ad8ae8f7d84c08100f76b4f711b97603212aba14581de71c2d17a2a89e04bba5"
KEYS = {"records", "violations", "bad_digests", "chains", "match", "unverified", "boot_aggregates", "seconds"}


def pcrread(made: list[Made], banks=("sha1", "sha256"), *, moment: int | None = None) -> str:
    """All 24 registers as tpm2_pcrread prints them: those of the list, and others with values of their own."""
    lines = []
    for bank in banks:
        values = naive_replay(made[:moment], bank)[-1]
        lines.append(f"  {bank}:")
        size = 20 if bank == "sha1" else 32
        lines += [f"    {pcr:<2}: 0x{values.get(pcr, bytes([pcr + 1]) * size).hex().upper()}" for pcr in range(24)]
    return "\n".join([*lines, "  sha384:", ""])


@pytest.fixture
def made_list(tmp_path: Path) -> Path:
    path = tmp_path / "list"
    path.write_bytes(binary(MADE))
    return path


def document(ended) -> Any:
    assert ended.err == ""
    return json.loads(ended.out)


def test_a_real_list(imarium, dl160):
    ended = imarium("replay", dl160, "--json", "--pcr", f"10:sha1={SHA1}", "--pcr", f"10:sha256={SHA256}")
    found = document(ended)
    assert ended.status == 0
    assert set(found) >= KEYS
    assert (found["records"], found["violations"], found["bad_digests"]) == (16169, 24, [])
    assert found["chains"] == {"10": {"sha1": SHA1, "sha256": SHA256}}
    assert found["match"] == {"10": {"sha1": 16169, "sha256": 16169}}
    assert found["unverified"] == 0
    (aggregate,) = found["boot_aggregates"]
    assert (aggregate["record"], aggregate["name"]) == (0, "boot_aggregate")
    assert aggregate["digest"] == "b557f2390f02cba43dad75efa408530ceed9c41a"
    assert isinstance(found["seconds"], float)


def test_one_changed_byte_is_named_and_matches_nothing(imarium, dl160, tmp_path):
    data = bytearray(gzip.decompress(dl160.read_bytes()))
    position = 0
    for _ in range(5000):  # ima-ng records: pcr, digest, name length, name, data length, data
        name = int.from_bytes(data[position + 24 : position + 28], "little")
        size = int.from_bytes(data[position + 28 + name :][:4], "little")
        position += 32 + name + size
    position += 28 + 6 + 4 + 4 + 6  # into the file digest
    data[position] ^= 1
    changed = tmp_path / "changed"
    changed.write_bytes(data)
    ended = imarium("replay", changed, "--json", "--pcr", f"10:sha1={SHA1}", "--pcr", f"10:sha256={SHA256}")
    found = document(ended)
    assert ended.status == 1
    assert found["bad_digests"] == [5000]
    assert found["match"] == {"10": {"sha1": None, "sha256": None}}
    assert found["unverified"] == found["records"] == 16169
    people = imarium("replay", changed)
    assert people.status == 1
    assert b"record 5000" in people.out


@pytest.mark.parametrize("form", ["binary", "ascii", "kexec", "gzip", "stdin", "stdin-gzip", "sha256", "big"])
def test_every_form_gives_the_same_chains(imarium, tmp_path, form):
    data = {
        "ascii": b"".join(map(ascii_line, MADE)),
        "kexec": kexec(MADE, slack=bytes(4096)),
        "sha256": binary(MADE, "sha256"),
    }.get(form, binary(MADE))
    if form == "big":
        data = binary(MADE, "sha1", "big")
    if form.endswith("gzip"):
        data = gzip.compress(data)
    path = tmp_path / "list"
    path.write_bytes(data)
    ended = imarium("replay", "-", "--json", stdin=data) if form[:5] == "stdin" else imarium("replay", path, "--json")
    order: Order = "big" if form == "big" else "little"
    expected = {
        str(pcr): {bank: naive_replay(MADE, bank, order)[-1][pcr].hex() for bank in ("sha1", "sha256")}
        for pcr in (10, 11)
    }
    found = document(ended)
    assert ended.status == 0
    assert found["chains"] == expected
    assert found["records"] == 5


def test_an_empty_list(imarium, tmp_path):
    (tmp_path / "list").touch()
    found = document(imarium("replay", tmp_path / "list", "--json"))
    assert (found["records"], found["match"]) == (0, {})


def test_the_output_of_tpm2_pcrread(imarium, made_list, tmp_path):
    values = tmp_path / "pcrs"
    values.write_text(pcrread(MADE))
    ended = imarium("replay", made_list, "--json", "--pcrs", values)
    found = document(ended)
    assert ended.status == 0
    assert found["match"] == {"10": {"sha1": 5, "sha256": 5}, "11": {"sha1": 3, "sha256": 3}}
    assert set(found["chains"]) == {"10", "11"}
    assert (found["covered"], found["unverified"]) == (5, 0)


def test_values_of_an_earlier_moment_leave_records_unverified(imarium, made_list, tmp_path):
    values = tmp_path / "pcrs"
    values.write_text(pcrread(MADE, moment=4))
    ended = imarium("replay", made_list, "--json", "--pcrs", values)
    assert ended.status == 0
    assert (document(ended)["covered"], document(ended)["unverified"]) == (4, 1)


def test_a_wrong_value_of_a_register_of_the_list_fails(imarium, made_list, tmp_path):
    values = tmp_path / "pcrs"
    values.write_text(pcrread([*MADE[:2], MADE[3], MADE[4]]))  # register 11 has another value
    ended = imarium("replay", made_list, "--json", "--pcrs", values)
    assert ended.status == 1
    assert document(ended)["match"]["11"] == {"sha1": None, "sha256": None}


@pytest.mark.parametrize("split", range(len(MADE) + 1))
def test_a_replay_goes_on_from_a_saved_state(imarium, tmp_path, split):
    first, rest, state, values = (tmp_path / name for name in ("first", "rest", "state", "pcrs"))
    first.write_bytes(binary(MADE[:split]))
    rest.write_bytes(binary(MADE[split:]))
    values.write_text(pcrread(MADE))
    assert imarium("replay", first, "--save", state).status == 0
    saved = json.loads(state.read_text())
    assert (saved["type"], saved["version"], saved["records"]) == ("imarium-state", 1, split)
    ended = imarium("replay", rest, "--from", state, "--pcrs", values, "--json")
    found = document(ended)
    assert ended.status == 0
    assert (found["first"], found["records"], found["unverified"]) == (split, 5 - split, 0)
    assert found["chains"]["10"]["sha256"] == naive_replay(MADE, "sha256")[-1][10].hex()


def test_other_banks(imarium, made_list):
    banks = ("sha384", "sm3", "sha3-256")
    options = [option for bank in banks for option in ("--bank", bank)]
    found = document(imarium("replay", made_list, "--json", *options, "--padded", "sha3-512"))
    for bank in banks:
        assert found["chains"]["10"][bank] == naive_replay(MADE, bank)[-1][10].hex()
    assert found["chains"]["10"]["sha3-512"] == naive_replay(MADE, "sha3-512", padded=True)[-1][10].hex()


def test_people_get_text(imarium, made_list):
    ended = imarium("replay", made_list)
    assert (ended.status, ended.err) == (0, "")
    assert b"5 records, 1 violations" in ended.out
    assert naive_replay(MADE, "sha256")[-1][10].hex().encode() in ended.out
    assert b"\x1b" not in ended.out


def test_it_imports_no_library_it_does_not_need():
    script = (
        "import sys; sys.argv[1:] = ['replay', '/dev/null']\n"
        "from imarium.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'tpm2_pytss', 'cryptography', 'cbor2'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    source = Path(__file__).resolve().parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(source)}, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()


def test_a_slow_pipe_is_read_as_what_it_is(tmp_path):
    """Its first read gives one byte of the gzip mark."""
    data = gzip.compress(binary(MADE))
    (tmp_path / "rest").write_bytes(data[1:])
    source = Path(__file__).resolve().parents[2] / "src"
    line = f"(printf '\\037'; sleep 0.5; cat rest) | {sys.executable} -m imarium replay - --json"
    done = subprocess.run(
        ["sh", "-c", line],
        cwd=tmp_path,
        env={"PYTHONPATH": str(source), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["records"] == 5
