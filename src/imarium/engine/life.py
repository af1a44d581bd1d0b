"""The file that ties an engine to the one before it: which life of the registers this is, and what was handed over.

A restored engine goes on with the life of the one that was suspended; any other begins a new life, as a kernel that
was not started by kexec.
"""

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from imarium import durable, locks
from imarium.errors import MalformedInput, MissingComponent

__all__ = ["Handover", "Life", "digest_of_file", "locked", "read_life", "wait_until_ended", "write_life"]

_FILE = "life.json"
_LOCK = "engine.lock"
_MAX = 1 << 16
_REMEMBERED = 256
_TYPE, _VERSION = "imarium-engine-life", 1


@dataclass(frozen=True, slots=True)
class Handover:
    """What a suspended engine left: the buffer's SHA-256 ``digest``, and the number of the record after the last.

    ``waiting`` says how many of the last records each register that lagged was without.
    """

    digest: str
    end: int
    waiting: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Life:
    """One life of the registers, from the start of an engine over any number of handovers.

    ``handover`` is one that no engine has gone on from, ``taken`` has the digests of the last ones that were.
    """

    name: str
    handover: Handover | None = None
    taken: tuple[str, ...] = ()

    def going_on(self) -> "Life":
        """The life once an engine has gone on from its handover."""
        gone = () if self.handover is None else (self.handover.digest,)
        return replace(self, handover=None, taken=(*self.taken, *gone)[-_REMEMBERED:])

    @classmethod
    def new(cls) -> "Life":
        """A life that no other has the name of."""
        return cls(secrets.token_hex(16))


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Make the directory and keep others out of it. Raises MissingComponent where an engine has it already."""
    durable.create_directory(directory)
    busy = MissingComponent(f"{directory}: an engine is running here; stop it, or give another directory with --state")
    with locks.locked(directory / _LOCK, busy=busy):
        yield


def wait_until_ended(directory: Path) -> None:
    """Wait until no engine has the directory any more. Raises MissingComponent where that cannot be told."""
    with locks.locked(directory / _LOCK):
        return


def read_life(directory: Path) -> Life | None:
    """What is written there; None where nothing is. Raises MissingComponent, MalformedInput."""
    path = directory / _FILE
    if not path.exists():
        return None
    data = b"".join(durable.read_blocks(path, 0, min(durable.size_of(path), _MAX)))
    try:
        document = json.loads(data)
        given = document["handover"]
        handover = given and Handover(
            str(given["digest"]),
            int(given["end"]),
            {str(key): int(count) for key, count in given["waiting"].items()},
        )
        known = (document["type"], document["version"]) == (_TYPE, _VERSION)
        life = Life(str(document["life"]), handover, tuple(map(str, document["taken"])))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise _malformed(path) from error
    if not known:
        raise _malformed(path)
    return life


def write_life(directory: Path, life: Life) -> None:
    """Put it in place of what was there, durably. Raises MissingComponent."""
    handover = life.handover and {
        "digest": life.handover.digest,
        "end": life.handover.end,
        "waiting": dict(life.handover.waiting),
    }
    document = {"type": _TYPE, "version": _VERSION, "life": life.name, "handover": handover, "taken": life.taken}
    durable.replace_unread(directory / _FILE, json.dumps(document).encode())


def digest_of_file(path: Path) -> str:
    """The SHA-256 digest of a file's content. Raises MissingComponent."""
    digest = hashlib.sha256()
    for block in durable.read_blocks(path, 0, durable.size_of(path)):
        digest.update(block)
    return digest.hexdigest()


def _malformed(path: Path) -> MalformedInput:
    found = "something else; remove it to begin anew"
    return MalformedInput(str(path), offset=0, expected="what an engine writes", found=found)
