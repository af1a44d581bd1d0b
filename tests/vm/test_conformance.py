"""The file interface of the engine against that of the kernel: the same checks on both, each answer compared."""

from pathlib import Path

import pytest
from tests.conformance import engine
from tests.conformance.limits import LIMIT_ANSWERS
from tests.conformance.record import BOOTS, RECORDED, boot_kernels
from tests.conformance.report import Report, compare, results
from tests.conformance.suite import LIMITS, checks
from tests.conformance.suspended import STATES
from vm.guest import Guest


@pytest.fixture(scope="module")
def on_kernel(guest: Guest, guest_python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the kernel: two boots, and four kernels more that follow the first by kexec."""
    place = tmp_path_factory.mktemp("kernel")
    boot_kernels(guest, guest_python, place)
    return place


@pytest.fixture(scope="module")
def report(on_kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Both columns."""
    place = tmp_path_factory.mktemp("engine")
    for boot in BOOTS:
        engine.main(boot, place)
    return compare(on_kernel, place, LIMIT_ANSWERS)


def test_every_check_is_equal_on_the_kernel_and_on_the_engine(
    report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"\n{report}")
    assert not report.bad, "\n".join(row.name for row in report.bad)


def test_no_check_is_missing(report: Report) -> None:
    made = {row.name for row in report.rows}
    for boot in BOOTS:
        assert {f"{boot}: {name}" for name in checks()} <= made
    for state in STATES:
        assert f"suspended-{state}: stage" in made
        assert f"restored-{state}: measured again" in made
    assert len(report.checks) >= 2 * 300
    assert {name for name in checks() if name.startswith(LIMITS)} == LIMIT_ANSWERS.keys()


def test_the_kernels_column_is_the_recorded_one(on_kernel: Path) -> None:
    """What the tests without a kernel compare with: record anew with python3 -m tests.conformance.record."""
    assert results(on_kernel) == results(RECORDED)
