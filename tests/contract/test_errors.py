"""Every bad input ends in one line on standard error and the documented exit status."""

import gzip
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.builders import ascii_line, binary, kexec, ng

MADE = [ng(b"boot_aggregate"), ng(b"/bin/sh"), ng(b"/v", violation=True)]
USAGE, MALFORMED, MISSING = 2, 3, 4
SOURCE = Path(__file__).resolve().parents[2] / "src"
STATE = '{"type": "imarium-state", "version": 1, "records": 1, "registers": {"10": {"sha1": "%s"}}}' % ("00" * 20)

CONTENTS = {
    "good": binary(MADE),
    "cut": binary(MADE)[:-1],
    "head": binary(MADE)[:3],
    "text": b"hello, world\n" * 20,
    "zeros": bytes(1000),
    "ones": b"\xff" * 1000,
    "cut.gz": gzip.compress(binary(MADE))[:-9],
    "head.gz": gzip.compress(binary(MADE))[:5],
    "magic.gz": b"\x1f\x8b",
    "bad.gz": gzip.compress(binary(MADE))[:20] + b"\xff\xff\xff" + gzip.compress(binary(MADE))[23:],
    "checksum.gz": gzip.compress(binary(MADE))[:-8] + bytes(8),
    "trailing.gz": gzip.compress(binary(MADE)) + b"junk",
    "cut.txt": b"".join(map(ascii_line, MADE))[:-5],
    "mixed.txt": ascii_line(MADE[0]) + ascii_line(MADE[1], "sha256"),
    "words.txt": ascii_line(MADE[0]) + b"and then prose\n",
    "cut.kexec": kexec(MADE)[:-5],
    "count.kexec": kexec(MADE)[:16] + (9).to_bytes(8, "little") + kexec(MADE)[24:],
    "big-length": binary(MADE[:1]) + (10).to_bytes(4, "little") + b"\1" * 20 + b"\xff" * 4,
    "registers": b"nothing",
    "latin1": b"sha1:\xff\n",
    "nul": b"\0" * 10,
    "state": STATE.encode(),
    "json": b"{}",
    "deep": b"[" * 100000,
    "number": b"1" * 10000,
    "open": b'{"type": ',
    "violations": binary([MADE[2]], "sha256"),
}
for seed in range(0, 12, 3):
    CONTENTS[f"random{seed}"] = random.Random(seed).randbytes(30 << seed)  # noqa: S311 - no secret

CASES: list[tuple[int, str]] = [
    (USAGE, ""),
    (USAGE, "nope"),
    (USAGE, "rot"),
    (USAGE, "log"),
    (USAGE, "replay"),
    (USAGE, "show"),
    (USAGE, "verify"),
    (USAGE, "replay good more"),
    (USAGE, "replay good --nope"),
    (USAGE, "replay good --pcr"),
    (USAGE, "replay good --pcr x"),
    (USAGE, "replay good --pcr 10:sha1=00"),
    (USAGE, "replay good --pcr 99:sha1=00"),
    (USAGE, "replay good --pcr 10:nope=00"),
    (USAGE, "replay good --bank nope"),
    (USAGE, "replay good --padded sha1"),
    (USAGE, "replay good --format nope"),
    (USAGE, "replay good --digest nope"),
    (USAGE, "replay good --byte-order middle"),
    (USAGE, "replay good --from state --bank sha256"),
    (USAGE, "replay violations"),
    (USAGE, "show good --to nope"),
    (USAGE, "show good --to binary --json"),
    (USAGE, "show good --grep ("),
    (USAGE, "show good --from -1"),
    (USAGE, "show good --from x"),
    (USAGE, "show good --count -1"),
    (USAGE, "show good -o good"),
    (MISSING, "replay nothere"),
    (MISSING, "replay nothere/x"),
    (MISSING, "replay good/x"),
    (MISSING, "replay directory"),
    (MISSING, "show directory"),
    (MISSING, "show nothere"),
    (MISSING, "show good -o nothere/x"),
    (MISSING, "show good -o directory"),
    (MISSING, "replay good --pcrs nothere"),
    (MISSING, "replay good --pcrs directory"),
    (MISSING, "replay good --from nothere"),
    (MISSING, "replay good --save nothere/x"),
    (MISSING, "replay good --bank tgr128"),
    (MISSING, "replay good --digest tgr128"),
    (MISSING, "verify nothere --nonce 00 --ak nothere"),
    (USAGE, "engine"),
    (USAGE, "engine --status --stop"),
    (USAGE, "engine --once --stop"),
    (USAGE, "engine --once --rot none --template nope"),
    (USAGE, "engine --once --rot none --hash nope"),
    (USAGE, "engine --once --rot none --without nope"),
    (USAGE, "engine --once --rot none --policy nothere"),
    (USAGE, "replay good --counted-banks 0"),
    (USAGE, "attest -o made --rot software --nonce="),
    (USAGE, "rot quote -o made --rot software --nonce="),
    (MISSING, "engine --status --state nothere"),
    (MISSING, "engine --stop --state directory"),
    (MISSING, "engine --suspend-to file --state directory"),
    (MISSING, "engine --once --rot none --measure nothere"),
    (MISSING, "engine --once --rot none --measure /dev/null"),
    (MISSING, "engine --once --rot none --hash tgr128"),
    (MISSING, "engine --once --rot none --restore nothere"),
    (MISSING, "engine --once --rot none --state good"),
    (MISSING, "engine --mount nothere --rot none --state engine"),
    (MALFORMED, "engine --once --rot none --policy text"),
    (MALFORMED, "replay good --pcrs registers"),
    (MALFORMED, "replay good --pcrs latin1"),
    (MALFORMED, "replay good --pcrs nul"),
    (MALFORMED, "replay good --from json"),
    (MALFORMED, "replay good --from deep"),
    (MALFORMED, "replay good --from number"),
    (MALFORMED, "replay good --from open"),
    (MALFORMED, "replay good --from latin1"),
    (MALFORMED, "replay good --digest sha256"),
    (MALFORMED, "replay good --byte-order big"),
    (MALFORMED, "replay good --format ascii"),
    (MALFORMED, "replay good --format kexec"),
    *(
        (MALFORMED, f"{command} {name}")
        for command in ("replay", "show")
        for name in CONTENTS
        if name not in {"good", "registers", "nul", "state", "json", "open", "violations"} and "random" not in name
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("inputs")
    for name, content in CONTENTS.items():
        (path / name).write_bytes(content)
    (path / "directory").mkdir()
    return path


def run(folder: Path, arguments: list[str]):
    done = subprocess.run(
        [sys.executable, "-m", "imarium", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
        env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin"},
    )
    return done.returncode, done.stderr.decode()


def is_one_line(error: str) -> bool:
    return error.startswith("imarium: ") and error.endswith("\n") and error.count("\n") == 1


@pytest.mark.parametrize(("status", "arguments"), CASES, ids=[f"{s}-{a}" for s, a in CASES])
def test_bad_input_ends_in_one_line_and_its_status(folder, status, arguments):
    ended, error = run(folder, arguments.split())
    assert is_one_line(error), error
    assert ended == status, error
    assert (folder / "good").read_bytes() == CONTENTS["good"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("show text", "imarium: text: no measurement list, or damaged at its beginning: record 0 at byte 0: "),
        ("replay zeros", "imarium: zeros: no measurement list, or damaged at its beginning: record 0 at byte 24: "),
        ("show cut", "imarium: cut: record 2 at byte "),
        ("show head.gz", "imarium: head.gz: at byte 0: expected intact gzip data"),
        ("replay count.kexec", "imarium: count.kexec: "),
        ("replay good --pcrs registers", "imarium: registers: register values: at byte 0: "),
        ("replay good --from json", "imarium: json: state: at byte 0: "),
        ("replay good --from open", "imarium: open: at byte 9: "),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name_once(folder, arguments, expected):
    ended, error = run(folder, arguments.split())
    assert ended == MALFORMED
    assert error.startswith(expected)
    assert error.count(f"{expected.split()[1]} ") == 1


@pytest.mark.parametrize("name", [name for name in CONTENTS if "random" in name])
def test_random_bytes_are_malformed(folder, name):
    for options in (["replay", name], ["replay", name, "--format", "ascii"], ["replay", name, "--format", "kexec"]):
        ended, error = run(folder, options)
        assert is_one_line(error), error
        assert ended == MALFORMED, error


def test_a_name_cannot_move_the_cursor(folder):
    ended, error = run(folder, ["replay", "no\n\x1b[31m\u2028such"])
    assert is_one_line(error)
    assert ended == MISSING
    assert "\x1b" not in error


def test_a_path_of_any_bytes_can_be_printed(folder):
    source, store = folder / "source", os.fsencode(folder / "store-") + b"\xff"
    source.mkdir()
    (source / "binary_runtime_measurements").write_bytes(binary(MADE))
    environment = {"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin", "PYTHONIOENCODING": "utf-8:strict"}
    for arguments in (["keep", "--once", "--source", source], ["log", "status"]):
        done = subprocess.run(
            [sys.executable, "-m", "imarium", *arguments, "--store", store],
            env=environment,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, b"")
    assert rb"store-\udcff/logs/0000/list" in done.stdout


def test_standard_streams_can_be_closed(folder):
    command = f"{sys.executable} -m imarium replay"
    environment = {"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin"}
    for line, status in ((f"{command} - <&-", 4), (f"{command} good >&-", 4), (f"{command} nothere 2>&-", 4)):
        done = subprocess.run(
            ["sh", "-c", line], cwd=folder, env=environment, capture_output=True, check=False, timeout=60
        )
        assert done.returncode == status, done.stderr
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        *([name] for name in ("replay", "show", "rot", "keep", "log", "attest", "verify", "engine", "demo")),
        ["rot", "list"],
    ],
)
def test_help(imarium, arguments):
    ended = imarium(*arguments, "--help")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith(b"Usage: ")


def test_version(imarium):
    ended = imarium("--version")
    assert ended.status == 0
    assert ended.out.startswith(b"imarium ")
