"""``imarium engine`` as a program: mounted, watching, with a TPM, judged by evmctl and by replay, over its lives."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from tests.real.conftest import Swtpm, start_swtpm
from tests.real.evmctl import evmctl
from tests.real.running_engine import LIMIT, Running, copied_programs, imarium, start_engine
from tests.real.test_engine_tpm import pcrread
from tests.real.watching import program_tree, run_tree

from imarium.formats import IMA_PCR, parse_pcrread
from imarium.hashes import SHA1, SHA256
from imarium.rot import TpmRoot, open_root

Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts engines in one place, one after the other, and ends what runs."""
    running: list[Running] = []

    def begin(*arguments: str | Path) -> Running:
        running.append(start_engine(tmp_path, *arguments))
        return running[-1]

    yield begin
    for each in running:
        each.end()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, so that no one else waits for the engine."""
    place = tmp_path / "watched"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "imarium-test", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


def rot(swtpm: Swtpm) -> tuple[str, str]:
    return "--rot", f"tpm:{swtpm.tcti}"


def replayed(path: Path, pcrs: Path, *, status: int = 0) -> dict:
    return json.loads(imarium("replay", path, "--pcrs", pcrs, "--json", status=status))


def test_evmctl_and_replay_accept_the_mounted_list_against_the_tpms_registers(swtpm, start, watched, tmp_path):
    engine = start("--watch", watched, *rot(swtpm))
    for program in copied_programs(watched, "true", "date", "ls", "cat"):
        subprocess.run([program, *(["/dev/null"] if program.name == "cat" else [])], check=True, capture_output=True)
    pcrs = pcrread(swtpm, tmp_path)
    found = replayed(engine.binary, pcrs)
    assert (found["unverified"], found["bad_digests"]) == (0, [])
    assert set(found["match"]["10"]) == {"sha1", "sha256", "sha384", "sha512"}
    assert engine.names()[-4:] == [str(watched / name) for name in ("true", "date", "ls", "cat")]
    values = {bank: value for bank, value in parse_pcrread(pcrs.read_text())[IMA_PCR].items() if bank in {SHA1, SHA256}}
    assert evmctl(engine.binary, values, tmp_path) == 0
    data = bytearray(engine.binary.read_bytes())
    data[-3] ^= 1
    (tmp_path / "tampered").write_bytes(data)
    assert evmctl(tmp_path / "tampered", values, tmp_path) != 0
    assert replayed(tmp_path / "tampered", pcrs, status=1)["match"]["10"]["sha256"] is None


def test_every_file_that_ran_is_listed_once_per_content(swtpm, start, watched, tmp_path):
    """A tree of programs and libraries, run from four processes at once; then one of each has changed."""
    (tmp_path / "build").mkdir()
    tree = program_tree(watched, tmp_path / "build")
    engine = start("--watch", watched, *rot(swtpm))
    expected = [[f"sha256:{sha256(path.read_bytes()).hexdigest()}", str(path)] for path in tree.iterdir()]
    run_tree(tree)
    changed = [tree / "program007", tree / "library007"]
    for path in changed:
        with path.open("ab") as file:
            file.write(b"changed")
        expected.append([f"sha256:{sha256(path.read_bytes()).hexdigest()}", str(path)])
    subprocess.run(changed, check=True)
    listed = [line.split(" ")[3:5] for line in engine.ascii.read_text().splitlines()]
    assert sorted(each for each in listed if each[1].startswith(f"{tree}/")) == sorted(expected)
    assert len(expected) == 1002
    assert engine.status()["problems"] == 0
    found = replayed(engine.binary, pcrread(swtpm, tmp_path))
    assert (found["unverified"], found["records"]) == (0, len(listed))


def test_a_killed_engine_leaves_nobody_waiting(start, watched):
    (program,) = copied_programs(watched, "true")
    engine = start("--watch", watched, "--rot", "none")
    stop = threading.Event()
    failed: list[int] = []

    def run() -> None:
        while not stop.is_set():
            if code := subprocess.run([program], check=False, timeout=LIMIT).returncode:
                failed.append(code)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert engine.end(signal.SIGKILL) == -signal.SIGKILL
    time.sleep(0.5)
    stop.set()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert failed == []
    subprocess.run(["umount", "-l", str(engine.root)], check=True)
    engine = start("--rot", "none")
    assert engine.names()[0] == "boot_aggregate"


def test_a_simulator_on_the_watched_file_system_is_not_kept_waiting(start, watched):
    """It opens files of its own while a record is extended: nobody measures them, or it would wait for itself."""
    state = watched / "swtpm"
    state.mkdir()
    simulator, swtpm = start_swtpm(state)
    try:
        policy = watched.with_name("policy")
        policy.write_text("measure func=FILE_CHECK\nmeasure func=BPRM_CHECK\nmeasure func=CRITICAL_DATA\n")
        engine = start("--watch", watched, "--policy", policy, *rot(swtpm))
        for program in copied_programs(watched, "true", "date"):
            subprocess.run([program], check=True, capture_output=True)
        command = ["tpm2_nvdefine", "-T", swtpm.tcti, "0x1500016", "-C", "o", "-s", "32"]
        subprocess.run(command, check=True, capture_output=True, timeout=LIMIT)
        status = engine.status()
        assert not any(name.startswith(str(state)) for name in engine.names())
        assert (status["problems"], status["registers"][0]["waiting"]) == (0, 0)
        with open_root(f"tpm:{swtpm.tcti}") as root:
            assert isinstance(root, TpmRoot)
            assert root.processes == (simulator.pid,)
    finally:
        simulator.stop()


def test_its_own_lives_over_processes_replay_to_the_registers_each_time(swtpm, start, tmp_path):
    rng = random.Random(3)  # noqa: S311 - the same commands each time
    kept, options = b"", list[str | Path]()
    for life in range(4):
        engine = start(*rot(swtpm), *options)
        for number in range(rng.randrange(3, 9)):
            file = tmp_path / f"file-{life}-{number}"
            file.write_bytes(rng.randbytes(100))
            imarium("engine", "--measure", file, "--state", engine.state)
            if number == 1:
                engine.write("binary_runtime_measurements_sha1_staged", b"A\n")
            if number == 2:
                kept += (engine.root / "binary_runtime_measurements_sha1_staged").read_bytes()
                engine.write("binary_runtime_measurements_sha1_staged", b"D\n")
        buffer = tmp_path / f"buffer{life}"
        suspended = engine.suspend_to(buffer, "--stay")
        assert suspended["suspended"] is True
        assert suspended["handed_over"] == suspended["records"]["current"] + suspended["records"]["staged"]
        assert engine.names()[-1] == "kexec_execute"
        (tmp_path / "list").write_bytes(kept + engine.binary.read_bytes())
        found = replayed(tmp_path / "list", pcrread(swtpm, tmp_path))
        assert found["unverified"] == 0
        assert len(found["boot_aggregates"]) == life + 1
        assert all(interval["verdict"] == "exact" for interval in found["counters"])
        engine.suspend_to(buffer)
        assert engine.wait() == 0
        assert not engine.root.is_mount()
        options = ["--restore", buffer]
    assert b"gone on from this file" in _refused(tmp_path, buffer=tmp_path / "buffer0")


def _refused(place: Path, buffer: Path) -> bytes:
    command = [sys.executable, "-m", "imarium", "engine", "--once", "--rot", "none"]
    command += ["--state", str(place / "state"), "--restore", str(buffer)]
    done = subprocess.run(command, check=False, capture_output=True, timeout=LIMIT)
    assert done.returncode == 1
    return done.stderr


def test_an_engine_that_cannot_start_extends_nothing_or_hands_back_what_it_took(swtpm, start, tmp_path):
    engine = start(*rot(swtpm))
    buffer, policy, fifo = (tmp_path / name for name in ("buffer", "rules", "fifo"))
    engine.suspend_to(buffer)
    engine.wait()
    registers, left = pcrread(swtpm, tmp_path).read_bytes(), buffer.read_bytes()
    policy.write_text("measure func=NOTHING\n")
    go_on = ("engine", "--mount", engine.root, "--state", engine.state, *rot(swtpm), "--restore", buffer)
    imarium(*go_on, "--mount", "/nowhere", status=4)
    imarium(*go_on, "--watch", "/nowhere", status=4)
    imarium(*go_on, "--measure", "/nowhere", status=4)
    imarium(*go_on, "--policy", policy, status=3)
    assert (pcrread(swtpm, tmp_path).read_bytes(), buffer.read_bytes()) == (registers, left)
    os.mkfifo(fifo)
    imarium(*go_on, "--measure", fifo, status=4)
    assert pcrread(swtpm, tmp_path).read_bytes() != registers
    engine = start(*rot(swtpm), "--restore", buffer)
    (tmp_path / "list").write_bytes(engine.binary.read_bytes())
    found = replayed(tmp_path / "list", pcrread(swtpm, tmp_path))
    assert (found["unverified"], len(found["boot_aggregates"])) == (0, 3)


def test_an_engine_that_only_stopped_says_what_the_registers_held(swtpm, start, tmp_path):
    engine = start(*rot(swtpm))
    imarium("engine", "--stop", "--state", engine.state)
    assert engine.wait() == 0
    engine = start(*rot(swtpm))
    assert any("was extended before this list" in line for line in engine.said)
    pcrs = pcrread(swtpm, tmp_path)
    (tmp_path / "list").write_bytes(engine.binary.read_bytes())
    replayed(tmp_path / "list", pcrs, status=1)
    begin = engine.state / "start.json"
    found = json.loads(imarium("replay", tmp_path / "list", "--pcrs", pcrs, "--from", begin, "--json"))
    assert found["unverified"] == 0


def test_an_engine_over_a_used_register_that_is_no_pcr_says_what_it_held(start, tmp_path):
    registers, held = tmp_path / "registers", "5a" * 48
    imarium("registers", "create", registers)
    provider = ("--provider", f"file:{registers}", "--log", tmp_path / "logs", "--json")
    held = json.loads(imarium("registers", "extend", *provider, "rtmr2", held))["value"]
    engine = start("--rot", f"software:{registers}")
    assert any(f"from rtmr2={held} (verify --initial) only" in line for line in engine.said)
    assert not (engine.state / "start.json").exists()


def test_custody_takes_the_records_of_a_mounted_engine_with_proof(swtpm, start, tmp_path):
    engine = start(*rot(swtpm))
    keep = ("keep", "--once", "--json", "--source", engine.root, "--store", tmp_path / "store", "--tcti", swtpm.tcti)
    for turn in range(3):
        (tmp_path / f"file{turn}").write_text(f"content {turn}")
        imarium("engine", "--measure", tmp_path / f"file{turn}", "--state", engine.state)
        kept = json.loads(imarium(*keep))
        assert kept["verdict"] == "proven"
        assert (engine.root / "runtime_measurements_count").read_text() == "0\n"
    export = tmp_path / "export"
    imarium("log", "export", "--store", tmp_path / "store", "--format", "binary", "-o", export)
    found = replayed(export, pcrread(swtpm, tmp_path))
    assert (found["unverified"], found["records"]) == (0, 9)
    assert all(interval["verdict"] == "exact" for interval in found["counters"])


def test_status_of_a_bypass_and_requests_that_make_no_sense(start):
    engine = start("--rot", "unknown")
    assert any("BYPASS" in line for line in engine.said)
    status = engine.status()
    assert (status["bypass"], status["registers"], status["records"]["full"]) == (True, [], 2)
    assert b"BYPASS" in imarium("engine", "--status", "--state", engine.state)
    imarium("engine", "--measure", "/nowhere", "--state", engine.state, status=4)
    imarium("engine", "--suspend-to", "/nowhere/file", "--state", engine.state, status=4)
    assert engine.status()["suspended"] is False
    imarium("engine", "--mount", engine.root, "--state", engine.state, status=4)


def test_policy_and_measurements_by_options(start, tmp_path):
    policy = tmp_path / "policy"
    policy.write_text("measure func=FILE_CHECK fowner=0 pcr=11\n")
    measured = tmp_path / "measured"
    measured.write_text("x")
    options = ["--policy", policy, "--measure", measured, "--template", "ima-sigv2", "--hash", "sha512", "--late"]
    engine = start("--rot", "none", *options)
    lines = [line.split(" ") for line in engine.ascii.read_text().splitlines()]
    assert [line[4] for line in lines] == ["boot_aggregate_late", str(measured)]
    assert all(line[2] == "ima-sigv2" and line[3].startswith("ima:sha512:") for line in lines)
    assert (engine.root / "policy").read_text() == "measure func=FILE_CHECK pcr=11 fowner=0 \n"
    assert (engine.root / "ascii_runtime_measurements_sha512").exists()


def test_the_files_as_below_securityfs_and_without_staging(start):
    engine = start("--rot", "none", "--nested", "--no-staging")
    assert (engine.root / "ima").readlink() == Path("integrity/ima")
    names = {path.name for path in (engine.root / "ima").iterdir()}
    assert not any(name.endswith("_staged") for name in names)
    assert {"binary_runtime_measurements", "policy", "violations"} <= names


def test_a_policy_path_on_the_mount_itself_is_refused_and_hangs_nobody(start):
    engine = start("--rot", "none")
    with pytest.raises(TimeoutError):
        engine.write("policy", os.fsencode(engine.root / "policy"))
    engine.write("policy", b"measure func=CRITICAL_DATA pcr=12\n")
    assert (engine.root / "policy").read_text() == "measure func=CRITICAL_DATA pcr=12 \n"


def test_one_shot_prints_a_list_that_replays(swtpm, tmp_path):
    twice = ("--measure", "/usr/bin/env") * 2
    command = ("engine", "--once", *rot(swtpm), *twice)
    (tmp_path / "list").write_bytes(imarium(*command))
    assert replayed(tmp_path / "list", pcrread(swtpm, tmp_path))["unverified"] == 0
    names = [line.split(b" ")[4] for line in (tmp_path / "list").read_bytes().splitlines()]
    assert names == [b"boot_aggregate", b"kernel_version", b"ima_init_tpm_update_counter", b"/usr/bin/env"]
    found = json.loads(imarium(*command, "--json", "--template", "ima"))
    assert [each["recorded"] for each in found["files"]] == [True, False]
    assert found["list"][-1].endswith("/usr/bin/env")


def test_the_demonstration():
    said = imarium("demo").decode()
    assert "verdict  proven" in said
    assert "pass: the quote proves" in said
    assert "record_altered" in said
    mounts = Path("/proc/self/mounts").read_text()
    assert "imarium-demo" not in mounts
    said = imarium("demo", "--no-mount").decode()
    assert "the given values cover" in said
    assert "match no prefix" in said


_NO_FUSE = """mount -t tmpfs none /dev
mknod -m 666 /dev/null c 1 3
mknod -m 666 /dev/zero c 1 5
mknod -m 666 /dev/urandom c 1 9"""


@pytest.mark.parametrize(
    ("under", "lacking"),
    [
        (["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], "not root"),
        (["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all"], "no CAP_SYS_ADMIN"),
        (["unshare", "--map-root-user"], "no file systems can be mounted here"),
        (["unshare", "--map-root-user", "--mount"], "cannot watch files: fanotify"),
        (["unshare", "--mount", "sh", "-c", f'{_NO_FUSE}\nexec "$@"', "sh"], "no /dev/fuse"),
        (
            ["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /dev/fuse; exec "$@"', "sh"],
            "ima: FUSE could not",
        ),
    ],
)
def test_the_demonstration_without_the_right_to_mount_shows_what_can_be_shown(under, lacking):
    """It says what is missing, whether that is known at once or only trying shows it."""
    done = subprocess.run(
        [*under, sys.executable, "-m", "imarium", "demo"],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), "TMPDIR": "/tmp"},  # noqa: S108
    )
    assert done.returncode == 0, done.stdout + done.stderr
    missing, _, story = done.stdout.partition("\n\n== An engine measures what it is told to")
    assert missing.splitlines()[-1].startswith(lacking)
    assert "match no prefix" in story
