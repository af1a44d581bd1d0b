"""What happens inside the guest in the tests of the policy language; results in /shared/out.json.

The cases are handed in as /shared/cases.json: lines, files, and sessions of writes, in hexadecimal.
"""

import json
import os
from pathlib import Path

IMA = Path("/sys/kernel/security/ima")
POLICY = IMA / "policy"
SHARE = Path("/shared")
RULES = Path("/run/rules")


def session(writes: list[bytes], offset: int = 0) -> list[int]:
    """Open, write, release: bytes taken, or minus the errno."""
    results = []
    descriptor = os.open(POLICY, os.O_WRONLY)
    try:
        for data in writes:
            try:
                results.append(os.pwrite(descriptor, data, offset) if offset else os.write(descriptor, data))
            except OSError as error:
                results.append(-(error.errno or 0))
    finally:
        os.close(descriptor)
    return results


def opened(flags: int) -> int:
    """The errno of opening the file while it is open for writing."""
    try:
        os.close(os.open(POLICY, flags))
    except OSError as error:
        return error.errno or 0
    return 0


def main() -> None:
    """Sessions first, because they start from the built-in policy; then line by line."""
    given = json.loads((SHARE / "cases.json").read_text())
    builtin = POLICY.read_bytes()
    RULES.mkdir()
    for name, content in given["files"].items():
        (RULES / name).write_bytes(bytes.fromhex(content))
    sessions = []
    for writes, offset in given["sessions"]:
        results = session([bytes.fromhex(data) for data in writes], offset)
        sessions.append((results, POLICY.read_bytes().hex()))
    descriptor = os.open(POLICY, os.O_WRONLY)
    busy = [opened(flags) for flags in (os.O_WRONLY, os.O_RDONLY, os.O_RDWR)]
    os.close(descriptor)
    measured = (IMA / "ascii_runtime_measurements").read_text(errors="surrogateescape").splitlines()
    events = [line for line in measured if " ima_policy_" in line or f" {RULES}/" in line]
    lines = []
    for text in given["lines"]:
        before = POLICY.read_bytes()
        (result,) = session([bytes.fromhex(text) + b"\n"])
        lines.append((max(0, -result), POLICY.read_bytes().removeprefix(before).hex()))
    out = {"builtin": builtin.hex(), "sessions": sessions, "busy": busy, "events": events, "lines": lines}
    (SHARE / "out.json").write_text(json.dumps(out))


main()
