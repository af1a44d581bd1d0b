"""A client of the custody API, called in this process; logs to be served, and waiting for what it does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from tests.unit.builders import binary, ng
from tests.unit.test_index import filled
from tests.waiting import PATIENCE

from imarium.custody import Event, Log
from imarium.custody.indexing import write_index
from imarium.web.desk import Desk

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fastapi import FastAPI


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


def grow(log: Log, count: int) -> bytes:
    """Keeps more records, as a run of custody does; their bytes."""
    data = binary([ng(b"/more/%d" % (log.records + number)) for number in range(count)])
    with log.list_path.open("ab") as file:
        file.write(data)
    log.grow(count, len(data))
    log.note(Event.KEPT, "boot", base=log.bytes)
    return data


def indexed(place: Path) -> Log:
    """A log of all that is made, with its index, in a store below ``place``."""
    log = filled(place / "store")
    write_index(log)
    return log
