"""The example driver, installed as a package and used through the registry: no file of the project knows it."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from imarium.hashes import SHA256

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "rot-driver"


def files_of_the_project() -> dict[Path, str]:
    """Sources, tests, examples and settings, by path and digest."""
    found = [path for place in ("src", "tests", "examples") for path in (ROOT / place).rglob("*") if path.is_file()]
    kept = [path for path in (*found, ROOT / "pyproject.toml") if "__pycache__" not in path.parts]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the package and its metadata as pip installs them; environment and project stay as they are."""
    target = tmp_path_factory.mktemp("target")
    before = files_of_the_project()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(EXAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"pip cannot install the example: {done.stderr}"
    yield target
    assert files_of_the_project() == before, "adding a driver touches no file of the project"


def test_no_file_of_the_project_names_the_example() -> None:
    naming = [
        path for path in files_of_the_project() if path.suffix == ".py" and b"imarium_notebook" in path.read_bytes()
    ]
    assert naming == [Path(__file__)]


def run(installed: Path | None, *arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    path = [str(ROOT / "src"), *([str(installed)] if installed else [])]
    finished = subprocess.run(
        [sys.executable, "-m", "imarium", "rot", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert finished.returncode == status, finished.stderr
    return finished


def test_an_installed_driver_is_listed_after_the_projects_own(installed: Path) -> None:
    listed = json.loads(run(installed, "list", "--json").stdout)["drivers"]
    assert listed[-1]["name"] == "notebook"
    assert "name the notebook's file" in listed[-1]["detail"]
    assert "unknown root of trust 'notebook'" in run(None, "read", "--rot", "notebook:/tmp/x", status=2).stderr


def test_an_installed_driver_is_read_and_extended(installed: Path, tmp_path: Path) -> None:
    rot, digest = f"notebook:{tmp_path / 'file'}", SHA256.digest(b"event")
    made = run(installed, "extend", "--rot", rot, "book", f"sha256={digest.hex()}", "--json")
    expected = SHA256.digest(bytes(32) + digest).hex()
    assert json.loads(made.stdout) == {"registers": {"book": {"sha256": expected}}}
    assert run(installed, "read", "--rot", rot).stdout == f"book:sha256 {expected}\n"
    assert "no register 'page'" in run(installed, "read", "--rot", rot, "-r", "page", status=2).stderr


def test_only_the_projects_errors_leave_an_installed_driver(installed: Path, tmp_path: Path) -> None:
    """As the rules for drivers ask for."""
    rot = f"notebook:{tmp_path / 'file'}"
    for content in (b"zz\n", b"\xff\n", b"00\n"):
        (tmp_path / "file").write_bytes(content)
        assert "64 hexadecimal digits" in run(installed, "read", "--rot", rot, status=3).stderr


def test_an_installed_driver_anchors_a_list(installed: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from imarium.rot import Anchor, Anchors, choose_root\n"
        "root = choose_root('notebook:' + sys.argv[1]).root\n"
        "anchors = Anchors([Anchor(root)], Path(sys.argv[2]), life='1')\n"
        "with anchors.ordered() as extending:\n"
        "    for record in range(3): extending.extend(record, lambda bank: bank.digest(b'record'))\n"
        "(status,) = anchors.status(); print(status.name, status.register, status.position, status.error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "file"), str(tmp_path / "state")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(installed)])},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout == "notebook book 3 None\n", done.stderr
