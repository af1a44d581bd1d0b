"""The custody API over stores with no log, with many, with several sources, and with damaged logs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.api_client import get, grow, problem
from tests.unit.test_index import MADE, filled

from imarium.custody import LogMeta, Store
from imarium.errors import UsageError
from imarium.web import Holding, create_app


def test_nothing_kept_yet(tmp_path: Path) -> None:
    app = create_app([Holding("here", Store(tmp_path / "store", create=True))])
    assert get(app, "/v1/logs").json() == {"logs": [], "unreadable": [], "next": None}
    assert get(app, "/v1/status").json()["newest"] is None
    problem(get(app, "/v1/logs/newest/records"), 503, "missing")
    with pytest.raises(UsageError):
        create_app([])


def test_several_sources(tmp_path: Path) -> None:
    logs = [filled(tmp_path / "a", MADE[:10]), filled(tmp_path / "b", MADE[:20])]
    app = create_app([Holding(name, Store(tmp_path / name)) for name in ("a", "b")])
    assert [get(app, f"/v1/logs/0?source={name}").json()["records"] for name in ("a", "b")] == [
        log.records for log in logs
    ]
    assert get(app, "/v1/logs/0").json()["records"] == 10


def test_a_damaged_log_is_a_problem_and_not_a_traceback(tmp_path: Path) -> None:
    log = filled(tmp_path / "store", MADE[:10])
    app = create_app([Holding("here", Store(tmp_path / "store"))])
    assert get(app, "/v1/logs/0").status_code == 200
    good = (log.directory / "journal").read_bytes()
    (log.directory / "journal").write_bytes(b"{}\n" + good)
    problem(get(create_app([Holding("here", Store(tmp_path / "store"))]), "/v1/logs/0"), 503, "malformed")
    (log.directory / "journal").write_bytes(good)
    data = log.list_path.read_bytes()
    at = log.offset_of(2)
    log.list_path.write_bytes(data[:at] + b"\xff" * 50 + data[at + 50 :])
    problem(get(app, "/v1/logs/0/records?from=1&to=3&form=json"), 503, "malformed_record")
    log.list_path.write_bytes(data[:50])
    problem(get(create_app([Holding("here", Store(tmp_path / "store"))]), "/v1/logs/0/records"), 503, "missing")


@pytest.mark.parametrize("damaged", [0, 1, 2])
def test_a_damaged_log_hinders_no_other(tmp_path: Path, damaged: int) -> None:
    store = Store(tmp_path / "store", create=True)
    for number in range(3):
        log = store.begin(LogMeta("little", "now", f"boot{number}", "reset", "test"))
        grow(log, 2 + number)
    (store.directory_of(damaged) / "journal").write_bytes(b"{}\n{}\n")
    app = create_app([Holding("here", store)])
    found = get(app, "/v1/logs").json()
    others = [number for number in range(3) if number != damaged]
    assert ([log["log"] for log in found["logs"]], found["unreadable"]) == (others, [damaged])
    problem(get(app, f"/v1/logs/{damaged}"), 503, "malformed")
    for number in others:
        answer = get(app, f"/v1/logs/{number}/records")
        assert answer.content == store.log(number).list_path.read_bytes()
        assert answer.headers["imarium-closed"] == ("true" if number < 2 else "false")


def test_many_logs_are_listed_in_answers_of_limited_length(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", create=True)
    for number in range(5):
        grow(store.begin(LogMeta("little", "now", f"boot{number}", "reset", "test")), 1)
    (store.directory_of(3) / "journal").write_bytes(b"{}\n{}\n")
    app = create_app([Holding("here", store)])

    def listed(query: str) -> tuple[list[int], list[int], int | None]:
        found = get(app, f"/v1/logs{query}").json()
        return [log["log"] for log in found["logs"]], found["unreadable"], found["next"]

    assert listed("") == ([0, 1, 2, 4], [3], None)
    assert listed("?limit=2") == ([0, 1], [], 1)
    assert listed("?limit=2&after=1") == ([2], [3], 3)
    assert listed("?limit=2&after=3") == ([4], [], None)
    assert listed("?limit=5") == ([0, 1, 2, 4], [3], None)
    assert listed("?after=4") == ([], [], None)
    for wrong in ("limit=0", "limit=1001", "limit=x", "after=-1", f"after={1 << 53}"):
        problem(get(app, f"/v1/logs?{wrong}"), 422, "invalid")
    for number in range(5, 105):
        store.begin(LogMeta("little", "now", f"boot{number}", "reset", "test"))
    assert [len(listed("")[0]), listed("")[2], listed("?limit=1000")[2]] == [99, 99, None]
