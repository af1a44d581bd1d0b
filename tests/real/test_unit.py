"""The installed service under a real systemd, which runs in namespaces of its own: all the unit's protections hold."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MACHINE = Path(__file__).with_name("systemd_machine.sh")
SECONDS = 300
NAMESPACES = ("--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "--cgroup", "--kill-child")
CAP_SYS_ADMIN = 1 << 21
REPORT = """
section() { echo "== $1"; }
pid() { systemctl show imarium --property MainPID --value; }
until systemctl show imarium --property StatusText --value | grep -q 'records kept'; do sleep 0.2; done
for file in /srv/file-1 /srv/file-2 /srv/file-3; do imarium engine --measure $file >/dev/null; done
imarium keep --check; echo $?
curl -sS --unix-socket /run/imarium/api.sock -X POST http://service/v1/drain >/dev/null
section show; systemctl show imarium -p ActiveState -p SubState -p StatusText -p NRestarts -p ConditionResult
section caps; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/$(pid)/status
section modes; stat -c '%a %U %G %n' /run/imarium /run/imarium/api.sock /var/lib/imarium /var/lib/imarium/logs
section status; imarium log status --json
section left; cat /sys/kernel/security/ima/runtime_measurements_count
section inside; nsenter --mount --net --target $(pid) sh -c '
  for place in /etc /usr /sys/kernel /proc/sys/kernel /root /home /srv; do
    test -w $place && echo "writable $place"
  done
  find /root /home -mindepth 1
  ip -o link | grep -v ": lo:"'
section devices; sh -c 'echo $$ >/sys/fs/cgroup/system.slice/imarium.service/cgroup.procs
  for device in null fuse; do (: </dev/$device) 2>/dev/null && echo $device; done'
section list; systemctl start imarium-list
  systemctl show imarium-list -p ActiveState; systemctl show imarium-list -p StatusText
  cut -d" " -f5 /run/imarium-list/ascii_runtime_measurements_sha256
  cat /run/imarium-list/runtime_measurements_count; stat -c '%a %U %G' /run/imarium-list/violations
  systemctl kill --signal KILL imarium-list
  until cat /run/imarium-list/runtime_measurements_count 2>/dev/null; do sleep 0.2; done
  systemctl show imarium-list -p NRestarts
  systemctl stop imarium-list; systemctl show imarium-list -p Result; ls /run/imarium-list
section stop; systemctl stop imarium; systemctl show imarium -p Result -p ExecMainStatus
section journal; journalctl -u imarium -o cat --no-pager | grep '^{'
section end
"""


@contextmanager
def control_group() -> Iterator[Path]:
    """A control group of our own, empty and gone at the end."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    found = next((Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"), None)
    assert found is not None, "there is no cgroup2 file system: mount -t cgroup2 cgroup2 /sys/fs/cgroup"
    group = found / f"imarium-test-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        deadline = time.monotonic() + 60  # the last processes may still be ending
        while "populated 1" in (group / "cgroup.events").read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        for place in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            place.rmdir()
        group.rmdir()


@pytest.fixture(scope="module")
def sections(package: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What the report printed, by section."""
    assert os.geteuid() == 0, "systemd is booted as root"
    assert Path("/lib/systemd/systemd").exists(), "systemd is missing: apt install systemd"
    for program in ("curl", "unshare", "nsenter"):
        assert shutil.which(program), f"{program} is missing: apt install curl util-linux"
    work = tmp_path_factory.mktemp("systemd")
    for directory in ("machine", "out"):
        (work / directory).mkdir()
    console = work / "out" / "console"
    console.touch()
    (work / "report").write_text(REPORT)
    with control_group() as group:
        script = 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"'
        inner = ["unshare", *NAMESPACES, str(MACHINE), str(package), str(work)]
        done = subprocess.run(
            ["sh", "-c", script, "sh", str(group), *inner],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    report = work / "out" / "report"
    assert report.exists(), f"{done.stdout}{done.stderr}{console.read_text()}"
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in report.read_text().splitlines():
        if line.startswith("== "):
            name = line.removeprefix("== ")
            found[name] = []
        else:
            found[name].append(line)
    assert "end" in found, report.read_text() + console.read_text()
    return found


def test_it_starts_is_ready_and_says_what_it_does(sections: dict[str, list[str]]) -> None:
    shown = dict(line.split("=", 1) for line in sections["show"])
    assert (shown["ActiveState"], shown["SubState"], shown["NRestarts"]) == ("active", "running", "0")
    assert shown["ConditionResult"] == "yes"
    assert shown["StatusText"].startswith("ok: kernel: ")


def test_the_installed_configuration_is_good(sections: dict[str, list[str]]) -> None:
    assert sections[""] == ["/etc/imarium/keep.toml: good; sources: kernel", "0"]


def test_locked_up_it_still_stages_and_deletes(sections: dict[str, list[str]]) -> None:
    status = json.loads("\n".join(sections["status"]))
    drained = [json.loads(line) for line in sections["journal"] if '"drained"' in line]
    assert {entry["result"]["method"] for entry in drained} == {"prompt"}
    assert sum(entry["result"]["freed"]["records"] for entry in drained) == status["records"] >= 4
    assert sections["left"] == ["0"]


def test_it_has_one_capability_and_a_filter(sections: dict[str, list[str]]) -> None:
    shown = dict(line.split(":\t") for line in sections["caps"])
    assert {int(shown[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {CAP_SYS_ADMIN}
    assert (shown["NoNewPrivs"], shown["Seccomp"]) == ("1", "2")


def test_its_places_are_its_own_and_the_socket_its_groups(sections: dict[str, list[str]]) -> None:
    assert sections["modes"] == [
        "750 root imarium /run/imarium",
        "660 root imarium /run/imarium/api.sock",
        "700 root imarium /var/lib/imarium",
        "700 root imarium /var/lib/imarium/logs",
    ]


def test_it_sees_no_homes_no_devices_and_no_network_and_writes_nowhere_else(sections: dict[str, list[str]]) -> None:
    assert sections["inside"] == []
    assert sections["devices"] == ["null"]


def test_the_other_unit_shows_the_whole_list_to_the_machine_also_after_it_was_killed(
    sections: dict[str, list[str]],
) -> None:
    files = ["boot_aggregate", "kernel_version", *(f"/srv/file-{number}" for number in (1, 2, 3))]
    assert sections["list"] == [
        "ActiveState=active",
        "StatusText=mounted at /run/imarium-list",
        *files,
        "5",
        "440 root root",
        "5",
        "NRestarts=1",
        "Result=success",
    ]


def test_it_ends_well_and_its_log_is_json(sections: dict[str, list[str]]) -> None:
    assert sections["stop"] == ["Result=success", "ExecMainStatus=0"]
    events = [json.loads(line)["event"] for line in sections["journal"]]
    assert {"listening", "started", "drained", "stopped"} <= set(events)
