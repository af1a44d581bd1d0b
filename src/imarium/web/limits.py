"""What a client may ask of the service at most, and the part that holds it to that before a request is looked at."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from imarium.web.problems import Problem, problem_response

__all__ = ["Guard", "Limits"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds, the rest in numbers.

    ``records`` is for one answer that is copied from the kept list, ``made`` for one that has to be made (text, JSON,
    another bank); a client gets the rest with its next request. ``waiters`` wait for new records at once, ``quotes``
    for the root of trust, ``replays`` for registers that have to be replayed from the log's beginning. ``held`` is how
    many bytes of the kernel's records and of evidence all answers under way may hold before no more are read or made.
    ``stall`` is how long a client may take nothing of its answer.
    """

    connections: int = 4096
    requests: int = 4096
    waiters: int = 2048
    wait: float = 60.0
    records: int = 1 << 20
    made: int = 1 << 16
    quotes: int = 16
    replays: int = 4
    held: int = 1 << 28
    head: int = 1 << 14
    head_seconds: float = 10.0
    body: int = 1 << 14
    body_seconds: float = 10.0
    idle: float = 30.0
    stall: float = 30.0


class Guard:
    """ASGI middleware: refuses what is too much, too large or too slow. Answers are problem details."""

    def __init__(self, app: App, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._requests = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._requests >= self._limits.requests:
            problem = Problem(
                HTTPStatus.SERVICE_UNAVAILABLE, "too_many_requests", "too many requests at once; try again"
            )
            await problem_response(problem)(scope, receive, send)
            return
        self._requests += 1
        try:
            body = await self._body(scope, receive)
            await self._app(scope, _replayed(body, receive), send)
        except Problem as problem:
            await problem_response(problem)(scope, receive, send)
        finally:
            self._requests -= 1

    async def _body(self, scope: MutableMapping[str, Any], receive: Receive) -> bytes:
        """The request's body, which is short. Raises Problem."""
        sizes = [value for name, value in scope["headers"] if name == b"content-length"]
        chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
        if not chunked and (not sizes or sizes == [b"0"]):
            return b""
        if any(not size.isdigit() or int(size) > self._limits.body for size in sizes):
            raise self._too_large()
        body = b""
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    part: bytes = message.get("body", b"")
                    body += part
                    if len(body) > self._limits.body:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return body
        except TimeoutError:
            detail = f"the request took longer than {self._limits.body_seconds:g} seconds to arrive"
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, "too_slow", detail, {"Connection": "close"}) from None

    def _too_large(self) -> Problem:
        detail = f"a request has at most {self._limits.body} bytes"
        return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", detail, {"Connection": "close"})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What hands out a body that has been read, and then waits for the client to go away."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return message

    return replay
