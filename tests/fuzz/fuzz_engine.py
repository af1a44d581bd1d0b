"""Fuzz what the engine is handed: ``python tests/fuzz/fuzz_engine.py TARGET [libFuzzer options]``.

Rules come from whoever writes the policy, a buffer from a file. Nothing but imarium's own errors may leave.
"""

import sys
from itertools import islice
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
with atheris.instrument_imports(include=["imarium"]):
    from imarium.engine import MeasurementQueue, PolicyFile, PolicyRefused
    from imarium.engine.kexec import kexec_buffer, records_in_buffer
    from imarium.errors import MalformedInput

_MANY = 64


def policy(data: bytes) -> None:
    """Rules, written line by line: all are taken, or none. Paths are left out: they would be opened."""
    file = PolicyFile()
    update = file.begin()
    refused = False
    for line in islice(data.split(b"\n"), _MANY):
        if line.startswith(b"/"):
            continue
        try:
            taken = update.write(line + b"\n")
        except PolicyRefused as error:
            refused = True
            assert error.number > 0
            assert "\n" not in str(error), "an error of more than one line"
        else:
            assert taken == len((line + b"\n").partition(b"\0")[0].partition(b"\n")[0]) + 1 or b"\0" in line
    update.release()
    text = file.text()
    assert not (refused and text), "rules of a refused policy are in force"
    assert text.count(b"\n") == len(file.policy.rules), "a rule is not one line"


def restore(data: bytes) -> None:
    """A kexec buffer: what is restored is handed on as it came."""
    try:
        found = list(records_in_buffer([data], "little"))
    except MalformedInput as error:
        assert "\n" not in str(error), "an error of more than one line"
        return
    queue = MeasurementQueue()
    queue.restore(found)
    queue.suspend()
    written = b"".join(kexec_buffer(queue))
    assert len(queue.current) == len(found)
    assert data.startswith(written), "a restored buffer is not written as it was read"


TARGETS = {target.__name__: target for target in (policy, restore)}


def main() -> None:
    """Fuzz the target named first on the command line."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: fuzz_engine.py {'|'.join(TARGETS)} [libFuzzer options] [corpus directory]")
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
