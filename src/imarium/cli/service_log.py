"""What the service says on standard error: one line for each event, as JSON for programs or as text for people."""

import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Literal, TextIO

import structlog

from imarium.custody import ServiceEvent

__all__ = ["ServiceLog"]

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}
"""Of syslog(3), as sd-daemon(3) has a line begin with them."""


class ServiceLog:
    """Says what happens. For any number of threads.

    Where standard error goes to the journal, each line begins with its priority, as sd-daemon(3) has it.
    """

    def __init__(
        self,
        form: Literal["json", "text"] = "json",
        level: str = "info",
        stream: TextIO | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        stream = stream or sys.stderr
        render = structlog.processors.JSONRenderer() if form == "json" else _as_text
        chain: list[Any] = [structlog.processors.TimeStamper(fmt="iso", utc=True), structlog.processors.add_log_level]
        chain.append(_prioritised(render) if _goes_to_journal(stream, environment) else render)
        self._log: Any = structlog.wrap_logger(
            structlog.PrintLogger(stream),
            processors=chain,
            wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        )

    def event(self, event: ServiceEvent) -> None:
        """Something that a source's thread has to say."""
        document = event.to_document()
        name = str(document.pop("event"))
        document.pop("at")
        self.say(_level(event), name, **document)

    def say(self, level: str, name: str, **facts: object) -> None:
        """Something that the service as a whole has to say."""
        with suppress(OSError, ValueError):  # nobody listens: no reason to stop keeping records
            getattr(self._log, level)(name, **facts)


def _level(event: ServiceEvent) -> str:
    if event.kind == "failed":
        return "error"
    if event.kind == "gap" or (event.result is not None and event.result.verdict == "refused"):
        return "warning"
    result = event.result
    idle = event.kind == "drained" and result is not None and not (result.kept_records or result.freed_records)
    return "debug" if idle else "info"


_Render = Callable[[Any, str, MutableMapping[str, Any]], Any]


def _as_text(_logger: object, _method: str, facts: MutableMapping[str, Any]) -> str:
    """One line for people; what it is about first."""
    said = [f"imarium: {facts.pop('event')}"]
    source, detail = facts.pop("source", None), facts.pop("detail", "")
    result = facts.pop("result", None)
    for name in ("timestamp", "level"):
        facts.pop(name, None)
    if source is not None:
        said.append(str(source))
    if isinstance(result, dict):
        kept, freed = result["kept"]["records"], result["freed"]["records"]
        said.append(f"{result['verdict']}, kept {kept}, freed {freed}")
    if detail:
        said.append(str(detail))
    text = ": ".join(said) + "".join(f" {name}={value}" for name, value in facts.items())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _prioritised(render: _Render) -> _Render:
    def with_priority(logger: object, method: str, facts: MutableMapping[str, Any]) -> str:
        return f"<{_PRIORITIES[facts.get('level', 'info')]}>{render(logger, method, facts)}"

    return with_priority


def _goes_to_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether the stream is the one that systemd has connected to its journal: see systemd.exec(5), JOURNAL_STREAM."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
