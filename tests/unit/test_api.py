"""The custody API, called in this process: what it answers, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.unit.builders import ascii_line, binary, ng
from tests.unit.custody_kernel import Kernel
from tests.unit.test_index import MADE, filled
from tests.waiting import PATIENCE

from imarium.chain import ChainState, replay
from imarium.cli import keep_api
from imarium.custody import Custody, Event, Keeper, KeepResult, Log, LogMeta, SourceConfig, Store
from imarium.custody.config import ApiConfig
from imarium.custody.indexing import write_index
from imarium.errors import MalformedInput, MissingComponent, RefusedOperation, UsageError
from imarium.formats.records import ListLayout, read_records
from imarium.hashes import SHA1, SHA256, SHA384
from imarium.web import Holding, Limits, create_app
from imarium.web.desk import Desk
from imarium.web.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fastapi import FastAPI

    from imarium.custody import Whole

BASE = "http://imarium"


def call(app: FastAPI, *requests: httpx.Request) -> list[httpx.Response]:
    """Sends the requests at once; the answers in their order."""

    async def run() -> list[httpx.Response]:
        async with client(app) as http:
            return list(await asyncio.gather(*(http.send(request) for request in requests)))

    return asyncio.run(run())


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE, timeout=30)


def get(app: FastAPI, path: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return call(app, httpx.Request("GET", BASE + path, headers=named))[0]


def post(app: FastAPI, path: str, document: object = None) -> httpx.Response:
    return call(app, httpx.Request("POST", BASE + path, json=document))[0]


def problem(response: httpx.Response, status: int, code: str) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert (response.status_code, document["status"], document["code"]) == (status, status, code)
    assert document["type"] == f"urn:imarium:problem:{code}"
    assert "\n" not in document["detail"]
    return str(document["detail"])


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    log = filled(tmp_path_factory.mktemp("api") / "store")
    write_index(log)
    return log


@pytest.fixture(scope="module")
def app(log: Log) -> FastAPI:
    return create_app([Holding("here", Store(log.directory.parents[1]))], limits=Limits(records=4000, made=100))


def grow(log: Log, count: int) -> bytes:
    """Keeps more records, as a run of custody does; their bytes."""
    data = binary([ng(b"/more/%d" % (log.records + number)) for number in range(count)])
    with log.list_path.open("ab") as file:
        file.write(data)
    log.grow(count, len(data))
    log.note(Event.KEPT, "boot", base=log.bytes)
    return data


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


class Slow:
    """Makes each call last until it is let go; ``most`` is how many there were at once."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.running = self.most = 0

    def take(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        assert self.go.wait(PATIENCE)
        time.sleep(0.05)
        self.running -= 1


async def refused_then(
    http: httpx.AsyncClient, slow: Slow, refused: int, requests: list[httpx.Request]
) -> list[httpx.Response]:
    """Sends the requests at once, and lets go of the slow calls when so many were refused; all answers."""
    tasks = {asyncio.create_task(http.send(request)) for request in requests}
    done, left = set[asyncio.Task[httpx.Response]](), tasks
    async with asyncio.timeout(PATIENCE):
        while len(done) < refused:
            some, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            done |= some
    slow.go.set()
    return await asyncio.gather(*tasks)


def test_replays_from_the_beginning_are_bounded(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imarium.web.desk._NEAR", 2000)
    slow, plain = Slow(), Log.state_at

    def state_at(self: Log, number: int, banks: Any) -> ChainState:
        slow.take()
        return plain(self, number, banks)

    monkeypatch.setattr(Log, "state_at", state_at)
    app = create_app([Holding("here", Store(log.directory.parents[1]))], limits=Limits(replays=2))
    far = [httpx.Request("GET", f"{BASE}/v1/logs/0/checkpoint?at=4500&bank=sha384") for _ in range(5)]

    async def run(http: httpx.AsyncClient) -> None:
        answers = await refused_then(http, slow, 3, far)
        assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503]
        assert slow.most == 1
        problem(next(answer for answer in answers if answer.status_code == 503), 503, "too_many_replays")

    with_client(app, run)
    near = [httpx.Request("GET", f"{BASE}/v1/logs/0/checkpoint?at=4500") for _ in range(5)]
    assert {answer.status_code for answer in call(app, *near)} == {200}


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


async def _chunks() -> Any:
    for _ in range(100):
        yield b"[" * 1000


def test_a_slow_body_is_given_up(log: Log) -> None:
    app = create_app([Holding("here", Store(log.directory.parents[1]))], limits=Limits(body_seconds=0.05))

    async def slow() -> Any:
        yield b"["
        await asyncio.sleep(5)

    problem(call(app, httpx.Request("POST", f"{BASE}/v1/quote", content=slow()))[0], 408, "too_slow")


def test_requests_at_once_are_bounded(log: Log) -> None:
    app = create_app([Holding("here", Store(log.directory.parents[1]))], limits=Limits(requests=3))

    async def run(http: httpx.AsyncClient) -> None:
        left = {asyncio.create_task(http.get("/v1/logs/0/records?from=5000&wait=60")) for _ in range(5)}
        for _ in range(2):
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
            for task in done:
                assert "try again" in problem(task.result(), 503, "too_many_requests")
                assert task.result().headers["retry-after"] == "1"
            if len(left) == 3:
                break
        assert (len(left), (await http.get("/v1/logs/0")).status_code) == (3, 503)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        assert (await http.get("/v1/logs/0")).status_code == 200

    with_client(app, run)


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


# Waiting for what comes next


def with_client(app: FastAPI, run: Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]) -> None:
    async def both() -> None:
        async with client(app) as http:
            await run(http)

    asyncio.run(both())


async def until(happened: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await happened():
            await asyncio.sleep(0.01)


async def until_waiting(http: httpx.AsyncClient, count: int) -> None:
    async def happened() -> bool:
        return bool((await http.get("/v1/status")).json()["waiting"] >= count)

    await until(happened)


async def until_nothing_is_held(desk: Desk) -> None:
    """The thread that made something lets go of it a moment after its answer."""

    async def happened() -> bool:
        return desk.held == 0

    await until(happened)


def test_what_comes_next_is_waited_for(tmp_path: Path) -> None:
    log = filled(tmp_path / "store", MADE[:10])
    app = create_app([Holding("here", Store(tmp_path / "store"))])

    async def run(http: httpx.AsyncClient) -> None:
        at_end = [asyncio.create_task(http.get("/v1/logs/newest/records?from=10&wait=60")) for _ in range(20)]
        tag = (await http.get("/v1/logs/newest/records?from=5")).headers["etag"]
        behind = asyncio.create_task(http.get("/v1/logs/newest/records?from=5&wait=60", headers={"if-none-match": tag}))
        await until_waiting(http, 21)
        more = await asyncio.to_thread(grow, log, 3)
        for task in at_end:
            answer = await task
            assert (answer.content, answer.headers["imarium-next"]) == (more, "13")
        assert (await behind).content == binary(MADE[5:10]) + more
        assert (await http.get("/v1/status")).json()["waiting"] == 0

    with_client(app, run)


def test_a_wait_ends_empty_handed(tmp_path: Path) -> None:
    filled(tmp_path / "store", MADE[:10])
    app = create_app([Holding("here", Store(tmp_path / "store"))])

    async def run(http: httpx.AsyncClient) -> None:
        answer = await http.get("/v1/logs/newest/records?from=10&wait=0.2")
        assert (answer.status_code, answer.content, answer.headers["imarium-next"]) == (200, b"", "10")
        document = (await http.get("/v1/logs/newest/records?from=10&wait=0.1&form=json")).json()
        assert document == {"from": 10, "to": 10, "bank": "sha1", "records": []}
        known = {"if-none-match": answer.headers["etag"]}
        assert (await http.get("/v1/logs/newest/records?from=10&wait=0.1", headers=known)).status_code == 304

    with_client(app, run)


def test_a_new_log_ends_the_wait_on_the_old(tmp_path: Path) -> None:
    log = filled(tmp_path / "store", MADE[:10])
    store = Store(tmp_path / "store")
    app = create_app([Holding("here", store)])

    async def run(http: httpx.AsyncClient) -> None:
        waiting = asyncio.create_task(http.get("/v1/logs/0/records?from=10&wait=60"))
        await until_waiting(http, 1)
        await asyncio.to_thread(store.begin, LogMeta("little", "now", "next", "reset", "another life"))
        answer = await waiting
        assert (answer.content, answer.headers["imarium-closed"]) == (b"", "true")
        async with asyncio.timeout(50):
            await http.get("/v1/logs/0/records?from=10&wait=60")

    with_client(app, run)
    assert log.records == 10


def test_waiters_are_bounded_and_forgotten_when_they_go(tmp_path: Path) -> None:
    filled(tmp_path / "store", MADE[:10])
    app = create_app([Holding("here", Store(tmp_path / "store"))], limits=Limits(waiters=2))

    async def run(http: httpx.AsyncClient) -> None:
        waiting = [asyncio.create_task(http.get("/v1/logs/newest/records?from=10&wait=60")) for _ in range(2)]
        await until_waiting(http, 2)
        problem(await http.get("/v1/logs/newest/records?from=10&wait=60"), 503, "too_many_waiters")
        assert (await http.get("/v1/logs/newest/records?from=10")).status_code == 200
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert (await http.get("/v1/status")).json()["waiting"] == 0

    with_client(app, run)


# The kernel's records behind the kept ones


def test_pending_records_follow_the_kept_ones(tmp_path: Path) -> None:
    kernel = Kernel()
    kernel.boot()
    kernel.measure("/bin/a", "/bin/b")
    store = Store(tmp_path / "store", create=True)
    Keeper(store, kernel, boot_id="boot", registers=kernel.registers).once()
    kept = store.log().list_path.read_bytes()
    kernel.measure("/bin/c", "/bin/d")
    custody = Custody(tmp_path / "store")
    app = create_app(
        [Holding("here", store, whole=lambda _known: custody.whole(kernel, boot_id="boot", registers=kernel.registers))]
    )
    path = "/v1/logs/newest/records?pending=true"
    found = get(app, path)
    assert found.content == kept + kernel.current_list
    assert (found.headers["imarium-kept"], found.headers["imarium-records"]) == ("3", "5")
    records = list(read_records([found.content], ListLayout()))
    for first, last in ((0, 5), (2, 4), (3, 5), (4, 5), (5, 5)):
        part = get(app, f"{path}&from={first}&to={last}&bank=sha256")
        wanted = [record.in_column(ListLayout(SHA256)) for record in records[first:last]]
        assert [r.template_digest for r in read_records([part.content], ListLayout(SHA256))] == [
            r.template_digest for r in wanted
        ]
    assert get(app, "/v1/logs/newest/records").content == kept
    kernel.boot()
    assert get(app, path).content == kept  # what the kernel has belongs to another life


def test_more_pending_records_than_are_held_in_memory_are_refused_until_they_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel()
    kernel.boot()
    source = SourceConfig("here", kernel, tmp_path / "store", "boot", registers=kernel.registers)
    keeper = source.keeper()
    keeper.once()
    kernel.measure("/bin/a", "/bin/b")
    size = len(kernel.current_list)
    seen = keep_api._holding(ApiConfig(), source, None)
    holding = replace(seen, quote=lambda nonce, _first, view: nonce + view().pending)
    app = create_app([holding])
    path = "/v1/logs/newest/records?pending=true"
    monkeypatch.setattr(keep_api, "_MOST_PENDING", size - 1)
    assert f"has {size} bytes" in problem(get(app, path), 503, "too_much_pending")
    problem(post(app, "/v1/quote", {"nonce": "5a" * 8}), 503, "too_much_pending")
    monkeypatch.setattr(keep_api, "_MOST_PENDING", size)
    assert get(app, path).headers["imarium-records"] == "3"
    assert post(app, "/v1/quote", {"nonce": "5a" * 8}).content == b"Z" * 8 + kernel.current_list
    monkeypatch.setattr(keep_api, "_MOST_PENDING", size - 1)
    keeper.once()
    assert get(app, path).headers["imarium-kept"] == "3"


def followed(place: Path) -> tuple[Kernel, Holding]:
    """A kernel whose first record is kept, and which has another."""
    kernel = Kernel()
    kernel.boot()
    source = SourceConfig("here", kernel, place, "boot", registers=kernel.registers)
    source.keeper().once()
    kernel.measure("/bin/a")
    return kernel, keep_api._holding(ApiConfig(), source, None)


def test_what_is_being_sent_is_bounded_together(tmp_path: Path) -> None:
    kernel, holding = followed(tmp_path / "store")
    limit = len(kernel.current_list)

    async def run() -> None:
        desk = Desk(replace(holding, quote=lambda _nonce, _first, _view: bytes(limit + 1)), Limits(held=limit))
        standing = await desk.log(None)
        sent = [await desk.source(standing, pending=True)]
        kernel.measure("/bin/b")
        sent.append(await desk.source(standing, pending=True))
        assert [source.records for source in sent] == [2, 3]
        await refused_for_want_of_room(desk)
        assert (await desk.source(standing, pending=False)).records == 1
        sent.clear()
        await until_nothing_is_held(desk)
        made = await desk.quote(b"", 0)
        assert desk.held == len(made.data)
        await refused_for_want_of_room(desk)
        pieces = made.pieces(lambda: 10)
        del made
        assert len(next(pieces)) == 10
        await refused_for_want_of_room(desk)
        assert sum(map(len, pieces)) == limit + 1 - 10
        await until_nothing_is_held(desk)
        assert (await desk.source(standing, pending=True)).records == 3
        await until_nothing_is_held(desk)

    async def refused_for_want_of_room(desk: Desk) -> None:
        with pytest.raises(Problem, match="answers under way hold") as caught:
            await desk.source(await desk.log(None), pending=True)
        assert (caught.value.status, caught.value.code) == (503, "too_much_pending")
        with pytest.raises(Problem, match="answers under way hold") as caught:
            await desk.quote(b"", 0)
        assert (caught.value.status, caught.value.code) == (503, "too_much_evidence")

    asyncio.run(run())


def test_who_waits_holds_none_of_the_kernels_records(tmp_path: Path) -> None:
    _, holding = followed(tmp_path / "store")
    app = create_app([holding])

    async def run(http: httpx.AsyncClient) -> None:
        waiting = asyncio.create_task(http.get("/v1/logs/newest/records?from=2&pending=true&wait=50"))
        await until_waiting(http, 1)
        await until_nothing_is_held(app.state.desks["here"])
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    with_client(app, run)


def test_those_who_ask_for_pending_records_all_the_time_hold_up_no_drain(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", create=True, patience=PATIENCE)
    kernel = Kernel()
    kernel.boot()
    Keeper(store, kernel, boot_id="boot", registers=kernel.registers).once()
    custody = Custody(tmp_path / "store")

    def whole(_known: Log | None) -> Whole:
        with custody.store.lock(shared=True):
            time.sleep(0.3)  # as if the kernel had very many
            return custody.whole(kernel, boot_id="boot", registers=kernel.registers)

    async def run(http: httpx.AsyncClient) -> None:
        ended = False

        async def ask() -> None:
            while not ended:
                assert (await http.get("/v1/logs/newest/records?pending=true")).status_code == 200

        async def quote() -> None:
            while not ended:
                assert (await http.post("/v1/quote", json={"nonce": "5a" * 8})).status_code == 200

        asking = [asyncio.create_task(task()) for task in (ask, ask, ask, quote)]
        try:
            for _ in range(3):
                await asyncio.sleep(0.2)
                await asyncio.to_thread(Keeper(store, kernel, boot_id="boot", registers=kernel.registers).once)
        finally:
            ended = True
            await asyncio.gather(*asking)

    holding = Holding("here", store, whole=whole, quote=lambda nonce, _first, view: nonce + bytes(view().records))
    with_client(create_app([holding]), run)


# Quotes and drains


class Given:
    """A service that answers with what it is given."""

    def __init__(self, answer: KeepResult | Exception) -> None:
        self.answer = answer
        self.asked: list[str | None] = []

    def describe(self) -> dict[str, object]:
        return {"state": "ok"}

    def submit(self, name: str | None = None) -> Future[KeepResult]:
        self.asked.append(name)
        future: Future[KeepResult] = Future()
        if isinstance(self.answer, Exception):
            future.set_exception(self.answer)
        else:
            future.set_result(self.answer)
        return future


def test_a_drain_on_request(tmp_path: Path) -> None:
    kernel = Kernel()
    kernel.boot()
    store = Store(tmp_path / "store", create=True)
    result = Keeper(store, kernel, boot_id="boot", registers=kernel.registers).once()
    steward = Given(result)
    app = create_app([Holding("here", store)], steward=steward)
    assert post(app, "/v1/drain").json() == json.loads(json.dumps(result.to_document()))
    assert steward.asked == ["here"]
    assert get(app, "/v1/status").json()["service"] == {"state": "ok"}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RefusedOperation("stopping"), 409, "refused"),
        (MissingComponent("disk full"), 503, "missing"),
        (MalformedInput("list", offset=0, expected="a", found="b"), 503, "malformed"),
    ],
)
def test_a_drain_that_fails_says_why(log: Log, error: Exception, status: int, code: str) -> None:
    app = create_app([Holding("here", Store(log.directory.parents[1]))], steward=Given(error))
    problem(post(app, "/v1/drain"), status, code)


def test_quotes_are_made_one_at_a_time_and_their_queue_is_bounded(log: Log) -> None:
    slow = Slow()

    def quote(nonce: bytes, first: int, _view: Callable[[], Whole]) -> bytes:
        slow.take()
        return nonce + bytes([first])

    store = Store(log.directory.parents[1])
    app = create_app([Holding("here", store, quote=quote)], limits=Limits(quotes=4))
    request = {"nonce": "0a" * 32, "from": 7}

    async def run(http: httpx.AsyncClient) -> None:
        requests = [httpx.Request("POST", f"{BASE}/v1/quote", json=request) for _ in range(9)]
        answers = await refused_then(http, slow, 5, requests)
        good = [answer for answer in answers if answer.status_code == 200]
        assert (len(good), slow.most) == (4, 1)
        assert {answer.content for answer in good} == {b"\x0a" * 32 + b"\x07"}
        assert good[0].headers["content-type"] == "application/cbor"
        for answer in answers:
            if answer not in good:
                problem(answer, 503, "too_many_quotes")

    with_client(app, run)
    problem(post(create_app([Holding("here", store)]), "/v1/quote", request), 501, "no_root")


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


def test_who_reads_often_opens_nothing_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """IMA measures each file that root opens for reading if it has changed, so reading the list must not add to it."""
    kernel = Kernel()
    kernel.boot()
    store = Store(tmp_path / "store", create=True)
    keeper = Keeper(store, kernel, boot_id="boot", registers=kernel.registers)
    keeper.once()
    custody = Custody(tmp_path / "store")

    def whole(known: Log | None) -> Whole:
        return custody.whole(kernel, boot_id="boot", registers=kernel.registers, recheck=False, known=known)

    app = create_app([Holding("here", store, whole=whole)])
    opened: list[str] = []
    plain_open, plain_path_open = os.open, Path.open

    def noting(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & os.O_ACCMODE != os.O_WRONLY:
            opened.append(Path(path).name)
        return plain_open(path, flags, *rest, **more)

    def noting_path(self: Path, *rest: Any, **more: Any) -> Any:
        opened.append(self.name)
        return plain_path_open(self, *rest, **more)

    async def run(http: httpx.AsyncClient) -> None:
        await http.get("/v1/logs/newest/records?from=0&pending=true")
        monkeypatch.setattr(os, "open", noting)
        monkeypatch.setattr(Path, "open", noting_path)
        for number in range(3):
            kernel.measure(f"/bin/{number}")
            found = await http.get("/v1/logs/newest/records?from=0&pending=true")
            assert found.headers["imarium-records"] == str(2 + number)
            await asyncio.to_thread(keeper.once)
            found = await http.get(f"/v1/logs/newest/records?from={1 + number}")
            assert found.headers["imarium-kept"] == str(2 + number)
            assert (await http.get(f"/v1/logs/newest/checkpoint?at={2 + number}")).status_code == 200

    with_client(app, run)
    assert not {"list", "journal", "meta.json"} & set(opened)
    assert "index" in opened, "nothing was noted"
