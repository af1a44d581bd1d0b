"""What happens inside the guest in the tests of registers; results in /shared/out.json."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

from imarium import cli
from imarium.errors import ImariumError
from imarium.registers import EventLog, TsmRegisters, find_register

DEVICE = TsmRegisters("tsm_mr_sample")
LOGS = Path("/run/logs")


def run(*arguments: str) -> tuple[object, str]:
    """The command line in this process: its status and what it printed."""
    sys.argv = ["imarium", "registers", *arguments]
    printed = io.StringIO()
    status: object = 0
    with contextlib.redirect_stdout(printed):
        try:
            cli.main()
        except SystemExit as ended:
            status = ended.code
    return status, printed.getvalue()


def values() -> dict[str, str]:
    """Every register, read without imarium."""
    return {path.name: path.read_bytes().hex() for path in DEVICE.path.iterdir()}


def extend_each() -> dict[str, dict[str, str]]:
    """Extend each writable register once."""
    steps = {}
    for register in DEVICE.registers():
        if register.extensible:
            before = values()[register.key]
            digest = os.urandom(register.size)
            returned = DEVICE.extend(register, digest).hex()
            after = values()[register.key]
            steps[register.key] = {"before": before, "digest": digest.hex(), "returned": returned, "after": after}
    return steps


def refused(key: str, size: int) -> tuple[str, bool]:
    """The code of the error at an extend, and whether all registers kept their values."""
    before = values()
    try:
        DEVICE.extend(find_register(DEVICE, key), bytes(size))
    except ImariumError as error:
        return error.code, values() == before
    return "", False


def trap() -> tuple[int, bool]:
    """What the kernel itself does with a write that is too long: bytes taken, and whether it extended."""
    before = values()["rtmr1:sha384"]
    descriptor = os.open(DEVICE.path / "rtmr1:sha384", os.O_WRONLY)
    taken = os.write(descriptor, bytes(50))
    os.close(descriptor)
    return taken, values()["rtmr1:sha384"] != before


def log_story() -> dict[str, object]:
    """An event log over rtmr1: appended, extended, synced, extended under its other name, healed."""
    log = EventLog(DEVICE, find_register(DEVICE, "rtmr1"), LOGS)

    def state() -> tuple[bool, bool]:
        return log.verify().in_step, run("verify", "rtmr1", "--log", str(LOGS))[0] == 0

    story: dict[str, object] = {}
    statuses = [run("append", "rtmr1", "one\n# two", "--log", str(LOGS))[0]]
    story["appended"] = state()
    statuses.append(run("extend", "rtmr1", "07" * 48, "--log", str(LOGS))[0])
    story["extended"] = state()
    log.append(b"three")
    story["synced"] = state()
    DEVICE.extend(find_register(DEVICE, "rtmr_crypto_agile:sha384"), bytes(48))
    story["alias"] = state()
    log.append(b"four")
    start = max(number for number, line in enumerate(log.read().splitlines(), 1) if line.startswith(b"SYNC "))
    again = run("verify", "rtmr1", "--from", str(start), "--log", str(LOGS))[0]
    story["healed"] = log.verify(start=start).in_step, again == 0
    statuses.append(run("verify", "rtmr1", "--log", str(LOGS))[0])
    story["statuses"] = statuses
    return story


def tree() -> dict[str, object]:
    """The mounted tree over the real device."""
    place = Path("/run/tree")
    place.mkdir()
    command = [sys.executable, "-m", "imarium", "registers", "mount", str(place), "--log", str(LOGS)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    said = server.stderr.readline()
    assert said.startswith("mounted"), said
    root = place / "tsm_mr_sample"
    (root / "rtmr1" / "append_event").write_bytes(b"from the tree\n")
    found: dict[str, object] = {
        "names": sorted(path.name for path in root.iterdir()),
        "digest": (root / "rtmr1" / "digest").read_bytes().hex(),
        "sysfs": values()["rtmr1:sha384"],
        "log_end": (root / "rtmr1" / "event_log").read_text().splitlines(keepends=True)[-1],
        "static": (root / "static_mr").read_bytes().hex(),
    }
    try:
        (root / "static_mr").write_bytes(bytes(48))
        found["refused"] = False
    except PermissionError:
        found["refused"] = True
    server.terminate()
    found["status"] = server.wait(timeout=60)
    return found


def main() -> None:
    """Each part in turn."""
    out: dict[str, object] = {"sysfs": values(), "list": json.loads(run("list", "--json")[1])}
    out["refused"] = {
        register.key: refused(register.key, register.size) for register in DEVICE.registers() if not register.extensible
    }
    out["sizes"] = [refused("rtmr1", size) for size in (0, 47, 49, 96)]
    out["extends"] = extend_each()
    out["final"] = values()
    out["trap"] = trap()
    out["log"] = log_story()
    out["tree"] = tree()
    Path("/shared/out.json").write_text(json.dumps(out))


main()
