"""What the service says: for programs, for people, and for the journal."""

import io
import json
import logging
import os
from contextlib import suppress
from pathlib import Path

import pytest

from imarium.cli.library_log import take_over
from imarium.cli.service_log import ServiceLog
from imarium.custody import Cause, KeepResult, ServiceEvent

RESULT = KeepResult("prompt", "", 3, 5, 500, 4, 400, 50, 5000, "proven", (), "replay reaches register 10")
REFUSED = KeepResult("prompt", "", 3, 0, 0, 0, 0, 50, 5000, "refused", (), "register 10 is not reached")
IDLE = KeepResult("prompt", "", 3, 0, 0, 0, 0, 50, 5000, "proven", (), "")
EVENTS = [
    ServiceEvent("started", "kernel", "now", "keeping"),
    ServiceEvent("drained", "kernel", "now", RESULT.reason, Cause.INTERVAL, result=RESULT, seconds=0.25),
    ServiceEvent("drained", "kernel", "now", "", Cause.INTERVAL, result=IDLE),
    ServiceEvent("drained", "kernel", "now", REFUSED.reason, Cause.RECORDS, result=REFUSED),
    ServiceEvent("gap", "kernel", "now", "8 records are missing"),
    ServiceEvent("failed", "kernel", "now", "held\nby someone", Cause.RETRY, "list_busy"),
]


def said(form: str, level: str = "debug", events: list[ServiceEvent] = EVENTS) -> list[str]:
    stream = io.StringIO()
    log = ServiceLog("json" if form == "json" else "text", level, stream, {})
    for event in events:
        log.event(event)
    return stream.getvalue().splitlines()


def test_json_is_one_object_a_line_with_a_level_and_a_time() -> None:
    lines = [json.loads(line) for line in said("json")]
    assert [line["event"] for line in lines] == ["started", "drained", "drained", "drained", "gap", "failed"]
    assert [line["level"] for line in lines] == ["info", "info", "debug", "warning", "warning", "error"]
    assert all(line["source"] == "kernel" and line["timestamp"].endswith("Z") for line in lines)
    assert (lines[1]["result"]["kept"], lines[1]["cause"]) == ({"records": 5, "bytes": 500}, "interval")
    assert (lines[5]["code"], lines[5]["detail"]) == ("list_busy", "held\nby someone")


def test_text_is_one_line_each_for_people() -> None:
    lines = said("text")
    assert lines[0] == "imarium: started: kernel: keeping"
    assert lines[1].startswith("imarium: drained: kernel: proven, kept 5, freed 4: replay reaches register 10")
    assert lines[5] == "imarium: failed: kernel: held\\nby someone cause=retry code=list_busy"
    assert len(lines) == len(EVENTS)


@pytest.mark.parametrize(("level", "count"), [("debug", 6), ("info", 5), ("warning", 3), ("error", 1)])
def test_a_level_leaves_out_what_is_below(level: str, count: int) -> None:
    assert len(said("json", level)) == count


def test_the_journal_gets_priorities(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w+") as stream:
        status = os.fstat(stream.fileno())
        for environment in ({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}, {"JOURNAL_STREAM": "8:1"}):
            log = ServiceLog("json", "debug", stream, environment)
            for event in EVENTS:
                log.event(event)
        stream.seek(0)
        lines = stream.read().splitlines()
    assert [line[:3] for line in lines[:6]] == ["<6>", "<6>", "<7>", "<4>", "<4>", "<3>"]
    assert all(json.loads(line[3:]) for line in lines[:6])
    assert all(json.loads(line) for line in lines[6:])


def test_a_stream_that_takes_nothing_is_no_reason_to_stop(tmp_path: Path) -> None:
    with suppress(OSError), Path("/dev/full").open("w") as stream:
        log = ServiceLog("json", "info", stream, {})
        log.event(EVENTS[0])
    log.event(EVENTS[0])
    log.say("info", "listening", places=[str(tmp_path)])


def test_what_libraries_say_is_one_line_too() -> None:
    loggers = [logging.getLogger(name) for name in ("uvicorn.error", "imarium.web", "asyncio")]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    stream = io.StringIO()
    try:
        take_over(ServiceLog("json", "info", stream, {}))
        logging.getLogger("uvicorn.error").info("Started")
        logging.getLogger("imarium.web.streamed").warning("an answer broke off: %s", "why")
        try:
            int("x")
        except ValueError:
            logging.getLogger("uvicorn.error").exception("Exception in\n ASGI application\n")
    finally:
        for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.level, logger.propagate = handlers, level, propagate
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["event"], first["level"], first["detail"]) == ("api", "warning", "an answer broke off: why")
    assert (second["level"], second["detail"]) == ("error", "Exception in ASGI application")
    assert second["error"].startswith("ValueError: invalid literal for int() with base 10: 'x' (test_service_log.py:")
