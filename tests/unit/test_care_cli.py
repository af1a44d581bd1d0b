"""``imarium log check`` and ``imarium log retain``, and what ``imarium keep`` says about whom it answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.unit.builders import ng
from tests.unit.test_check import OFFSETS, edit, whole
from tests.unit.test_retention import logged

from imarium.custody import Store

if TYPE_CHECKING:
    from tests.unit.conftest import Run


@pytest.fixture
def store(tmp_path: Path) -> Store:
    whole(tmp_path / "store")
    return Store(tmp_path / "store")


@pytest.mark.usefixtures("store")
def test_a_good_store(run: Run) -> None:
    assert run("log", "check") == (0, "nothing is wrong with 1 log\n", "")
    status, out, _ = run("log", "check", "--json", "--repair")
    document = json.loads(out)
    assert (status, document["logs"], document["repaired"], document["findings"]) == (0, [0], [], [])


def test_damage_is_named_by_record_and_not_repaired(run: Run, store: Store) -> None:
    path = store.directory_of(0) / "list"
    edit(path, lambda data: data.__setitem__(OFFSETS[77] + 70, 0))
    status, out, _ = run("log", "check")
    assert (status, out) == (1, "log 0000: list, record 77: its template digest is not that of its data\n")
    before = path.read_bytes()
    status, out, _ = run("log", "check", "--repair", "--json", "--log", 0)
    assert (status, [finding["record"] for finding in json.loads(out)["findings"]]) == (1, [77])
    assert path.read_bytes() == before


def test_what_can_be_mended_is(run: Run, store: Store) -> None:
    (store.directory_of(0) / "index").unlink()
    with (store.directory_of(0) / "list").open("ab") as file:
        file.write(ng(b"/behind").binary()[:-1])
    status, out, _ = run("log", "check")
    assert status == 1
    assert "run this again with --repair" in out
    status, out, _ = run("log", "check", "--repair")
    assert status == 0
    assert "repaired: log 0000: the index was made anew: 2 marks" in out
    assert out.endswith("nothing is wrong with 1 log\n")


def test_a_journal_and_a_meta_that_are_damaged_are_rebuilt(run: Run, store: Store) -> None:
    directory = store.directory_of(0)
    edit(directory / "journal", lambda data: data.__setitem__(20, 0))
    (directory / "meta.json").unlink()
    status, out, _ = run("log", "check", "--json")
    findings = json.loads(out)["findings"]
    assert (status, {(one["part"], one["mends"]) for one in findings}) == (
        1, {("meta", True), ("journal", True), ("index", True)},
    )  # fmt: skip
    status, out, _ = run("log", "check", "--repair")
    assert (status, out.count("was rebuilt from the list")) == (0, 2)
    assert out.endswith("nothing is wrong with 1 log\n")
    status, out, _ = run("log", "status", "--json")
    assert status == 0
    assert '"rebuilt"' in out


def test_logs_that_are_not_there(run: Run, tmp_path: Path, store: Store) -> None:
    status, _, err = run("log", "check", "--log", 7)
    assert (status, "there is no log 7" in err) == (2, True)
    store.path.rename(tmp_path / "elsewhere")
    assert run("log", "check")[0] == 4
    assert run("log", "retain")[0] == 4


def test_retain(run: Run, tmp_path: Path) -> None:
    store = Store(tmp_path / "store", create=True)
    for count in (3000, 10):
        logged(store, count)
    assert run("log", "retain", "--dry-run")[1] == "log 0000: would be compressed: it is closed\n"
    document = json.loads(run("log", "retain", "--json")[1])
    assert [(one["log"], one["action"]) for one in document["logs"]] == [(0, "compressed")]
    assert run("log", "retain", "--older-than", 1)[1].startswith("nothing to do")
    for days in (0, 366_001, 10**12):
        assert run("log", "retain", "--older-than", days)[0] == 2
    assert json.loads(run("log", "list", "--json")[1])["logs"][0]["list"].endswith("list.zst")
    assert run("log", "read", "--log", 0, "--from", 2999)[1].startswith("   2999")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_what_was_done_is_said_also_where_another_log_is_damaged(
    run: Run, tmp_path: Path, options: tuple[str, ...]
) -> None:
    store = Store(tmp_path / "store", create=True)
    for count in (3000, 20, 10):
        logged(store, count)
    (store.directory_of(1) / "meta.json").write_bytes(b"{")
    status, out, err = run("log", "retain", *options)
    assert (status, "0001/meta.json" in err) == (3, True)
    assert (json.loads(out)["logs"][0]["action"] if options else out.split()[2]) in {"compressed", "compressed,"}
    status, out, err = run("log", "retain", *options)
    assert (status, out, "0001/meta.json" in err) == (3, "", True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--once", "--listen", "unix:/x"), "--once answers nobody"),
        (("--quotes",), "go with --listen"),
        (("--tls-cert", "x"), "go with --listen"),
        (("--listen", "tcp:127.0.0.1:0"), "TCP needs"),
        (("--listen", "unix"), "cannot listen at 'unix'"),
        (("--listen", "tcp:127.0.0.1:0", "--tls-cert", "x"), "TLS needs certificate, key and clients"),
        (("--config", "x", "--listen", "unix:/x"), "say the rest in the configuration"),
    ],
)
def test_whom_to_answer_is_said_in_full(run: Run, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "binary_runtime_measurements").write_bytes(ng(b"boot_aggregate").binary())
    status, out, err = run("keep", "--source", tmp_path / "lists", *options)
    assert (status, out) == (2, "")
    assert message in err
