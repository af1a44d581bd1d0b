"""The command: what it prints, and with what status it ends."""

import io
import json
import sys

import pytest

from imarium import cli, registers


class Run:
    def __init__(self, monkeypatch, capsysbinary, tmp_path):
        self.monkeypatch = monkeypatch
        self.capture = capsysbinary
        self.file = tmp_path / "r"
        self.options = ["--provider", f"file:{self.file}"]
        self.logs = ["--log", str(tmp_path / "logs")]

    def raw(self, *arguments, stdin=b""):
        self.monkeypatch.setattr(sys, "argv", ["imarium", "registers", *arguments])
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = self.capture.readouterr()
        return ended.value.code, captured.out.decode(), captured.err.decode()

    def __call__(self, command, *arguments, stdin=b""):
        logs = [] if command == "list" else self.logs
        status, out, err = self.raw(command, *arguments, *self.options, *logs, stdin=stdin)
        assert not err, err
        return status, out

    def json(self, command, *arguments, stdin=b""):
        status, out = self(command, *arguments, "--json", stdin=stdin)
        return status, json.loads(out)


@pytest.fixture
def run(monkeypatch, capsysbinary, tmp_path):
    made = Run(monkeypatch, capsysbinary, tmp_path)
    assert made.raw("create", str(made.file))[0] == 0
    return made


def test_list_shows_every_register(run):
    status, document = run.json("list")
    assert status == 0
    assert [row["register"] for row in document["registers"]] == ["mrtd:sha384", *(f"rtmr{n}:sha384" for n in range(4))]
    assert document["registers"][1] == {
        "register": "rtmr0:sha384",
        "name": "rtmr0",
        "size": 48,
        "hash": "sha384",
        "flags": ["WRITABLE", "READABLE", "LIVE"],
        "access": "XWRL",
        "value": "00" * 48,
    }
    assert "rtmr3:sha384  48    sha384  XWRL   00000" in run("list")[1]


def test_append_extend_and_verify_tell_one_story(run):
    assert run.json("verify", "rtmr0")[0] == 1
    status, done = run.json("append", "rtmr0", "one\n# two\nthree")
    assert (status, done["lines"], done["events"], done["synced"]) == (0, 4, 3, True)
    status, document = run.json("verify", "rtmr0")
    assert (status, document["verdict"], document["covered"], document["events"]) == (0, "pass", 4, 3)
    assert run.json("extend", "rtmr0", "07" * 48)[0] == 0
    assert run.json("verify", "rtmr0")[1]["verdict"] == "fail"
    assert run("verify", "rtmr0")[0] == 1
    assert run.json("append", "rtmr0", stdin=b"from a pipe\n")[1]["synced"]
    status, document = run.json("verify", "rtmr0")
    assert (status, document["gaps"]) == (0, [{"line": 8, "explained": True}])
    assert run.json("verify", "rtmr0", "--from", "8")[1]["start"] == 8
    older = run.json("verify", "rtmr0", "--value", done["value"])
    assert (older[0], older[1]["unverified"]) == (0, 2)
    assert "from a pipe\n" in run("read", "rtmr0", "--events")[1]


def test_verify_names_the_line_to_begin_at_behind_a_foreign_extend(run):
    run("append", "rtmr0", "one")
    device = registers.FileRegisters(run.file)
    device.extend(registers.find_register(device, "rtmr0"), bytes(48))
    run("append", "rtmr0", "two")
    status, out = run("verify", "rtmr0")
    assert status == 1
    assert "--from 4" in out
    assert run("verify", "rtmr0", "--from", "4")[0] == 0


def test_read_prints_hexadecimal_or_bytes(run):
    assert run("read", "mrtd") == (0, "00" * 48 + "\n")
    assert run("read", "mrtd", "--raw") == (0, "\0" * 48)
    assert run.json("read", "mrtd")[1]["value"] == "00" * 48


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["read", "none"], 2),
        (["extend", "rtmr0", "xx"], 2),
        (["extend", "rtmr0", "00"], 2),
        (["extend", "mrtd", "00" * 48], 1),
        (["append", "mrtd", "text"], 1),
        (["append", "rtmr0", "x" * 4097], 2),
        (["verify", "rtmr0", "--from", "1"], 2),
        (["verify", "rtmr0", "--value", "00"], 2),
    ],
)
def test_faults_end_with_one_line_and_their_status(run, arguments, status):
    ended, out, err = run.raw(*arguments, *run.options, *run.logs)
    assert (ended, out, err.count("\n")) == (status, "", 1)


def test_a_log_that_is_not_there_is_told_from_one_that_is_out_of_step(run, tmp_path):
    status, out = run("verify", "rtmr2")
    assert status == 1
    assert f"there is no event log {tmp_path / 'logs' / 'rtmr2:sha384.log'}; " in out
    run("extend", "rtmr2", "11" * 48)
    status, out = run("verify", "rtmr2")
    assert status == 1
    assert "no SYNC line" in out


@pytest.mark.parametrize(
    ("provider", "status"),
    [("file:/nowhere/at/all", 4), ("tsm:none", 4), ("tsm:/nowhere/", 4), ("tpm:x", 2), ("file:", 2), ("tsm:..", 2)],
)
def test_a_provider_that_is_not_there(run, provider, status):
    ended, _, err = run.raw("list", "--provider", provider)
    assert (ended, err.count("\n")) == (status, 1)


def test_a_damaged_file_is_malformed_input(run):
    run.file.write_text("{}")
    assert run.raw("list", *run.options)[0] == 3


def test_registers_of_ones_own_are_made(run, tmp_path):
    path = str(tmp_path / "own")
    wanted = ["--register", "a:sha256=XR", "--register", "b", "--register", "c:sha512"]
    assert run.raw("create", path, *wanted)[0] == 0
    listed = json.loads(run.raw("list", "--provider", f"file:{path}", "--json")[1])["registers"]
    assert [(row["register"], row["access"], row["size"]) for row in listed] == [
        ("a:sha256", "XR", 32),
        ("b", "WR", 48),
        ("c:sha512", "XWRL", 64),
    ]
    assert run.raw("create", path)[0] == 1
    assert run.raw("create", path + "2", "--register", "a:=X")[0] == 2
    assert run.raw("create", path + "2", "--register", "a=X")[0] == 2, "what is extensible needs a hash"


def test_mount_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mfusepy", None)
    status, _, err = run.raw("mount", str(tmp_path), *run.options, *run.logs)
    assert status == 4
    assert "apt install fuse3" in err
