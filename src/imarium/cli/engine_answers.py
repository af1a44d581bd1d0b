"""What a running engine answers, for ``imarium engine``; docs/engine.md has the requests."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from imarium.engine import Answer, Engine, EngineStatus, LaneStatus
from imarium.errors import UsageError

__all__ = ["answers", "status_document"]


def answers(engine: Engine, end: Callable[[], None]) -> Answer:
    """What answers requests; ``end`` has the engine end after the answer."""

    def answer(request: Mapping[str, object]) -> Mapping[str, object]:
        match request.get("command"):
            case "status":
                return status_document(engine.status())
            case "measure":
                return {"files": [_measured(engine, path) for path in _texts(request, "paths")]}
            case "critical_data":
                label, name, data = (_text(request, key) for key in ("label", "name", "data"))
                done = engine.measure_critical_data(os.fsencode(label), os.fsencode(name), _bytes(data))
                return {"recorded": done}
            case "suspend":
                path = Path(_text(request, "path"))
                count = engine.suspend_to(path)
                if not request.get("stay"):
                    end()
                return {"handed_over": count, "path": str(path), **status_document(engine.status())}
            case "stop":
                end()
                return status_document(engine.status())
            case _:
                raise UsageError("unknown command; known are status, measure, critical_data, suspend, stop")

    return answer


def status_document(status: EngineStatus) -> dict[str, object]:
    """The status as a JSON document."""
    counts = status.counts
    return {
        "life": status.life,
        "records": {"current": counts.current, "staged": counts.staged, "full": counts.full},
        "violations": status.violations,
        "problems": status.problems,
        "suspended": status.suspended,
        "bypass": status.bypass,
        "registers": [_register(each) for each in status.registers],
    }


def _register(status: LaneStatus) -> dict[str, object]:
    return {
        "root": status.root,
        "register": status.register,
        "records": status.records,
        "waiting": status.waiting,
        "lost": status.lost,
        "initial": {bank.name: value.hex() for bank, value in status.initial.items()},
        "error": status.error and f"{status.error.name}: {status.error.detail}",
    }


def _measured(engine: Engine, path: str) -> dict[str, object]:
    return {"path": path, "recorded": engine.measure_file(Path(path))}


def _text(request: Mapping[str, object], key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str) or not value or "\0" in value:
        raise UsageError(f"{key} must be a text")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise UsageError(f"{key} must be a text") from None
    return value


def _texts(request: Mapping[str, object], key: str) -> list[str]:
    value = request.get(key)
    if not isinstance(value, list):
        raise UsageError(f"{key} must be a list of texts")
    return [_text({key: each}, key) for each in value]


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UsageError("data must be hexadecimal") from None
