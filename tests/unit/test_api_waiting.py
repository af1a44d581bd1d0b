"""The custody API: waiting for what comes next."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
from tests.unit.api_client import grow, problem, until_waiting, with_client
from tests.unit.builders import binary
from tests.unit.test_index import MADE, filled

from imarium.custody import LogMeta, Store
from imarium.web import Holding, Limits, create_app


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
