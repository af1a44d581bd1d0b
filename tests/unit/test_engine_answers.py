"""What a running engine answers, and requests that make no sense."""

import pytest

from imarium.cli.engine_answers import answers
from imarium.engine import Engine, builtin_policy
from imarium.errors import MissingComponent, UsageError


@pytest.fixture
def asked(tmp_path):
    ended: list[bool] = []
    with Engine(tmp_path / "engine", policy=builtin_policy(["critical_data"])) as engine:
        answer = answers(engine, lambda: ended.append(True))

        def ask(**request):
            return {**answer(request), "ended": bool(ended)}

        yield ask


def test_status(asked):
    found = asked(command="status")
    assert found["records"] == {"current": 2, "staged": 0, "full": 2}
    assert (found["bypass"], found["suspended"], found["problems"], found["registers"]) == (True, False, 0, [])
    assert not found["ended"]


def test_measuring_files_and_critical_data(asked, tmp_path):
    file = tmp_path / "a file"
    file.write_text("x")
    for recorded in (True, False):
        assert asked(command="measure", paths=[str(file)])["files"] == [{"path": str(file), "recorded": recorded}]
        request = {"command": "critical_data", "label": "mine", "name": "n", "data": "00ff"}
        assert asked(**request)["recorded"] is recorded


def test_suspending_ends_it_unless_it_is_to_stay(asked, tmp_path):
    first = asked(command="suspend", path=str(tmp_path / "a"), stay=True)
    assert (first["handed_over"], first["suspended"], first["ended"]) == (4, True, False)
    assert asked(command="suspend", path=str(tmp_path / "b"))["ended"]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    for place in ("nowhere/c", 300 * "n"):
        with pytest.raises(MissingComponent):
            asked(command="suspend", path=str(tmp_path / place))


def test_stopping(asked):
    assert asked(command="stop")["ended"]


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"command": "nope"},
        {"command": ["status"]},
        {"command": "measure"},
        {"command": "measure", "paths": "text"},
        {"command": "measure", "paths": [1]},
        {"command": "measure", "paths": ["a\0b"]},
        {"command": "measure", "paths": [""]},
        {"command": "suspend"},
        {"command": "suspend", "path": 3},
        {"command": "critical_data", "label": "a", "name": "b"},
        {"command": "critical_data", "label": "a", "name": "b", "data": "zz"},
        {"command": "critical_data", "label": "a", "name": "b", "data": ""},
        {"command": "critical_data", "label": "\ud800", "name": "b", "data": "00"},
        {"command": "measure", "paths": ["/\ud800"]},
    ],
)
def test_requests_that_make_no_sense(asked, request_):
    with pytest.raises(UsageError):
        asked(**request_)
