"""An answer of any length, a block at a time."""

import asyncio
import logging
from collections.abc import Generator, Mapping
from http import HTTPStatus

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from imarium.errors import ImariumError

__all__ = ["Streamed", "gone"]

_LOG = logging.getLogger(__name__)


class Streamed(Response):
    """Sends ``blocks``, each made in a thread when the client has room for it, until the client goes away.

    An error on the way can only be shown by an answer that breaks off; the service's log has it.
    """

    def __init__(self, blocks: Generator[bytes, None, None], status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self._blocks = blocks
        self.status_code = status
        self.background = None
        self.init_headers(headers)

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        left = asyncio.create_task(gone(receive))
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
            left.cancel()
            await asyncio.to_thread(self._blocks.close)


async def gone(receive: Receive) -> None:
    """Wait until the client goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass
