"""What libraries say through Python's logging, said as the service says things: one line for each event."""

import logging
from pathlib import Path

from imarium.cli.service_log import ServiceLog

__all__ = ["take_over"]

_LOGGERS = ("uvicorn.error", "imarium.web", "asyncio")


def take_over(log: ServiceLog) -> None:
    """Have ``log`` say what the HTTP server and the event loop have to say; warnings and worse."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [_Saying(log)]
        logger.setLevel(logging.WARNING)
        logger.propagate = False


class _Saying(logging.Handler):
    def __init__(self, log: ServiceLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        facts: dict[str, object] = {"detail": " ".join(record.getMessage().split())}
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            facts["error"] = f"{type(error).__name__}: {error}{_place(error)}"
        self._log.say("error" if record.levelno >= logging.ERROR else "warning", "api", **facts)


def _place(error: BaseException) -> str:
    """Where an error was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno})" if trace is not None else ""
