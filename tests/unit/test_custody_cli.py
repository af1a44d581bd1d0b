"""``imarium keep`` and ``imarium log`` over a plain directory: a kernel without staging."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.conftest import Run
from tests.unit.custody_kernel import record, records
from tests.unit.test_index import filled

from imarium.custody import KILL_VARIABLE, Event, Log, Machine, Store
from imarium.custody.indexing import write_index


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "ima"
    directory.mkdir()
    (directory / "binary_runtime_measurements").write_bytes(records("boot_aggregate", "/bin/a", "/bin/b\nc"))
    return directory


def test_keep_says_what_it_did(run: Run, source: Path) -> None:
    status, out, _ = run("keep", "--once", "--json", "--source", source)
    assert status == 0
    result = json.loads(out)
    assert (
        result["kept"]
        == result["total"]
        == {"records": 3, "bytes": len(records("boot_aggregate", "/bin/a", "12345678"))}
    )
    assert result["freed"] == {"records": 0, "bytes": 0}
    assert (result["method"], result["verdict"], result["registers"], result["log"]) == ("follow", "unproven", [], 0)
    status, out, _ = run("keep", "--once", "--source", source)
    assert status == 0
    assert "kept     0 records, 0 bytes" in out
    assert "follow: the kernel has no staging files" in out
    assert "log      0000: 3 records" in out
    (verdict,) = (line for line in out.splitlines() if line.startswith("verdict"))
    assert verdict.endswith("; if a TPM has them, name it with --tcti, or tcti in a configuration")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("keep", "--interval", "0.5"), 2, "--interval"),
        (("keep", "--once", "--method", "clip"), 2, "unknown method 'clip'"),
        (("keep", "--once", "--method", "trim", "--source", "."), 4, "no staging"),
        (("keep", "--once", "--method", "prompt", "--source", "."), 4, "no staging"),
        (("keep", "--once", "--source", "nowhere"), 4, "not there; name a directory of list files"),
        (("log", "list"), 4, "no store there"),
        (("log", "export", "--format", "xml"), 2, "unknown format 'xml'"),
        (("log", "read", "--json", "--to", "ascii"), 2, "exclude each other"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Run, source: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], status: int, message: str
) -> None:
    monkeypatch.chdir(source)
    code, out, err = run(*arguments)
    assert (code, out) == (status, "")
    assert message in err


def test_a_malformed_list_and_a_damaged_log_are_status_3(run: Run, source: Path, tmp_path: Path) -> None:
    assert run("keep", "--once", "--source", source)[0] == 0
    path = source / "binary_runtime_measurements"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert run("keep", "--once", "--source", source)[0] == 3
    path.write_bytes(whole + record("more"))
    (tmp_path / "store/logs/0000/meta.json").write_text("{}")
    assert run("keep", "--once", "--source", source)[0] == 3


def test_an_unknown_step_to_die_at_is_a_usage_error(run: Run, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KILL_VARIABLE, "nowhere")
    status, _, err = run("keep", "--once", "--source", source)
    assert status == 2
    assert "steps are locked, recovered, read-all" in err


def test_a_list_with_an_unknown_beginning_is_refused_and_kept(run: Run, source: Path) -> None:
    (source / "binary_runtime_measurements").write_bytes(records("/bin/a"))
    status, out, err = run("keep", "--once", "--json", "--source", source)
    assert status == 1
    assert json.loads(out)["verdict"] == "refused"
    assert json.loads(out)["kept"]["records"] == 1
    assert "nothing was deleted from the kernel" in err
    status, out, _ = run("log", "status", "--json")
    assert (json.loads(out)["start"], json.loads(out)["registers"]) == ("unknown", {})


def test_a_gap_and_another_machine_are_said(run: Run, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def machine(name: str) -> None:
        monkeypatch.setattr("imarium.cli.keep.machine_of", lambda _directory: lambda: Machine("boot", name))

    machine("one")
    assert "machine" not in run("keep", "--once", "--source", source)[1]
    (source / "binary_runtime_measurements").write_bytes(records("/bin/a", "/bin/c"))
    machine("two")
    status, out, _ = run("keep", "--once", "--source", source)
    assert status == 1
    assert "machine  this is another machine: a clone, or the store was moved to it" in out
    assert "gap      the kernel's list continues no log and has no boot aggregate" in out


def test_log_commands_agree_with_the_list(run: Run, source: Path, tmp_path: Path) -> None:
    run("keep", "--once", "--source", source)
    data = (source / "binary_runtime_measurements").read_bytes()
    listed = json.loads(run("log", "list", "--json")[1])["logs"]
    assert [(log["log"], log["records"], log["bytes"], log["start"]) for log in listed] == [(0, 3, len(data), "reset")]
    assert "0000" in run("log", "list")[1]
    status = json.loads(run("log", "status", "--json")[1])
    assert (status["still_in_kernel"], status["last"]["event"]) == (len(data), "followed")
    assert len(bytes.fromhex(status["registers"]["10"]["sha256"])) == 32
    shown = run("log", "status")[1]
    assert f"10        sha256  {status['registers']['10']['sha256']}" in shown
    assert "kept           3 records, " in shown
    assert "proved by      no register" in shown
    assert shown.count(" followed ") == 1
    assert " followed " not in run("log", "status", "--events", "0")[1]
    target = tmp_path / "exported"
    done = json.loads(run("log", "export", "-o", target, "--from", 1, "--json")[1])
    assert done == {"log": 0, "first": 1, "records": 2, "bytes": len(target.read_bytes())}
    assert target.read_bytes() == data[len(record("boot_aggregate")) :]
    assert target.stat().st_mode & 0o777 == 0o600
    ascii_form = run("log", "export", "--format", "ascii")[1]
    assert ascii_form == run("log", "read", "--to", "ascii")[1]
    assert ascii_form.startswith("10 ")
    assert "/bin/b\nc\n" in ascii_form


def test_log_read_for_people_and_programs(run: Run, source: Path) -> None:
    run("keep", "--once", "--source", source)
    lines = run("log", "read", "--from", 1, "--count", 2)[1].splitlines()
    assert len(lines) == 2
    assert lines[1].endswith("/bin/b\\x0ac")
    read = json.loads(run("log", "read", "--from", 2, "--json")[1])
    assert [(entry["record"], entry["digest_is_good"]) for entry in read] == [(2, True)]
    assert json.loads(run("log", "read", "--from", 3, "--json")[1]) == []
    assert run("log", "read", "--from", 4)[0] == 2
    assert run("log", "read", "--log", 5)[0] == 2


def test_status_replays_only_what_was_not_noted_and_says_so(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    blocks = Log.blocks

    def noting(self: Log, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        for block in blocks(self, start, end):
            read.append(len(block))
            yield block

    def status() -> tuple[int, dict[str, dict[str, str]], str]:
        document = json.loads(run("log", "status", "--json")[1])
        shown = " ".join(run("log", "status")[1].split())
        return document["registers_noted_at"], document["registers"], shown

    log = filled(tmp_path / "store")
    wanted = log.end_state()
    assert wanted is not None
    values = {str(pcr): {b.name: v.hex() for b, v in banks.items()} for pcr, banks in wanted.values.items()}
    monkeypatch.setattr(Log, "blocks", noting)
    noted, found, shown = status()
    assert (noted, found) == (0, values)
    assert "registers by replay of all 5,000 records" in shown
    write_index(log)
    read.clear()
    noted, found, shown = status()
    assert (noted, found) == (4096, values)
    assert sum(read) == 2 * (log.bytes - log.offset_of(4096))
    assert "what was noted at record 4,096, and replay of 904 records since; 'imarium log check --log 0'" in shown
    log.note(Event.KEPT, "boot", base=log.bytes, state=wanted)
    read.clear()
    noted, found, shown = status()
    assert (noted, found, read) == (5000, values, [])
    assert "noted at record 5,000, and replay of 0 records since" in shown


def test_a_damaged_log_is_said_behind_the_list_of_the_others(run: Run, source: Path, tmp_path: Path) -> None:
    run("keep", "--once", "--source", source)
    (source / "binary_runtime_measurements").write_bytes(records("boot_aggregate", "/other"))
    run("keep", "--once", "--source", source)
    (tmp_path / "store" / "logs" / "0000" / "journal").write_bytes(b"{}\n{}\n")
    status, out, err = run("log", "list", "--json")
    assert (status, [log["log"] for log in json.loads(out)["logs"]]) == (3, [1])
    assert "0000/journal" in err
    status, out, _ = run("log", "list")
    assert (status, "0001" in out, "0000" in out) == (3, True, False)


def test_status_shows_what_is_wrong(run: Run, source: Path, tmp_path: Path) -> None:
    (source / "binary_runtime_measurements").write_bytes(records("/bin/a"))
    assert run("keep", "--once", "--source", source)[0] == 1
    status = json.loads(run("log", "status", "--json")[1])
    assert (status["gaps"], status["refusals"], status["newest"], status["proved_by"]) == (1, 1, True, [])
    shown = run("log", "status")[1]
    assert "begins         nobody knows where: " in shown
    assert "gaps           1\n" in "".join(f"{line.rstrip()}\n" for line in shown.splitlines())
    assert "refused        nothing is deleted from the kernel: " in shown
    assert "only a restart, which resets the registers, mends that" in " ".join(shown.split())
    store = Store(tmp_path / "store")
    log = store.log()
    log.note(Event.COUNTED, "boot", base=log.base, missing=3, detail="3 records are missing")
    refused = json.loads(run("log", "status", "--json")[1])["refused"]
    assert "continues no log" in refused
    assert f"refused        nothing is deleted from the kernel: {refused[:20]}" in run("log", "status")[1]
    (source / "binary_runtime_measurements").write_bytes(records("boot_aggregate"))
    assert run("keep", "--once", "--source", source)[0] == 0
    for number in ("0", "1"):
        assert json.loads(run("log", "status", "--log", number, "--json")[1])["refused"] is None
        assert "refused    " not in run("log", "status", "--log", number, "--events", "0")[1]
