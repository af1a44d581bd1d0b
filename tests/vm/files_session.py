"""What happens inside the guest in the tests of file measuring: one story, measured by the kernel or by the engine.

    files_session.py kernel|engine

After each step the new records are noted: name, register, template, whether a violation, fields. Results in
/shared/out.json.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from imarium.engine import (
    Action,
    Event,
    FileMeasurer,
    Measurement,
    MeasurementQueue,
    PolicyFile,
    Problem,
    Watch,
    event_data,
    find_template,
)
from imarium.formats import ListLayout, Record, read_records
from imarium.hashes import SHA256

IMA = Path("/sys/kernel/security/ima")
STORY = Path(__file__).with_name("files_story.py")
PLACE = Path("/mnt")
RULES = (
    b"measure func=FILE_CHECK mask=^MAY_READ fowner=4242\n"
    b"measure func=MMAP_CHECK mask=MAY_EXEC fowner=4242\n"
    b"measure func=BPRM_CHECK mask=MAY_EXEC fowner=4242\n"
    b"measure func=FILE_CHECK mask=MAY_READ fowner=4243 fsmagic=0xef53 fsname=ext4 uid=0 pcr=11 template=ima-ngv2\n"
    b"measure func=FILE_CHECK mask=MAY_READ fowner=5001 template=ima\n"
    b"measure func=FILE_CHECK mask=MAY_READ fowner=5002 template=ima-ng\n"
    b"measure func=FILE_CHECK mask=MAY_READ fowner=5003 template=ima-ngv2\n"
    b"measure func=FILE_CHECK mask=MAY_READ fowner=5004 template=ima-sigv2\n"
    b"measure func=FILE_CHECK mask=MAY_READ fowner=5005 template=ima-modsig\n"
    b"measure func=FILE_CHECK mask=MAY_READ fowner=5006 template=evm-sig\n"
)
Told = list[tuple[str, list[list[str]]]]


def story(records: Callable[[], list[Record]]) -> Told:
    """All steps, each with its new records."""
    told: Told = []
    seen = len(records())
    command = [sys.executable, str(STORY), str(PLACE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            found = records()
            told.append((json.loads(line), [[str(fact) for fact in facts(record)] for record in found[seen:]]))
            seen = len(found)
            process.stdin.write("\n")
            process.stdin.flush()
    assert process.returncode == 0, process.returncode
    return told


def facts(record: Record) -> Iterator[object]:
    """Everything but the number, name first."""
    yield (record.name or b"").decode(errors="backslashreplace")
    yield record.pcr
    yield record.template.name
    yield "violation" if record.is_violation else "content"
    yield from (raw.hex() for raw in record.fields)


def by_kernel() -> Told:
    """The kernel measures."""
    descriptor = os.open(IMA / "policy", os.O_WRONLY)
    for line in RULES.splitlines(keepends=True):
        os.write(descriptor, line)
    os.close(descriptor)

    def records() -> list[Record]:
        return list(read_records([(IMA / "binary_runtime_measurements").read_bytes()], ListLayout()))

    return story(records)


def by_engine() -> Told:
    """The engine measures what is on the watched file system."""
    policy = PolicyFile()
    policy.append(RULES)
    queue = MeasurementQueue()
    layout = ListLayout()
    problems: list[Problem] = []

    def add(event: Event, action: Action) -> bool:
        template = find_template(action.template or "ima-sig")
        return queue.add(Measurement(action.pcr, template, event_data(template, event, "little"), event.violation))

    def records() -> list[Record]:
        with queue.lock:
            current = queue.current
            return [current[number].record(number, layout.digest) for number in range(current.first, current.end)]

    files = FileMeasurer(policy, add, hash_algorithm=SHA256, template="ima-sig", byte_order="little")
    with Watch([PLACE], files, problems.append):
        told = story(records)
    assert not problems, problems
    return told


def main() -> None:
    """On a file system of its own."""
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-F", "/dev/vda"], check=True)
    subprocess.run(["mount", "-t", "ext4", "/dev/vda", str(PLACE)], check=True)
    told = {"kernel": by_kernel, "engine": by_engine}[sys.argv[1]]()
    Path("/shared/out.json").write_text(json.dumps(told))


main()
