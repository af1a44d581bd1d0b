"""What the commands that talk to a running engine print."""

import contextlib
import threading
import time
from pathlib import Path

import pytest

from imarium.cli.engine import engine
from imarium.cli.engine_answers import answers
from imarium.cli.engine_control import measure_there, show_status, stop_engine, suspend_engine
from imarium.engine import Engine, builtin_policy, serving
from imarium.errors import UsageError


@pytest.fixture
def running(tmp_path):
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(Engine(tmp_path / "engine", policy=builtin_policy(["critical_data"])))
        stack.enter_context(serving(engine.directory, answers(engine, lambda: None)))
        yield engine.directory


def test_files_of_any_name_are_measured_and_shown_as_they_are_called(running, tmp_path, capsys):
    """More than fit into one request, each with a path of nearly the greatest length, of bytes that are no text."""
    place = tmp_path
    for _ in range(14):
        place /= "\udcff" * 255
        place.mkdir()
    (place / "[").mkdir()
    paths = [place / "[" / f"b]{number}" for number in range(90)]
    for path in paths:
        path.write_text(path.name)
    for said in ("recorded", "not recorded: this content of it is known"):
        assert measure_there(running, paths, json=False) == 0
        shown = [line.partition("\\udcff/")[2][-len(said) - 20 :] for line in capsys.readouterr().out.splitlines()]
        assert [line[line.rindex("[/") :] for line in shown] == [f"[/{path.name}: {said}" for path in paths]


@pytest.mark.parametrize("how", ["stop", "suspend"])
def test_a_stopped_engine_has_ended_when_the_command_returns(tmp_path, how):
    """So that the next command can start one."""
    place, begun, told = tmp_path / "engine", threading.Event(), threading.Event()

    def run():
        with Engine(place) as one, serving(one.directory, answers(one, told.set)):
            begun.set()
            told.wait(60)
            time.sleep(0.5)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(60)
    if how == "stop":
        assert stop_engine(place, json=True) == 0
    else:
        assert suspend_engine(place, tmp_path / "buffer", stay=False, json=True) == 0
    with Engine(place, restore=tmp_path / "buffer" if how == "suspend" else None):
        thread.join(60)


def test_a_register_that_stays_behind_is_said_to(tmp_path, capsys):
    register = {"root": "tpm", "register": "10", "records": 7, "waiting": 2, "lost": True, "error": None}
    records = {"current": 0, "staged": 0, "full": 7}
    found = {"records": records, "violations": 0, "problems": 1, "suspended": False, "bypass": False}
    with serving(
        tmp_path, lambda _request: found | {"registers": [register, register | {"lost": False, "error": "x"}]}
    ):
        assert show_status(tmp_path, json=False) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == [
        "registers  tpm 10: 7 records; 2 wait: a record it waits for was deleted, so it stays behind for good",
        "registers  tpm 10: 7 records; 2 wait: x",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"once": True, "mount": Path("/m")}, "leave out"),
        ({"once": True, "watch": [Path("/m")]}, "leave out"),
        ({"stay": True, "once": True}, "--stay goes with"),
        ({"status": True, "stop": True}, "alone"),
        ({"status": True, "once": True}, "alone"),
        ({}, "nothing to do"),
        ({"once": True, "without": ["x"]}, "choose"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, options, said):
    with pytest.raises(UsageError, match=said):
        engine(state=tmp_path, **options)
