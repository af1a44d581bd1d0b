"""What happens inside the guest in the tests of the bridge; results in /shared.

The bridge runs in forked children of a Python that has imported everything, for speed. Programs run meanwhile, so that
the kernel's list grows while children are killed.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import count, pairwise
from pathlib import Path

from imarium import cli
from imarium.cli import keep, rot
from imarium.custody import Custody
from imarium.custody.machine import boot_id, registers_of
from imarium.formats.registers import IMA_PCR
from imarium.registers import TsmRegisters, find_register
from imarium.rot import read_sysfs
from imarium.securityfs import ImaDirectory

SHARED = Path("/shared")
IMA = ImaDirectory(patience=5.0)
DEVICE = TsmRegisters("tsm_mr_sample")
REGISTER = find_register(DEVICE, "rtmr1:sha384")
TPM = Path("/sys/class/tpm/tpm0")
PROGRAMS = Path("/opt/imarium-test")
BRIDGE = ("rot", "bridge", "--rot", "tsm:tsm_mr_sample:rtmr1:sha384", "--state", "/var/lib/imarium-test-bridge")
KILLS = 20
COMMANDS = (keep, rot)  # imported before the forks, not in each of them
_serial = count()


def child(*arguments: str, output: str = "/run/out") -> int:
    """Start the command line in a child; its process number."""
    started = os.fork()
    if started == 0:
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
        sys.argv = ["imarium", *arguments]
        cli.main()
    return started


def imarium(*arguments: str) -> dict[str, object]:
    """Run the command line to its end; its status and the JSON document it printed."""
    status = os.waitstatus_to_exitcode(os.waitpid(child(*arguments), 0)[1])
    text = Path("/run/out").read_text()
    return {"status": status, "document": json.loads(text) if text else None}


def run_program() -> None:
    """Run a program that was never run before, so that it is measured; now and then make a violation too."""
    number = next(_serial)
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    path = PROGRAMS / f"program-{os.getpid()}-{number}"
    shutil.copy("/bin/true", path)
    with path.open("ab") as file:
        file.write(path.name.encode())
    subprocess.run([path], check=True)
    if number % 4 == 0:
        with path.open("ab") as file:
            file.write(b"x")
            file.flush()
            path.read_bytes()


def run_programs() -> int:
    """Start a child that runs programs until it is killed; its process number."""
    started = os.fork()
    while started == 0:
        run_program()
        time.sleep(0.25)
    return started


def noted() -> int:
    """How many records the bridge has noted."""
    notes = [json.loads(path.read_bytes()) for path in Path("/var/lib/imarium-test-bridge").glob("tsm*.bridge")]
    return notes[0]["records"] if notes else 0


def wait_for_lock(bridge: int) -> None:
    """Wait until the bridge has taken its register's lock, and so is at work."""
    while f" {bridge} " not in Path("/proc/locks").read_text():
        time.sleep(0.01)


def kill_bridges() -> list[int]:
    """Start the bridge and kill it at a random moment of its work, again and again; the positions it had noted."""
    seen = []
    chance = random.Random(7)  # noqa: S311 - moments, not secrets
    for _ in range(KILLS):
        bridge = child(*BRIDGE, "--interval", "0.01")
        wait_for_lock(bridge)
        time.sleep(chance.uniform(0, 0.5))
        os.kill(bridge, signal.SIGKILL)
        assert os.waitpid(bridge, 0)[1] == signal.SIGKILL
        seen.append(noted())
    return seen


def save(name: str) -> dict[str, object]:
    """The list, PCR 10 and the register, all of one moment."""
    while True:
        before = IMA.count(), read_sysfs(TPM, [IMA_PCR])
        content = (IMA.path / "binary_runtime_measurements_sha1").read_bytes()
        value = DEVICE.read(REGISTER)
        if (IMA.count(), read_sysfs(TPM, [IMA_PCR])) == before:
            break
    (SHARED / name).write_bytes(content)
    pcrs = {bank.name: values[IMA_PCR].hex() for bank, values in before[1].items()}
    return {"count": before[0], "pcr10": pcrs, "rtmr1": value.hex()}


def verify(name: str) -> dict[str, object]:
    """The verdict on an exported list."""
    return imarium(*BRIDGE, "--verify", str(SHARED / name), "--json")


def follow_quietly() -> list[int]:
    """How long the list is at three moments while a bridge follows it and nothing else runs."""
    bridge = child(*BRIDGE, "--interval", "0.05")
    counts = []
    wait_for_lock(bridge)
    time.sleep(2.0)
    for _ in range(3):
        time.sleep(0.5)
        counts.append(IMA.count())
    os.kill(bridge, signal.SIGTERM)
    counts.append(os.waitstatus_to_exitcode(os.waitpid(bridge, 0)[1]))
    return counts


def drained() -> dict[str, object]:
    """Custody drains the list, another program runs, and the bridge looks, without the store and with it."""
    store = ("--store", "/var/lib/imarium-test-store")
    keep = imarium("keep", "--once", "--json", *store)
    run_program()
    before = DEVICE.read(REGISTER).hex()
    alone = imarium(*BRIDGE, "--once", "--json")["status"]
    untouched = DEVICE.read(REGISTER).hex() == before
    together = imarium(*BRIDGE, "--once", "--json", *store)
    value = DEVICE.read(REGISTER).hex()
    whole = Custody(Path(store[1])).whole(IMA, boot_id=boot_id(), registers=registers_of(IMA.path))
    (SHARED / "whole").write_bytes(b"".join(whole.blocks()))
    return {"keep": keep, "alone": alone, "untouched": untouched, "together": together, "value": value}


def main() -> None:
    """The story, one boot; ``seconds`` tells how long each part took."""
    out: dict[str, object] = {"initial": DEVICE.read(REGISTER).hex(), "count": IMA.count()}
    times = [time.monotonic()]
    programs = run_programs()
    out["notes"] = kill_bridges()
    times.append(time.monotonic())
    os.kill(programs, signal.SIGKILL)
    os.waitpid(programs, 0)
    out["quiet"] = follow_quietly()
    times.append(time.monotonic())
    out["caught_up"] = imarium(*BRIDGE, "--once", "--json")
    out["good"] = save("good")
    out["good_verdict"] = verify("good")
    times.append(time.monotonic())
    DEVICE.extend(REGISTER, b"\x07" * REGISTER.size)
    run_program()
    out["refused"] = imarium(*BRIDGE, "--once", "--json")["status"]
    out["bad"] = save("bad")
    out["bad_verdict"] = verify("bad")
    times.append(time.monotonic())
    out["again"] = imarium(*BRIDGE, "--once", "--begin", "--json")
    out["anew"] = save("anew")
    out["drained"] = drained()
    times.append(time.monotonic())
    out["seconds"] = [round(after - before, 1) for before, after in pairwise(times)]
    (SHARED / "out.json").write_text(json.dumps(out))


main()
