"""The service on a real kernel whose policy measures what root reads, with no power of root's but one."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from vm.guest import Guest

from imarium.custody import Store
from imarium.formats.records import ListLayout, read_records

SESSION = Path(__file__).with_name("hardened_session.py")
CAP_SYS_ADMIN = 1 << 21


@pytest.fixture(scope="module")
def share(guest: Guest, guest_python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    share = tmp_path_factory.mktemp("service")
    command = f"{guest_python} {shlex.quote(str(SESSION))}"
    done = guest(command, append="ima_policy=tcb", share=share, timeout=280)
    assert done.status == 0, done.console + (share / "log").read_text()
    return share


@pytest.fixture(scope="module")
def out(share: Path) -> dict[str, Any]:
    return dict(json.loads((share / "out.json").read_text()))


def test_it_has_one_capability_and_says_that_it_is_ready(out: dict[str, Any]) -> None:
    capabilities = dict(line.split(":\t") for line in out["capabilities"])
    assert int(capabilities["CapEff"], 16) == int(capabilities["CapBnd"], 16) == CAP_SYS_ADMIN
    assert out["ready"].startswith("READY=1\n")


def test_an_idle_service_adds_no_records(out: dict[str, Any]) -> None:
    print(f"{out['idle_drains']:.0f} drains while idle; kept and in the kernel: {out['before']}, then {out['after']}")
    assert out["idle_drains"] >= 3
    assert out["after"] == out["before"]


def test_a_busy_one_frees_the_kernel(out: dict[str, Any]) -> None:
    assert out["busy"][0] > out["after"][0] + 20
    assert out["freed"] > out["after"][0]


def test_stopped_it_drains_once_more(out: dict[str, Any], share: Path) -> None:
    assert out["status"] == 0
    kept = [record.name or b"" for record in read_records(Store(share / "store").log().blocks(), ListLayout())]
    names = [*(f"program-{number}" for number in range(20)), "the-last"]
    assert [kept.count(f"/opt/imarium-test/{name}".encode()) for name in names] == [1] * len(names)


def test_what_it_said_is_json_and_no_error(share: Path) -> None:
    lines = [json.loads(line) for line in (share / "log").read_text().splitlines()]
    assert {line["level"] for line in lines} == {"info"}, lines
    assert {"started", "listening", "drained", "stopped"} <= {line["event"] for line in lines}


def test_evmctl_takes_the_mounted_list_and_the_tpm_agrees(out: dict[str, Any]) -> None:
    shown = out["shown"]
    status, said = shown["evmctl"]
    assert status == 0, said
    assert shown["said"].startswith("mounted at /run/list: ")
    assert shown["count"] > out["freed"] > out["left"]
    assert shown["status"] == 0
