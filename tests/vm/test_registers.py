"""Registers of a real kernel: its sample of a confidential guest's, listed, extended and logged."""

import json
from pathlib import Path
from typing import Any

import pytest
from vm.guest import Guest

from imarium.hashes import by_name

SESSION = Path(__file__).with_name("registers_session.py")
SIZES = {
    "config_mr": 0,
    "report_digest:sha512": 64,
    "rtmr0:sha256": 32,
    "rtmr1:sha384": 48,
    "rtmr_crypto_agile:sha256": 32,
    "rtmr_crypto_agile:sha384": 48,
    "static_mr:sha384": 48,
}
WRITABLE = {"rtmr1:sha384", "rtmr_crypto_agile:sha256", "rtmr_crypto_agile:sha384"}


@pytest.fixture(scope="module")
def out(guest: Guest, guest_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the session found, in one boot."""
    share = tmp_path_factory.mktemp("registers")
    done = guest(f"{guest_python} {SESSION}", share=share)
    assert done.status == 0, done.console
    return dict(json.loads((share / "out.json").read_text()))


def test_the_device_is_found_without_being_named(out: dict[str, Any]) -> None:
    assert out["list"]["provider"] == "tsm_mr_sample"


def test_all_seven_registers_are_listed_as_the_kernel_has_them(out: dict[str, Any]) -> None:
    rows = {row["register"]: row for row in out["list"]["registers"]}
    assert set(rows) == set(SIZES) == set(out["sysfs"])
    for key, row in rows.items():
        name, _, algorithm = key.partition(":")
        assert (row["name"], row["hash"]) == (name, algorithm or None)
        assert row["value"] == out["sysfs"][key]
        assert row["size"] == len(row["value"]) // 2
        assert row["size"] == (SIZES[key] or row["size"])
        flags = ["WRITABLE", "READABLE", "LIVE"] if key in WRITABLE else ["READABLE"]
        assert row["flags"] == ([] if algorithm else ["NOHASH"]) + flags
        assert row["access"] == ("XWRL" if key in WRITABLE else "R")


@pytest.mark.parametrize("key", sorted(WRITABLE))
def test_an_extend_is_the_hash_of_the_old_value_and_the_digest(out: dict[str, Any], key: str) -> None:
    step = out["extends"][key]
    algorithm = by_name(key.partition(":")[2])
    expected = algorithm.digest(bytes.fromhex(step["before"]) + bytes.fromhex(step["digest"])).hex()
    assert step["returned"] == step["after"] == expected


def test_the_crypto_agile_register_is_another_name_of_the_others(out: dict[str, Any]) -> None:
    assert out["extends"]["rtmr_crypto_agile:sha256"]["after"] == out["final"]["rtmr0:sha256"]
    assert out["final"]["rtmr_crypto_agile:sha384"] == out["final"]["rtmr1:sha384"]


@pytest.mark.parametrize("key", sorted(set(SIZES) - WRITABLE))
def test_static_registers_refuse_and_stay_as_they_are(out: dict[str, Any], key: str) -> None:
    assert out["refused"][key] == ["register_read_only", True]


def test_a_digest_of_another_size_never_reaches_the_kernel(out: dict[str, Any]) -> None:
    assert out["sizes"] == [["usage", True]] * 4


def test_the_kernels_trap_is_there(out: dict[str, Any]) -> None:
    """An over-long write of our own to sysfs is cut, extends, and is reported short."""
    assert out["trap"] == [48, True]


def test_a_log_over_the_real_register_verifies_and_sees_foreign_extends(out: dict[str, Any]) -> None:
    story = out["log"]
    assert [story[name] for name in ("appended", "extended", "synced", "alias", "healed")] == [
        [True, True],
        [False, False],
        [True, True],
        [False, False],
        [True, True],
    ]
    assert story["statuses"] == [0, 0, 1]


def test_the_tree_serves_the_real_registers(out: dict[str, Any]) -> None:
    tree = out["tree"]
    assert tree["names"] == sorted(key if "agile" in key else key.partition(":")[0] for key in SIZES)
    assert tree["digest"] == tree["sysfs"]
    assert tree["log_end"] == "from the tree\n"
    assert tree["static"] == out["sysfs"]["static_mr:sha384"]
    assert tree["refused"]
    assert tree["status"] == 0
