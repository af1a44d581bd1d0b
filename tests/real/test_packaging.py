"""The Debian package: built, installed in a root of its own, run, looked at by systemd's own tools, and removed."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.custody_kernel import records

PROJECT = Path(__file__).resolve().parents[2]
MOST_EXPOSED = 20
"""Of systemd-analyze security, in tenths: 0 is locked up, 100 is unprotected."""


def tool(name: str, package: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is missing: apt install {package}"
    return found


def run(*command: object, check: bool = True, **options: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, env={**os.environ, **options}
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@dataclass(frozen=True)
class Installed:
    """A root directory, and dpkg for it."""

    root: Path
    package: Path

    def dpkg(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = (tool("dpkg", "dpkg"), f"--root={self.root}", "--force-depends", "--force-script-chrootless")
        return run(*command, "--log=/dev/null", *arguments)

    def imarium(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run(self.root / "usr/bin/imarium", *arguments, check=check)


def install(root: Path, package: Path) -> Installed:
    for name in ("info", "updates"):
        (root / "var/lib/dpkg" / name).mkdir(parents=True)
    for name in ("status", "available"):
        (root / "var/lib/dpkg" / name).touch()
    installed = Installed(root, package)
    installed.dpkg("--install", package)
    return installed


@pytest.fixture(scope="module")
def installed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(tmp_path_factory.mktemp("root"), package)


def test_every_file_is_roots_and_no_one_elses_to_write(package: Path) -> None:
    listed = run("dpkg-deb", "--contents", package).stdout.splitlines()
    assert len(listed) > 1000
    for line in listed:
        mode, owner, *_ = line.split()
        assert owner == "root/root", line
        assert mode[0] == "l" or (mode[5], mode[8]) == ("-", "-"), line
        assert "s" not in mode[1:], line


def test_it_says_what_it_needs(package: Path) -> None:
    field = run("dpkg-deb", "--field", package, "Depends").stdout
    version = sys.version_info.minor
    python = run("/usr/bin/python3", "-c", "import sys; print(sys.version_info.minor)").stdout.strip()
    assert f"python3 (>= 3.{python}), python3 (<< 3.{int(python) + 1})" in field, version
    assert "libc6 (>= " in field
    assert "libtss2-esys" in field


def test_the_installed_program_runs_with_its_own_libraries(installed: Installed, tmp_path: Path) -> None:
    assert installed.imarium("--version").stdout.startswith("imarium ")
    source = tmp_path / "ima"
    source.mkdir()
    (source / "binary_runtime_measurements").write_bytes(records("boot_aggregate", "/a"))
    done = installed.imarium("keep", "--once", "--json", "--source", source, "--store", tmp_path / "store")
    assert json.loads(done.stdout)["total"]["records"] == 2
    kept = json.loads(installed.imarium("log", "status", "--json", "--store", tmp_path / "store").stdout)
    assert kept["records"] == 2
    script = "import imarium, structlog, sys; print(imarium.__file__, structlog.__file__)"
    library = installed.root / "usr/lib/imarium"
    found = run("/usr/bin/python3", "-I", "-c", f"import sys; sys.path.insert(0, {str(library)!r}); {script}").stdout
    assert found.count(str(library)) == 2


def test_running_it_leaves_no_files_behind(installed: Installed) -> None:
    before = set(installed.root.rglob("*"))
    installed.imarium("log", "--help")
    assert set(installed.root.rglob("*")) == before


def test_the_example_is_the_configuration_and_is_kept(installed: Installed) -> None:
    configuration = installed.root / "etc/imarium/keep.toml"
    assert configuration.read_bytes() == (PROJECT / "packaging/keep.toml").read_bytes()
    done = installed.imarium("keep", "--check", "--config", configuration, "--json", check=False)
    problems = json.loads(done.stdout)["problems"]
    assert {problem["status"] for problem in problems} <= {4}, problems


def test_systemd_finds_nothing_wrong_with_the_units(installed: Installed) -> None:
    units = installed.root / "usr/lib/systemd/system"
    machine = Path("/usr/lib/systemd/system")
    assert machine.is_dir(), "systemd's own units are missing: apt install systemd"
    for path in [*machine.glob("*.target"), *machine.glob("*.slice")]:
        if not (units / path.name).exists():
            shutil.copy(path, units / path.name, follow_symlinks=False)
    analyze = tool("systemd-analyze", "systemd")
    done = run(analyze, "verify", f"--root={installed.root}", "imarium.service", "imarium-list.service")
    assert done.stdout + done.stderr == ""


def test_the_service_is_locked_up(installed: Installed) -> None:
    analyze = tool("systemd-analyze", "systemd")
    command = (analyze, "security", f"--root={installed.root}", "--offline=true")
    run(*command, f"--threshold={MOST_EXPOSED}", "imarium.service")
    assert run(*command, "--threshold=1", "imarium.service", check=False).returncode != 0
    said = run(*command, "--no-pager", "imarium.service").stdout
    kept = [line for line in said.splitlines() if line.startswith("✗") and "CapabilityBoundingSet" in line]
    assert [line.split("~")[1].split()[0] for line in kept] == ["CAP_SYS_ADMIN"]
    assert "✓ PrivateNetwork=" in said


def test_directories_and_the_group_are_made(installed: Installed) -> None:
    run(tool("systemd-sysusers", "systemd"), f"--root={installed.root}", "imarium.conf")
    assert "imarium:" in (installed.root / "etc/group").read_text()
    run(tool("systemd-tmpfiles", "systemd"), f"--root={installed.root}", "--create", "imarium.conf")
    modes = {name: (installed.root / name).stat().st_mode & 0o777 for name in ("var/lib/imarium", "run/imarium-list")}
    assert modes == {"var/lib/imarium": 0o700, "run/imarium-list": 0o755}


def test_purged_it_leaves_the_records_alone(package: Path, tmp_path: Path) -> None:
    installed = install(tmp_path, package)
    log = installed.root / "var/lib/imarium/logs/0000/list"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"kept")
    installed.dpkg("--remove", "imarium")
    assert not (installed.root / "usr/bin/imarium").exists()
    assert (installed.root / "etc/imarium/keep.toml").exists()
    done = installed.dpkg("--purge", "imarium")
    assert "the kept records stay in" in done.stderr
    assert not (installed.root / "etc/imarium/keep.toml").exists()
    assert log.read_bytes() == b"kept"
