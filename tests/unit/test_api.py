"""The custody API, called in this process: records and checkpoints of a log, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.unit.api_client import BASE, call, get, indexed, problem
from tests.unit.builders import ascii_line, binary
from tests.unit.test_index import MADE

from imarium.chain import ChainState, replay
from imarium.custody import Event, Log, LogMeta, Store
from imarium.formats.records import ListLayout, read_records
from imarium.hashes import SHA1, SHA256, SHA384
from imarium.web import Holding, Limits, create_app

if TYPE_CHECKING:
    from fastapi import FastAPI


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return indexed(tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def app(log: Log) -> FastAPI:
    return create_app([Holding("here", Store(log.directory.parents[1]))], limits=Limits(records=4000, made=100))


def test_status_and_logs(app: FastAPI, log: Log) -> None:
    status = get(app, "/v1/status").json()
    assert (status["logs"], status["sources"], status["service"], status["quotes"]) == (1, ["here"], None, False)
    (listed,) = get(app, "/v1/logs").json()["logs"]
    assert listed == get(app, "/v1/logs/0").json() == get(app, "/v1/logs/newest").json() == status["newest"]
    assert (listed["records"], listed["bytes"], listed["closed"]) == (5000, log.bytes, False)
    assert listed["identity"] == log.meta.identity.hex()


@pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 100), (1020, 1030), (4999, 5000), (5000, 5000), (7, 7)])
@pytest.mark.parametrize("bank", [SHA1, SHA256, SHA384], ids=lambda bank: bank.name)
def test_records_in_every_form_and_bank(app: FastAPI, first: int, last: int, bank: Any) -> None:
    made = MADE[first:last]
    query = f"/v1/logs/0/records?from={first}&to={last}&bank={bank.name}"
    found = get(app, query)
    assert found.content == binary(made, bank.name)
    assert found.headers["content-length"] == str(len(found.content))
    assert found.headers["imarium-layout"] == f"digest={bank.name}; byte-order=little"
    assert (found.headers["imarium-from"], found.headers["imarium-next"]) == (str(first), str(last))
    assert len(list(read_records([found.content], ListLayout(bank), first=first))) == last - first
    text = get(app, query + "&form=ascii")
    assert text.headers["content-type"] == "text/plain"
    assert text.content == b"".join(ascii_line(record, bank.name) for record in made)
    document = get(app, query + "&form=json").json()
    assert (document["from"], document["to"], document["bank"]) == (first, last, bank.name)
    assert [row["template_digest"] for row in document["records"]] == [
        record.digest(bank.name, "little").hex() for record in made
    ]
    assert [row["record"] for row in document["records"]] == list(range(first, last))


def test_all_of_a_log_in_answers_of_limited_length(app: FastAPI) -> None:
    for form, most in (("binary", 4000), ("ascii", 100)):
        found, path = b"", f"/v1/logs/newest/records?form={form}"
        answers = 0
        while path:
            answer = get(app, path)
            assert int(answer.headers["imarium-next"]) - int(answer.headers["imarium-from"]) <= most
            found += answer.content
            path = answer.links["next"]["url"] if "next" in answer.links else ""
            answers += 1
        assert answers == -(-5000 // most)
        assert found == (binary(MADE) if form == "binary" else b"".join(map(ascii_line, MADE)))


def test_the_next_answer_is_of_what_was_asked_for(app: FastAPI) -> None:
    answer = get(app, "/v1/logs/newest/records?form=json&bank=sha256&from=10&to=250&wait=3&source=here")
    assert answer.links["next"]["url"] == "/v1/logs/newest/records?form=json&bank=sha256&to=250&source=here&from=110"
    last = get(app, "/v1/logs/newest/records?form=json&bank=sha256&from=210&to=250")
    assert "link" not in last.headers
    assert "link" not in get(app, "/v1/logs/newest/records?from=4000&to=9999").headers


@pytest.mark.parametrize("at", [0, 1, 1024, 4321, 5000, None])
def test_checkpoints_are_states_to_start_from(app: FastAPI, at: int | None) -> None:
    path = "/v1/logs/0/checkpoint?bank=sha1&bank=sha384" + ("" if at is None else f"&at={at}")
    document = get(app, path).json()
    count = 5000 if at is None else at
    assert ChainState.from_document(document) == replay([binary(MADE[:count])], ListLayout(), [SHA1, SHA384]).state
    assert document["offset"] == len(binary(MADE[:count]))


def test_a_verifier_that_starts_at_a_checkpoint_ends_where_the_log_does(app: FastAPI) -> None:
    start = ChainState.from_document(get(app, "/v1/logs/0/checkpoint?at=4000").json())
    rest = get(app, "/v1/logs/0/records?from=4000").content
    assert replay([rest], ListLayout(), start=start).state == replay([binary(MADE)], ListLayout()).state


def test_conditional_requests(app: FastAPI) -> None:
    first = get(app, "/v1/logs/0/records?from=4000")
    again = get(app, "/v1/logs/0/records?from=4000", if_none_match=first.headers["etag"])
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    for other in ("from=4001", "from=4000&form=json", "from=4000&bank=sha256", "from=4000&to=4999"):
        assert get(app, f"/v1/logs/0/records?{other}", if_none_match=first.headers["etag"]).status_code == 200


def test_ranges(app: FastAPI) -> None:
    whole = get(app, "/v1/logs/0/records?from=1000")
    assert whole.headers["accept-ranges"] == "bytes"
    part = get(app, "/v1/logs/0/records?from=1000", range="bytes=100-50000", if_range=whole.headers["etag"])
    assert part.status_code == 206
    assert part.content == whole.content[100:50001]
    assert part.headers["content-range"] == f"bytes 100-50000/{len(whole.content)}"
    assert get(app, "/v1/logs/0/records?from=1000", range="bytes=-7").content == whole.content[-7:]
    assert get(app, "/v1/logs/0/records?from=1000", range="bytes=0-1", if_range='"x"').content == whole.content
    refused = get(app, "/v1/logs/0/records?from=1000", range="bytes=999999999-")
    problem(refused, 416, "no_such_range")
    assert refused.headers["content-range"] == f"bytes */{len(whole.content)}"
    text = get(app, "/v1/logs/0/records?from=4990&form=ascii", range="bytes=0-1")
    assert (text.status_code, text.headers["accept-ranges"]) == (200, "none")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/logs/1", 404, "no_such_log"),
        ("/v1/logs/1/records", 404, "no_such_log"),
        ("/v1/logs/1/checkpoint", 404, "no_such_log"),
        ("/v1/logs/x", 422, "invalid"),
        ("/v1/logs/0/records?from=5001", 404, "no_such_record"),
        ("/v1/logs/0/records?from=5&to=4", 404, "no_such_record"),
        ("/v1/logs/0/records?from=-1", 422, "invalid"),
        ("/v1/logs/0/records?from=99999999999999999999", 422, "invalid"),
        ("/v1/logs/0/records?bank=md5", 400, "usage"),
        ("/v1/logs/0/records?bank=none", 400, "usage"),
        ("/v1/logs/0/records?form=xml", 422, "invalid"),
        ("/v1/logs/0/records?wait=nan", 422, "invalid"),
        ("/v1/logs/0/records?pending=true", 400, "usage"),
        ("/v1/logs/0/checkpoint?at=5001", 404, "no_such_record"),
        ("/v1/logs?source=there", 404, "no_such_source"),
        ("/v1/", 404, "not_found"),
        ("/docs", 404, "not_found"),
        ("/v1/drain", 405, "method_not_allowed"),
    ],
)
def test_what_is_refused_is_a_problem(app: FastAPI, path: str, status: int, code: str) -> None:
    problem(get(app, path), status, code)


def test_bodies_are_bounded(app: FastAPI) -> None:
    long = httpx.Request("POST", f"{BASE}/v1/quote", content=b"[" * 20000)
    announced = httpx.Request("POST", f"{BASE}/v1/quote", content=b"{}", headers={"content-length": "99999999"})
    chunked = httpx.Request("POST", f"{BASE}/v1/quote", content=_chunks())
    for answer in call(app, long, announced, chunked):
        problem(answer, 413, "too_large")
    for content in (b"[" * 16000, b"{}", b'{"nonce": 1}', b"\xff", b'{"nonce": "00", "x": 1}'):
        problem(call(app, httpx.Request("POST", f"{BASE}/v1/quote", content=content))[0], 422, "invalid")


def test_a_body_that_is_not_said_to_be_json_is_told_what_to_say(app: FastAPI) -> None:
    for media, told in (
        ("application/x-www-form-urlencoded", True),
        ("text/plain", True),
        ("application/json; charset=utf-8", False),
        ("application/x+json", False),
    ):
        request = httpx.Request("POST", f"{BASE}/v1/quote", content=b'"x"', headers={"content-type": media})
        (answer,) = call(app, request)
        problem(answer, 422, "invalid")
        assert ("header 'Content-Type: application/json'" in answer.json()["detail"]) is told


async def _chunks() -> Any:
    for _ in range(100):
        yield b"[" * 1000


def test_a_bank_that_the_kernel_lacked_is_padded_as_the_kernel_had_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", create=True)
    log = store.begin(LogMeta("little", "now", "boot", "reset", "test", frozenset({SHA384})))
    made = MADE[1495:1505]
    log.list_path.write_bytes(binary(made))
    log.grow(len(made), len(binary(made)))
    log.note(Event.KEPT, "boot", base=0)
    found = get(create_app([Holding("here", store)]), "/v1/logs/0/records?bank=sha384")
    assert found.content == binary(made, "sha384", padded=True)
    assert found.headers["imarium-layout"] == "digest=sha384; byte-order=little; padded"
