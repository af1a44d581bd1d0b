"""Several processes that add to one list and extend it into one register, some of them killed."""

import subprocess
import sys
from pathlib import Path

from imarium.chain import extend
from imarium.hashes import SHA384
from imarium.rot import open_root
from imarium.rot.anchors import Anchor, Anchors

WRITER = """
import sys
from pathlib import Path
from imarium.rot import open_root
from imarium.rot.anchors import Anchor, Anchors

place = Path(sys.argv[1])
anchors = Anchors([Anchor(open_root(f"software:{place / 'registers'}"))], place / "state", life="1")
print("ready", flush=True)
for _ in range(int(sys.argv[3])):
    with anchors.ordered() as extending, (place / "list").open("a+b") as file:
        file.seek(0)
        lines = file.read().splitlines()
        for record in range(extending.position, len(lines)):
            extending.extend(record, lambda bank, line=lines[record]: bank.digest(line))
        line = f"{sys.argv[2]} {len(lines)}".encode()
        file.write(line + b"\\n")
        file.flush()
        extending.extend(len(lines), lambda bank: bank.digest(line))
"""


def replayed(place: Path) -> bytes:
    value = bytes(48)
    for line in (place / "list").read_bytes().splitlines():
        value = extend(SHA384, value, SHA384.digest(line))
    return value


def writer(place: Path, name: str, count: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, str(place), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_extend_in_list_order_and_survive_kills(tmp_path: Path) -> None:
    open_root(f"software:{tmp_path / 'registers'}").close()
    for round_ in range(8):
        steady, killed = writer(tmp_path, f"s{round_}", 5), writer(tmp_path, f"k{round_}", 10_000)
        try:
            for process in (steady, killed):
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            assert steady.wait(60) == 0
        finally:
            killed.kill()
            killed.wait()
            steady.kill()
            steady.wait()
    assert writer(tmp_path, "last", 1).wait(60) == 0
    root = open_root(f"software:{tmp_path / 'registers'}")
    (status,) = Anchors([Anchor(root)], tmp_path / "state", life="1").status()
    assert status.error is None
    assert status.position == len((tmp_path / "list").read_bytes().splitlines()) > 40
    assert root.read(["rtmr2"])["rtmr2"][SHA384] == replayed(tmp_path)
