"""Bounded property tests; the command line, called in this process; and a kernel whose list is kept."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.unit.custody_host import Host

from imarium import cli

settings.register_profile("quick", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quick")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run a command with the test's store; its exit status, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["imarium", *map(str, arguments), "--store", str(tmp_path / "store")])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capfd.readouterr()
        assert err.count("\n") <= 1
        return int(caught.value.code or 0), out, err

    return call


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A simulated kernel with a store beside it, and a register that proves its list."""
    return Host(tmp_path)


@pytest.fixture(params=[True, False], ids=["tpm", "no-tpm"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    """The same, with a register and without one."""
    return Host(tmp_path, tpm=bool(request.param))
