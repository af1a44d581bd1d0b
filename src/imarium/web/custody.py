"""The custody API: kept logs over HTTP, for every verifier. The routes; what they do is in the modules beside.

Described in ``docs/api.md``, and by the application itself in ``docs/openapi.json``.
"""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request
from fastapi.responses import Response
from pydantic import Field

from imarium import __version__, hashes
from imarium.errors import ImariumError, UsageError
from imarium.hashes import SHA1, SHA256, HashAlgorithm
from imarium.web.description import EVIDENCE_ANSWERS, EVIDENCE_TYPE, RECORDS_ANSWERS, describe
from imarium.web.desk import Desk, Holding, Steward
from imarium.web.documents import (
    CheckpointDocument,
    DrainDocument,
    LogDocument,
    LogList,
    QuoteRequest,
    StatusDocument,
    log_document,
)
from imarium.web.limits import Guard, Limits
from imarium.web.problems import Problem, answer_problems
from imarium.web.records import Form
from imarium.web.retrieval import Wanted, answer_records
from imarium.web.streamed import Streamed, piece

__all__ = ["create_app", "openapi_document"]

_MOST = 1 << 53
"""Where JSON numbers stop being exact."""
_LOGS, _MOST_LOGS = 100, 1000
"""How many logs an answer has, unless asked for another number, and at most."""

router = APIRouter()


def create_app(holdings: Sequence[Holding], *, steward: Steward | None = None, limits: Limits | None = None) -> FastAPI:
    """The application that serves ``holdings``, the first of them unless a request names another.

    ``steward`` is the service that drains them, None where there is none. Raises UsageError for no holding.
    """
    if not holdings:
        raise UsageError("there is nothing to serve")
    limits = limits or Limits()
    app = _application()
    app.state.desks = {holding.name: Desk(holding, limits) for holding in holdings}
    app.state.steward = steward
    app.add_middleware(Guard, limits=limits)
    answer_problems(app)
    return app


def openapi_document() -> dict[str, Any]:
    """The description of the API, which is the same whatever is served."""
    return _application().openapi()


def _application() -> FastAPI:
    app = FastAPI(
        title="imarium custody",
        version=__version__,
        description="Kept measurement lists, as if nothing had been taken out of the kernel.",
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(router, prefix="/v1")
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    return app


async def _desk(
    request: Request,
    source: Annotated[
        str | None, Query(max_length=4096, description="Which, where several are kept [default: the first].")
    ] = None,
) -> Desk:
    """The desk of the source that a request names. Raises Problem."""
    desks: dict[str, Desk] = request.app.state.desks
    if source is None:
        return next(iter(desks.values()))
    if source not in desks:
        raise Problem(HTTPStatus.NOT_FOUND, "no_such_source", f"no such source; there are {', '.join(desks)}")
    return desks[source]


async def _log_number(
    log: Annotated[str, Path(pattern=r"^(newest|[0-9]{1,9})$", description="A log's number, or newest.")],
) -> int | None:
    return None if log == "newest" else int(log)


def _bank(name: str) -> HashAlgorithm:
    """A bank of registers by name. Raises UsageError."""
    bank = hashes.by_name(name)
    if not bank.tcg_id:
        raise UsageError(f"there are no registers of {bank.name}; their banks are {', '.join(_BANKS)}")
    if not bank.computable:
        raise Problem(HTTPStatus.NOT_IMPLEMENTED, "no_such_digest", f"{bank.name} cannot be computed here")
    return bank


_BANKS = [bank.name for bank in hashes.ALGORITHMS if bank.tcg_id]
BankName = Annotated[str, Field(max_length=32, json_schema_extra={"enum": list(_BANKS)})]
ItsDesk = Annotated[Desk, Depends(_desk)]
LogNumber = Annotated[int | None, Depends(_log_number)]


async def _wanted(
    log: LogNumber,
    first: Annotated[int, Query(alias="from", ge=0, lt=_MOST, description="The first record, from 0.")] = 0,
    last: Annotated[
        int | None, Query(alias="to", ge=0, lt=_MOST, description="The record to stop before [default: all].")
    ] = None,
    form: Annotated[Form, Query(description="How the records are written.")] = Form.BINARY,
    bank: Annotated[BankName, Query(description="Whose template digests.")] = SHA1.name,
    wait: Annotated[float, Query(ge=0, le=3600, description="Seconds to wait if there is nothing new.")] = 0,
    pending: Annotated[bool, Query(description="With those that are still in the kernel.")] = False,
) -> Wanted:
    return Wanted(log, first, last, form, _bank(bank), wait, pending)


@router.get("/status")
async def status(request: Request, desk: ItsDesk) -> StatusDocument:
    """What the service does, and what it keeps."""
    steward: Steward | None = request.app.state.steward
    numbers = await desk.shelf.numbers()
    return StatusDocument(
        version=__version__,
        sources=list(request.app.state.desks),
        logs=len(numbers),
        newest=log_document(await desk.shelf.newest()) if numbers else None,
        waiting=desk.shelf.waiters,
        quotes=desk.can_quote,
        service=steward.describe() if steward else None,
    )


@router.get("/logs")
async def logs(
    desk: ItsDesk,
    after: Annotated[
        int | None, Query(ge=0, lt=_MOST, description="Only logs of higher numbers than this [default: all].")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST_LOGS, description="How many at most.")] = _LOGS,
) -> LogList:
    """The logs, oldest first, as many as one answer may have; next says what to ask for then."""
    found, unreadable = list[LogDocument](), list[int]()
    numbers = [number for number in await desk.shelf.numbers() if after is None or number > after]
    for number in numbers[:limit]:
        try:
            found.append(log_document(await desk.log(number)))
        except ImariumError:
            unreadable.append(number)
        except Problem:
            continue  # deleted meanwhile
    return LogList(logs=found, unreadable=unreadable, next=numbers[limit - 1] if len(numbers) > limit else None)


@router.get("/logs/{log}")
async def log(log: LogNumber, desk: ItsDesk) -> LogDocument:
    """One log."""
    return log_document(await desk.log(log))


@router.get("/logs/{log}/checkpoint")
async def checkpoint(
    log: LogNumber,
    desk: ItsDesk,
    at: Annotated[int | None, Query(ge=0, lt=_MOST, description="After so many records [default: all].")] = None,
    bank: Annotated[tuple[BankName, ...], Query(max_length=16, description="Banks.")] = (SHA1.name, SHA256.name),
) -> CheckpointDocument:
    """The registers after a number of records, for a verifier that starts there."""
    banks = [_bank(name) for name in bank]
    standing = await desk.log(log)
    kept, records = standing.log, standing.records if at is None else at
    if records > standing.records:
        detail = f"log {kept.number} has {standing.records} records; there are no {records}"
        raise Problem(HTTPStatus.NOT_FOUND, "no_such_record", detail)
    offset = await asyncio.to_thread(kept.offset_of, records)
    state = await desk.state(kept, records, banks)
    return CheckpointDocument.of(kept, state, offset)


@router.get("/logs/{log}/records", response_class=Response, responses=RECORDS_ANSWERS)
async def records(request: Request, desk: ItsDesk, wanted: Annotated[Wanted, Depends(_wanted)]) -> Response:
    """Records from a number on, as many as one answer may have. Imarium-Next says where the next answer begins."""
    return await answer_records(desk, request, wanted)


@router.post("/quote", response_class=Response, responses=EVIDENCE_ANSWERS)
async def quote(body: QuoteRequest, desk: ItsDesk) -> Response:
    """Evidence over a nonce: the root of trust's quote, and the newest log's records from a number on."""
    made = await desk.quote(bytes.fromhex(body.nonce), body.first)
    headers = {"Content-Type": EVIDENCE_TYPE, "Content-Length": str(len(made.data))}
    return Streamed(made.pieces(piece), HTTPStatus.OK, headers)


@router.post("/drain")
async def drain(request: Request, desk: ItsDesk) -> DrainDocument:
    """Take what the kernel has, now, and say what was done."""
    steward: Steward | None = request.app.state.steward
    if steward is None:
        raise Problem(HTTPStatus.NOT_IMPLEMENTED, "no_service", "no service drains here; run 'imarium keep'")
    result = await asyncio.wrap_future(steward.submit(desk.name))
    return DrainDocument.model_validate(result.to_document())
