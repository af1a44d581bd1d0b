"""One request for records: which ones, whether the client has them already, and how they are sent."""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request
from fastapi.responses import Response

from imarium.hashes import SHA1, HashAlgorithm
from imarium.web.conditions import ByteRange, Unsatisfiable, byte_range, is_known
from imarium.web.desk import Desk
from imarium.web.problems import Problem
from imarium.web.records import Extent, Form
from imarium.web.shelf import Standing
from imarium.web.streamed import Streamed, gone, piece

__all__ = ["Wanted", "answer_records"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: records ``first`` to before ``last`` (None: all there are) of a log (None: the newest).

    ``wait`` is for how many seconds something new is waited for; ``pending`` asks for the kernel's records too.
    """

    log: int | None
    first: int
    last: int | None
    form: Form
    bank: HashAlgorithm
    wait: float
    pending: bool


async def answer_records(desk: Desk, request: Request, wanted: Wanted) -> Response:
    """The answer. Raises Problem and imarium's own errors."""
    standing = await desk.log(wanted.log)
    extent = await _extent(desk, standing, wanted)
    if wanted.wait and _is_old(request, extent, wanted):
        del extent  # who waits holds none of the kernel's records
        await _news_or_gone(desk, request, standing, min(wanted.wait, desk.limits.wait))
        standing = await desk.log(standing.log.number)
        extent = await _extent(desk, standing, wanted)
    headers = _headers(standing, extent) | _next_link(request, extent, wanted)
    if is_known(request.headers.get("if-none-match"), extent.tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return await _body(desk, request, extent, headers)


async def _extent(desk: Desk, standing: Standing, wanted: Wanted) -> Extent:
    source = await desk.source(standing, pending=wanted.pending)
    if wanted.first > min(source.records, source.records if wanted.last is None else wanted.last):
        asked = f"from {wanted.first}" + ("" if wanted.last is None else f" to {wanted.last}")
        detail = f"log {standing.log.number} has {source.records} records; there are none {asked}"
        raise Problem(HTTPStatus.NOT_FOUND, "no_such_record", detail)
    as_kept = wanted.form is Form.BINARY and wanted.bank == SHA1
    most = desk.limits.records if as_kept else desk.limits.made
    ends = [source.records, wanted.first + most, *([] if wanted.last is None else [wanted.last])]
    return await asyncio.to_thread(source.extent, wanted.first, min(ends), wanted.form, wanted.bank)


def _is_old(request: Request, extent: Extent, wanted: Wanted) -> bool:
    """Whether there is nothing for the client that it has not, and there may be soon."""
    if wanted.last is not None and wanted.last <= extent.last:
        return False
    return extent.first == extent.last or is_known(request.headers.get("if-none-match"), extent.tag)


async def _news_or_gone(desk: Desk, request: Request, since: Standing, seconds: float) -> None:
    """Wait for news, but not for longer than the client does."""
    news = asyncio.create_task(desk.news(since, seconds))
    left = asyncio.create_task(gone(request.receive))
    try:
        await asyncio.wait([news, left], return_when=asyncio.FIRST_COMPLETED)
        if news.done():
            news.result()
    finally:
        for task in (news, left):
            task.cancel()
        await asyncio.gather(news, left, return_exceptions=True)


def _headers(standing: Standing, extent: Extent) -> dict[str, str]:
    source, log = extent.source, standing.log.number
    layout = f"digest={extent.bank.name}; byte-order={source.layout.byte_order}"
    if extent.bank in source.padded:
        layout += "; padded"
    return {
        "ETag": extent.tag,
        "Cache-Control": "private, no-cache",
        "Imarium-Log": str(log),
        "Imarium-From": str(extent.first),
        "Imarium-Next": str(extent.last),
        "Imarium-Records": str(source.records),
        "Imarium-Kept": str(source.kept),
        "Imarium-Closed": "true" if standing.closed else "false",
        "Imarium-Layout": layout,
        "Accept-Ranges": "bytes" if extent.is_kept else "none",
    }


def _next_link(request: Request, extent: Extent, wanted: Wanted) -> dict[str, str]:
    """Where the rest of what was asked for is, if one answer does not hold all."""
    if extent.last >= (extent.source.records if wanted.last is None else min(wanted.last, extent.source.records)):
        return {}
    url = request.url.include_query_params(**{"from": extent.last}).remove_query_params("wait")
    return {"Link": f'<{url.path}?{url.query}>; rel="next"'}


async def _body(desk: Desk, request: Request, extent: Extent, headers: dict[str, str]) -> Response:
    media = extent.form.media_type
    headers = {**headers, "Content-Type": media}
    part = _part(request, extent)
    if part is not None:
        size = extent.size or 0
        headers |= {"Content-Range": part.content_range(size), "Content-Length": str(part.end - part.start)}
        blocks = extent.blocks(part.start, part.end - part.start, piece=piece)
        return Streamed(blocks, HTTPStatus.PARTIAL_CONTENT, headers)
    short = await desk.body(extent)
    if short is not None:
        return Response(short, headers=headers)
    if extent.size is not None:
        headers["Content-Length"] = str(extent.size)
    return Streamed(extent.blocks(piece=piece), HTTPStatus.OK, headers)


def _part(request: Request, extent: Extent) -> ByteRange | None:
    """The range asked for, of a body that can be had in parts. Raises Problem."""
    if not extent.is_kept or extent.size is None:
        return None
    asked, condition = request.headers.get("range"), request.headers.get("if-range")
    try:
        return byte_range(asked, condition, extent.tag, extent.size)
    except Unsatisfiable as error:
        headers = {"Content-Range": f"bytes */{extent.size}"}
        raise Problem(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "no_such_range", str(error), headers) from None
