"""The custody API: how much is asked for at once, and what is asked of the service: quotes and drains."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.unit.api_client import BASE, call, get, indexed, post, problem, with_client
from tests.unit.custody_kernel import Kernel
from tests.waiting import PATIENCE

from imarium.chain import ChainState
from imarium.custody import Keeper, KeepResult, Log, Store
from imarium.errors import MalformedInput, MissingComponent, RefusedOperation
from imarium.web import Holding, Limits, create_app

if TYPE_CHECKING:
    from collections.abc import Callable

    from imarium.custody import Whole


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return indexed(tmp_path_factory.mktemp("api"))


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


def test_a_slow_body_is_given_up(log: Log) -> None:
    app = create_app([Holding("here", Store(log.directory.parents[1]))], limits=Limits(body_seconds=0.05))

    async def slow() -> Any:
        yield b"["
        await asyncio.sleep(5)

    problem(call(app, httpx.Request("POST", f"{BASE}/v1/quote", content=slow()))[0], 408, "too_slow")


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
