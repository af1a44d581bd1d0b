"""The command: what it extends, prints and refuses, over a directory like the kernel's and software registers."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from tests.unit.builders import binary, hashed, ng

from imarium import cli, durable, registers
from imarium.chain import ChainState, replay
from imarium.cli.providers import named_register
from imarium.errors import UsageError
from imarium.formats.records import ListLayout
from imarium.formats.registers import IMA_PCR
from imarium.hashes import SHA384

BOOT = ng(b"boot_aggregate")
PROVES_NOTHING = "registers of the software root of trust prove nothing: they are for tests"


class Machine:
    """A list directory, a file of registers, and the command over them."""

    def __init__(self, monkeypatch, capsysbinary, path):
        self.monkeypatch = monkeypatch
        self.capture = capsysbinary
        self.path = path
        self.source = path / "ima"
        self.source.mkdir()
        self.device = registers.FileRegisters.create(path / "r")
        self.register = registers.find_register(self.device, "rtmr2")
        self.rot = ["--rot", f"file:{path / 'r'}:rtmr2"]
        self.options = [*self.rot, "--state", str(path / "state")]
        self.records = []
        self.add(BOOT, ng(b"/bin/a"), ng(b"/bin/b", violation=True))

    def add(self, *records, drained=0):
        self.records += records
        here = self.records[drained:]
        self.put("binary_runtime_measurements_sha1", binary(here))
        self.put("runtime_measurements_count", b"%d\n" % len(here))

    def put(self, name, content):
        """A reader sees the file as it was or as it is, as with the kernel's."""
        (self.path / "new").write_bytes(content)
        (self.path / "new").replace(self.source / name)

    @property
    def value(self):
        return self.device.read(self.register)

    @property
    def exported(self):
        path = self.path / "exported"
        path.write_bytes(binary(self.records))
        return str(path)

    def expected(self, value=bytes(48)):
        for record in self.records:
            digest = b"\xff" * 48 if record.violation else record.true_digest("sha384", "little")
            value = hashed("sha384", value + digest)
        return value

    def command(self, *arguments):
        self.monkeypatch.setattr(sys, "argv", ["imarium", *arguments])
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = self.capture.readouterr()
        return ended.value.code, captured.out.decode(), captured.err.decode()

    def __call__(self, *arguments):
        return self.command("rot", "bridge", *self.options, *arguments)

    def once(self, *arguments):
        return self("--once", "--source", str(self.source), *arguments)

    def verify(self, *arguments):
        status, out, err = self("--verify", self.exported, "--json", *arguments)
        assert not err, err
        return status, json.loads(out)


@pytest.fixture
def machine(monkeypatch, capsysbinary, tmp_path):
    monkeypatch.setattr(durable, "state_directory", lambda _option: tmp_path / "kept")
    return Machine(monkeypatch, capsysbinary, tmp_path)


def test_once_extends_what_is_new_and_verify_matches(machine):
    status, out, _ = machine.once("--json")
    document = json.loads(out)
    assert status == 0
    assert (document["begun"], document["extended"], document["records"]) == (True, 3, 3)
    assert document["value"] == machine.value.hex() == machine.expected().hex()
    machine.add(ng(b"/bin/c"))
    status, out, _ = machine.once()
    assert (status, out) == (0, "1 extended; 4 records in rtmr2:sha384\n")
    machine.add(ng(b"/bin/d"))
    status, document = machine.verify()
    assert (status, document["verdict"], document["initial"]) == (0, "pass", "00" * 48)
    assert (document["records"], document["covered"], document["unverified"], document["violations"]) == (5, 4, 1, 1)
    start = ChainState.from_document(document["start"])
    found = replay([binary(machine.records[:4])], ListLayout(), [SHA384], start=start)
    assert found.state.values[IMA_PCR][SHA384] == machine.value


def test_an_extend_behind_its_back_fails_both(machine):
    machine.once()
    machine.device.extend(machine.register, bytes(48))
    before = machine.value
    status, document = machine.verify()
    assert (status, document["verdict"], document["covered"]) == (1, "fail", None)
    machine.add(ng(b"/bin/c"))
    status, out, err = machine.once()
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "--begin" in err
    assert machine.value == before
    assert machine.once("--begin")[0] == 0
    assert machine.value == machine.expected(before)
    assert machine.verify()[0] == 0


def test_values_can_be_given(machine):
    assert machine("--verify", machine.exported)[0] == 2, "nothing has begun"
    value = machine.expected().hex()
    assert machine.verify("--initial", "00" * 48, "--value", value)[0] == 0
    assert machine.verify("--initial", "01" * 48, "--value", value)[0] == 1
    status, document = machine.verify("--initial", "00" * 48)
    assert (status, document["covered"]) == (1, 0), "what was never extended proves nothing"


def test_a_forged_column_fails_though_the_register_matches(machine):
    machine.once()
    machine.records[1] = type(BOOT)(machine.records[1].template, machine.records[1].fields, forged=b"\x01" * 20)
    status, document = machine.verify()
    assert (status, document["bad_digests"], document["covered"]) == (1, [1], 3)


def test_what_custody_kept_stands_for_what_was_drained(machine):
    store = ["--store", str(machine.path / "store")]
    assert machine.once()[0] == 0
    machine.add(*(ng(b"/bin/%d" % number) for number in range(10)))
    keep = machine.command("keep", "--once", "--method", "follow", "--source", str(machine.source), *store)
    assert keep[0] == 0, keep
    machine.add(ng(b"/bin/last"), drained=12)
    status, _, err = machine.once()
    assert (status, "--store" in err) == (1, True)
    status, out, err = machine.once("--json", *store)
    assert (status, err) == (0, ""), err
    assert (json.loads(out)["extended"], json.loads(out)["records"]) == (11, 14)
    assert machine.value == machine.expected()


def test_it_follows_until_it_is_ended(machine):
    options = [*machine.options, "--source", str(machine.source), "--interval", "0.02", "--json"]
    command = [sys.executable, "-m", "imarium", "rot", "bridge", *options]
    follower = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert follower.stdout is not None
        assert json.loads(follower.stdout.readline())["extended"] == 3
        machine.add(ng(b"/bin/c"), ng(b"/bin/d"))
        line = json.loads(follower.stdout.readline())
        assert (line["extended"], line["begun"], line["value"]) == (2, False, machine.expected().hex())
        status, _, err = machine.once()
        assert (status, "another bridge" in err) == (4, True)
        follower.send_signal(signal.SIGTERM)
        out, err = follower.communicate(timeout=60)
        assert (follower.returncode, out, err) == (0, "", "")
        assert machine.value == machine.expected()
    finally:
        follower.kill()
        follower.wait()


def test_a_follower_stops_where_someone_else_extends(machine):
    machine.once()
    options = [*machine.options, "--source", str(machine.source), "--interval", "0.02"]
    command = [sys.executable, "-m", "imarium", "rot", "bridge", *options]
    follower = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        machine.device.extend(machine.register, bytes(48))
        machine.add(ng(b"/bin/c"))
        assert follower.wait(timeout=60) == 1
        assert follower.stderr is not None
        assert "someone else" in follower.stderr.read()
    finally:
        follower.kill()
        follower.communicate()


def test_twenty_kills_while_the_list_grows(machine):
    """Whole processes, killed at any moment, over registers in a file."""
    for number in range(20):
        child = os.fork()
        if child == 0:
            sys.argv = ["imarium", "rot", "bridge", *machine.options]
            sys.argv += ["--source", str(machine.source), "--interval", "0.01"]
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            try:
                cli.main()
            finally:
                os._exit(9)
        machine.add(*(ng(b"/bin/%d/%d" % (number, each)) for each in range(number % 5)))
        time.sleep(0.003 * number)
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert machine.once()[0] == 0
    assert machine.value == machine.expected()
    assert machine.verify()[1]["covered"] == len(machine.records)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--verify", "/nowhere"], 2),
        (["--verify", "/nowhere", "--initial", "00" * 48], 4),
        (["--verify", "/nowhere", "--initial", "00"], 2),
        (["--verify", "/nowhere", "--once"], 2),
        (["--initial", "00" * 48, "--once"], 2),
        (["--once", "--source", "/nowhere"], 4),
        (["--once", "--rot", "nobody:rtmr1"], 2),
        (["--once", "--rot", "software:,register=mrtd"], 1),
        (["--once", "--rot", "file:/nowhere:rtmr2"], 4),
    ],
)
def test_faults_end_with_one_line_and_their_status(machine, arguments, status):
    ended, out, err = machine(*arguments)
    *told, fault = err.splitlines()
    assert (ended, out, fault.startswith("imarium: ")) == (status, "", True)
    assert told == [PROVES_NOTHING] * ("software:" in str(arguments))


def test_a_root_that_proves_nothing_says_so(machine, tmp_path):
    software = f"software:{tmp_path / 'soft'}"
    for arguments in (
        ["rot", "bridge", "--rot", f"{software}:rtmr1", "--once", "--source", str(machine.source)],
        ["rot", "read", "--rot", software],
        ["registers", "list", "--provider", software],
    ):
        status, _, err = machine.command(*arguments)
        assert (status, err) == (0, f"{PROVES_NOTHING}\n")


def test_a_damaged_note_is_malformed_and_begin_replaces_it(machine):
    machine.once()
    (note,) = (machine.path / "state").glob("software*")
    note.write_text("{}")
    before = machine.value
    assert machine.once()[0] == 3
    assert machine.value == before
    assert machine.once("--begin")[0] == 0


def test_the_register_is_named_unless_it_is_the_only_one(machine, tmp_path):
    with pytest.raises(UsageError, match="rtmr0:sha384, rtmr1:sha384"):
        named_register(f"file:{tmp_path / 'r'}")
    only = registers.FileRegisters.create(tmp_path / "one", [machine.register])
    assert named_register(f"file:{only.path}")[1] == machine.register
    assert named_register(f"file:{only.path}:rtmr2:sha384")[1] == machine.register
