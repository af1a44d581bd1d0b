"""An answer of any length, a block at a time."""

import asyncio
import contextlib
import logging
from collections.abc import Generator, Mapping
from http import HTTPStatus
from typing import ClassVar

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from imarium.errors import ImariumError

__all__ = ["Streamed", "gone", "piece"]

_LOG = logging.getLogger(__name__)


_FEW = 64
_PIECE_FOR_FEW, _PIECE_FOR_MANY = 1 << 22, 1 << 15


def piece() -> int:
    """How many bytes to read for one answer in one go: little where many are under way, as each holds what it read."""
    return _PIECE_FOR_FEW if Streamed.under_way <= _FEW else _PIECE_FOR_MANY


class Streamed(Response):
    """Sends ``blocks``, each made in a thread when the client has room for it, until the client goes away.

    An error on the way can only be shown by an answer that breaks off; the service's log has it.
    """

    under_way: ClassVar[int] = 0
    """How many are being sent."""

    def __init__(self, blocks: Generator[bytes, None, None], status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self._blocks = blocks
        self.status_code = status
        self.background = None
        self.init_headers(headers)

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        left = asyncio.create_task(gone(receive))
        Streamed.under_way += 1
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while not left.done():
                block = await asyncio.to_thread(next, self._blocks, None)
                more = block is not None
                await send({"type": "http.response.body", "body": block or b"", "more_body": more})
                if not more:
                    return
        except ImariumError as error:
            _LOG.warning("an answer broke off: %s", error)
        finally:
            Streamed.under_way -= 1
            left.cancel()
            with contextlib.suppress(ValueError):  # a block is being made: it ends with it, as no one asks for more
                await asyncio.to_thread(self._blocks.close)


async def gone(receive: Receive) -> None:
    """Wait until the client goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass
