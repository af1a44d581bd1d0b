"""A client's connection: cut when its request does not come, or when it takes nothing of its answer."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from imarium.web.limits import Limits

__all__ = ["connection_class"]


def connection_class(limits: Limits) -> type[H11Protocol]:
    """The protocol of connections under ``limits``."""

    class Connection(H11Protocol):
        _head: asyncio.TimerHandle | None = None
        _stall: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - as in the class above
            super().connection_made(transport)
            self._watch_head()

        def connection_lost(self, exc: Exception | None) -> None:
            _cancel(self._head)
            _cancel(self._stall)
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch_head()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stall = self.loop.call_later(limits.stall, self.transport.abort)

        def resume_writing(self) -> None:
            _cancel(self._stall)
            self._stall = None
            super().resume_writing()

        def _watch_head(self) -> None:
            """Have the head of a request arrive in time, from its first byte on, and the first from the start."""
            if self.conn.their_state is not h11.IDLE:
                _cancel(self._head)
                self._head = None
            elif self._head is None and not self.transport.is_closing():
                self._head = self.loop.call_later(limits.head_seconds, self.transport.abort)

    return Connection


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
