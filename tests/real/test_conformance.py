"""The file interface of the engine against what a real kernel answered: see tests/vm for the kernel itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conformance import engine
from tests.conformance.limits import LIMIT_ANSWERS
from tests.conformance.record import BOOTS, RECORDED
from tests.conformance.report import Report, compare
from tests.conformance.suite import FAILED, checks
from tests.real.running_engine import start_engine


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the engine."""
    found = tmp_path_factory.mktemp("engine")
    for boot in BOOTS:
        engine.main(boot, found)
    return found


@pytest.fixture(scope="module")
def report(place: Path) -> Report:
    return compare(RECORDED, place, LIMIT_ANSWERS)


def test_every_check_is_as_on_the_kernel(report: Report) -> None:
    print(report)
    assert not report.bad, report
    assert len(report.checks) >= 2 * len(checks()) - 2 * len(LIMIT_ANSWERS)


def changed(source: Path, place: Path, name: str, answer: object) -> Path:
    """A copy of results with another answer to one check, or without one."""
    place.mkdir()
    for path in source.glob("*.json"):
        (place / path.name).write_bytes(path.read_bytes())
    plain = json.loads((source / "plain.json").read_bytes())
    plain = {check: answer if check == name else found for check, found in plain.items()}
    if answer is None:
        del plain[name]
    (place / "plain.json").write_text(json.dumps(plain))
    return place


@pytest.mark.parametrize("answer", ["ok", None, FAILED])
def test_a_difference_is_found(place: Path, tmp_path: Path, answer: object) -> None:
    """Also a check that is missing, and one that could be made on neither side."""
    name = "stage_when_both"
    kernel, ours = (changed(source, tmp_path / source.name, name, answer) for source in (RECORDED, place))
    assert [row.name for row in compare(RECORDED, ours, LIMIT_ANSWERS).bad] == [f"plain: {name}"]
    assert [row.name for row in compare(kernel, place, LIMIT_ANSWERS).bad] == [f"plain: {name}"]
    assert len(compare(kernel, ours, LIMIT_ANSWERS).bad) == (answer == FAILED)


def test_a_limit_that_is_none_any_more_is_found(place: Path, tmp_path: Path) -> None:
    kernel = changed(RECORDED, tmp_path / "kernel", "limit_epoll", "ok")
    assert [row.name for row in compare(kernel, place, LIMIT_ANSWERS).bad] == ["plain: limit_epoll"]


def test_any_directory_and_any_command_can_be_checked(tmp_path: Path) -> None:
    """Here the engine does not watch: it is told what to measure, by its own command line."""
    with engine.workplace():
        running = start_engine(tmp_path, "--rot", "none", "--template", "ima-sig")
        measure = f"{sys.executable} -m imarium engine --state {running.state} --measure"
        command = [sys.executable, "-m", "tests.conformance.run", str(running.root), "--measure", measure]
        done = subprocess.run([*command, "--check", "measured_twice"], capture_output=True, check=False)
        assert running.end() == 0
    assert done.returncode == 0, done.stderr
    recorded = json.loads((RECORDED / "plain.json").read_bytes())
    assert json.loads(done.stdout) == {"measured_twice": recorded["measured_twice"]}
