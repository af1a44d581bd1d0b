"""The custody API: the kernel's records behind the kept ones."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.unit.api_client import get, post, problem, until_nothing_is_held, until_waiting, with_client
from tests.unit.custody_kernel import Kernel
from tests.waiting import PATIENCE

from imarium.cli import keep_api
from imarium.custody import Custody, Keeper, Log, SourceConfig, Store
from imarium.custody.config import ApiConfig
from imarium.formats.records import ListLayout, read_records
from imarium.hashes import SHA256
from imarium.web import Holding, Limits, create_app
from imarium.web.desk import Desk
from imarium.web.problems import Problem

if TYPE_CHECKING:
    from imarium.custody import Whole


def followed(place: Path) -> tuple[Kernel, Holding]:
    """A kernel whose first record is kept, and which has another."""
    kernel = Kernel()
    kernel.boot()
    source = SourceConfig("here", kernel, place, "boot", registers=kernel.registers)
    source.keeper().once()
    kernel.measure("/bin/a")
    return kernel, keep_api._holding(ApiConfig(), source, None)


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
