"""The custody API on a real kernel whose policy measures what root reads: verifiers do not feed the list they read."""

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from vm.guest import Guest

SESSION = Path(__file__).with_name("api_session.py")


@pytest.fixture(scope="module")
def out(guest: Guest, guest_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    share = tmp_path_factory.mktemp("api")
    disk = share / "disk"
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    command = f"{guest_python} {shlex.quote(str(SESSION))}"
    done = guest(command, append="ima_policy=tcb", share=share, disk=disk, timeout=280)
    assert done.status == 0, done.console
    return dict(json.loads((share / "out.json").read_text()))


def test_verifiers_who_read_add_nothing_to_the_list(out: dict[str, Any]) -> None:
    assert out["readers"] == {"added": 0, "violations": 0}


def test_a_program_that_runs_is_news_for_who_waits(out: dict[str, Any]) -> None:
    news = out["news"]
    assert news["seen"]
    assert news["next"] > news["before"]


def test_what_was_served_is_what_is_kept(out: dict[str, Any]) -> None:
    assert out["same"] is True
