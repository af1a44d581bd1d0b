"""What happens inside the guest in the tests of custody: ``custody_session.py SESSION``, results in /shared/out.json.

Each session runs the command line in forked children, for speed; a child that is to die is given the environment
variable that makes it kill itself. Checks that need the kernel are made here, the others by the tests outside.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from imarium import cli
from imarium.chain import ChainState
from imarium.custody import KILL_VARIABLE, Custody, HeldLists, Keeper, Step, Store
from imarium.custody.machine import boot_id, registers_of
from imarium.custody.proof import prove
from imarium.formats.registers import IMA_PCR
from imarium.securityfs import ImaDirectory, ListBusy, SecurityfsError

SHARED = Path("/shared")
IMA = ImaDirectory(patience=2.0)
REGISTERS = registers_of(IMA.path)
PROGRAMS = Path("/opt/imarium-test")
_serial = count()


def measured(name: str | None = None) -> str:
    """Run a program that was never run before, so that it is measured; its path."""
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    path = PROGRAMS / (name or f"program-{next(_serial):03}")
    shutil.copy("/bin/true", path)
    with path.open("ab") as file:
        file.write(path.name.encode())
    subprocess.run([path], check=True)
    return str(path)


def run(store: Path, *arguments: str, kill_at: str = "") -> tuple[int, dict[str, object]]:
    """Run ``imarium keep --once --json`` in a child; its wait status and what it printed."""
    output = Path("/run/keep.out")
    child = os.fork()
    if child == 0:
        with output.open("w") as file:
            os.dup2(file.fileno(), 1)
        os.environ[KILL_VARIABLE] = kill_at
        sys.argv = ["imarium", "keep", "--once", "--json", "--store", str(store), *arguments]
        cli.main()
    _, status = os.waitpid(child, 0)
    text = output.read_text()
    return status, json.loads(text) if text else {}


def check(store: Path) -> dict[str, object]:
    """Compare what is kept and what is pending with the registers, now."""
    values = REGISTERS([IMA_PCR])
    whole = Custody(store).whole(IMA, boot_id=boot_id(), registers=REGISTERS)
    blocks = b"".join(whole.blocks())
    proof = prove([blocks[: whole.size]], [blocks[whole.size :]], whole.layout, start=ChainState(), values=values)
    return {
        "records": whole.records,
        "kept": blocks[: whole.size].hex(),
        "reached": proof.reached,
        "complete": proof.complete,
        "verdict": whole.verdict,
        "journal": [entry.event.value for entry in whole.log.journal.entries] if whole.log else [],
    }


def kernel_list() -> bytes:
    with IMA.snapshot() as lists:
        return b"".join([*lists.staged(), *lists.current()])


def drains() -> dict[str, object]:
    """Two drains with programs run between, and the full list read beside the first."""
    store = SHARED / "store"
    full, before = kernel_list(), IMA.count()
    status1, first = run(store)
    after = IMA.count()
    programs = [measured() for _ in range(5)]
    second_list = kernel_list()
    status2, second = run(store)
    result = check(store)
    values = REGISTERS([IMA_PCR])
    return {
        "full": full.hex(),
        "second_list": second_list.hex(),
        "counts": [before, after, IMA.count()],
        "status": [status1, status2],
        "keep": [first, second],
        "programs": programs,
        "check": result,
        "registers": {bank.name: value.hex() for bank, value in values[IMA_PCR].items()},
        "pending": kernel_list().hex(),
    }


def crashes() -> dict[str, object]:
    """Kill the service at every step, and run it again."""
    store = Path("/var/lib/imarium-test-store")
    rows: list[dict[str, object]] = []
    for step in [Step.CREATED, *(step for step in Step if step is not Step.CREATED)]:
        programs = [measured()]
        killed, _ = run(store, kill_at=step)
        programs.append(measured())
        again, result = run(store)
        rows.append(
            {"step": step, "killed": killed, "again": again, "result": result, "programs": programs}
            | {"check": check(store)}
        )
    idle = run(store)
    return {"rows": rows, "idle": idle, "check": check(store)}


def others() -> dict[str, object]:
    """Others on the same files: a reader, a writer that staged, and one that deletes what nobody kept."""
    store = Path("/var/lib/imarium-test-store")
    out: dict[str, object] = {"ours": run(store)}
    reader = os.open(IMA.path / "binary_runtime_measurements", os.O_RDONLY)
    out["busy"] = run(store, "--wait", "0.2")
    out["busy_error"] = _error(lambda: ImaDirectory(patience=0.0).stage())
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        time.sleep(0.5)
        os._exit(0)
    os.close(reader)
    out["patient"] = run(store, "--wait", "10")
    os.waitpid(pid, 0)
    measured("staged-by-other")
    IMA.stage()
    measured("after-other")
    out["errors"] = {
        "stage": _error(IMA.stage),
        "delete_many": _error(lambda: IMA.delete(10**6)),
    }
    out["leftover"] = run(store)
    out["errors_after"] = {"delete_staged": _error(IMA.delete_staged)}
    out["check"] = check(store)
    lock = os.open(store / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    out["second"] = run(store)
    os.close(lock)
    out["unprivileged"] = _unprivileged()
    measured("lost")
    IMA.stage()
    IMA.delete_staged()
    measured("after-lost")
    before = kernel_list()
    out["gap"] = [run(store), run(store)]
    out["gap_kernel"] = kernel_list().startswith(before)
    out["gap_logs"] = [_log(store, number) for number in Store(store).numbers]
    return out


def _log(store: Path, number: int) -> dict[str, object]:
    log = Store(store).log(number)
    return {
        "start": log.meta.start,
        "events": [entry.event.value for entry in log.journal.entries],
        "names": [(record.name or b"").decode() for record in log.records_from(0)],
    }


def _unprivileged() -> list[str]:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgid(0)
        os.setuid(1000)
        source = ImaDirectory(patience=0.0)
        with source.snapshot() as lists:
            size = len(b"".join(lists.current()))
        errors = [_error(source.stage), str(source.can_delete()), str(size > 0)]
        os.write(write, json.dumps(errors).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    return list(json.loads(os.read(read, 65536)))


def kexec() -> dict[str, object]:
    """A kernel that is replaced: the log goes on in the next one."""
    store = SHARED / "store"
    if "second_kernel" not in Path("/proc/cmdline").read_text():
        measured("before-kexec")
        results = [run(store)]
        measured("carried-over")
        return {"first": results, "boot": boot_id()}
    measured("after-kexec")
    return {"second": [run(store), run(store)], "boot": boot_id(), "check": check(store)}


def _error(action: Callable[[], object]) -> str:
    try:
        action()
    except ListBusy as error:
        return f"{error.code}: {error}"
    except SecurityfsError as error:
        return f"{error.code}: {error}"
    return "none"


def power(step: str) -> dict[str, object]:
    """Keep on the disk, and at one step say what the registers hold and wait for the power to be cut.

    Called again after that, keep in the new life of the registers.
    """
    subprocess.run(["mount", "/dev/vda", "/mnt"], check=True)
    store = Path("/mnt/store")
    if store.exists():
        status, result = run(store)
        subprocess.run(["umount", "/mnt"], check=True)
        return {"status": status, "result": result}

    def hook(reached: Step) -> None:
        if reached == step:
            values = REGISTERS([IMA_PCR])[IMA_PCR]
            texts = {bank.name: value.hex() for bank, value in values.items()}
            print(f"registers {json.dumps(texts)} pending {kernel_now().hex()} cut now", flush=True)
            time.sleep(3600)

    def kernel_now() -> bytes:
        return b"".join([*lists[0].staged(), *lists[0].current()])

    lists: list[HeldLists] = []
    source = ImaDirectory()
    hold = source.hold

    @contextmanager
    def remembered() -> Iterator[HeldLists]:
        with hold() as held:
            lists.append(held)
            yield held

    source.hold = remembered  # type: ignore[method-assign, assignment]
    keeper = Keeper(Store(store, create=True), source, boot_id=boot_id(), registers=REGISTERS, hook=hook)
    keeper.once()
    raise SystemExit("the power was not cut")


def warm_up() -> None:
    """Load what the command line loads late, once for all children."""
    sys.argv = ["imarium", "keep", "--method", "none"]
    with suppress(SystemExit):
        cli.main()


def main() -> None:
    session, *arguments = sys.argv[1:]
    warm_up()
    name = "out-2.json" if "second_kernel" in Path("/proc/cmdline").read_text() else "out.json"
    sessions: dict[str, Callable[..., dict[str, object]]] = {
        "drains": drains,
        "crashes": crashes,
        "others": others,
        "kexec": kexec,
        "power": power,
    }
    (SHARED / name).write_text(json.dumps(sessions[session](*arguments)))


if __name__ == "__main__":
    main()
