"""How an engine begins: with a new life of the registers, or going on from what a suspended engine has left.

The next engine's numbers go on where the last one's ended, so that the positions in the registers keep their meaning.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from imarium import durable
from imarium.engine.anchoring import Anchored
from imarium.engine.kexec import records_in_buffer
from imarium.engine.life import Handover, Life, digest_of_file, read_life, write_life
from imarium.engine.queue import MeasurementQueue
from imarium.errors import RefusedOperation
from imarium.formats import ByteOrder, KexecHeader
from imarium.formats.kexec import KEXEC_HEADER_SIZE

__all__ = ["Start", "hand_over", "start"]

_LOG = logging.getLogger("imarium.engine")


@dataclass(frozen=True, slots=True)
class Start:
    """What an engine begins with. ``first`` is the number of its first record.

    ``begins_list`` is set where no record lies before the engine's own.
    """

    life: Life
    directory: Path
    first: int = 0
    source: Path | None = None
    byte_order: ByteOrder = "little"

    @property
    def begins_list(self) -> bool:
        """Whether the list begins here, so that the registers' values now are those it begins with."""
        return self.source is None

    def restore(self, queue: MeasurementQueue, anchored: Anchored) -> None:
        """Take the records over, and from then on the file cannot be gone on from again. Raises MalformedInput."""
        handover = self.life.handover
        if self.source is not None:
            size = durable.size_of(self.source)
            queue.restore(records_in_buffer(durable.read_blocks(self.source, 0, size), self.byte_order))
            waiting: Mapping[str, int] = {} if handover is None else handover.waiting
            anchored.adopt(waiting, [(number, m.pcr) for number, m in enumerate(queue.current, queue.current.first)])
        write_life(self.directory, self.life.going_on())


def start(directory: Path, source: Path | None, byte_order: ByteOrder) -> Start:
    """What an engine in ``directory`` begins with, going on from ``source`` if there is one.

    Raises RefusedOperation for a file that an engine has gone on from, MalformedInput, MissingComponent.
    """
    left = read_life(directory)
    handover = None if left is None else left.handover
    if source is None:
        if handover is not None:
            _LOG.warning("an engine was suspended here and none has gone on from its file: this one begins a new list")
        return Start(Life.new(), directory, byte_order=byte_order)
    digest = digest_of_file(source)
    if left is not None and digest in left.taken:
        raise RefusedOperation(
            f"{source}: an engine has gone on from this file, and the registers with it; begin anew without --restore"
        )
    if left is None or handover is None or handover.digest != digest:
        _LOG.warning(
            "%s was not left by the last engine here: that the registers stand where it ends is not checked", source
        )
        return Start(Life.new(), directory, 0, source, byte_order)
    head = b"".join(durable.read_blocks(source, 0, KEXEC_HEADER_SIZE))
    return Start(left, directory, handover.end - KexecHeader.decode(head).count, source, byte_order)


def hand_over(
    life: Life,
    directory: Path,
    path: Path,
    blocks: Iterable[bytes],
    queue: MeasurementQueue,
    anchored: Anchored,
) -> None:
    """Write the buffer of an engine that began with ``life`` and, once it is stored, that the next one goes on from it.

    No block is asked for before there is a file to write to. Raises MissingComponent.
    """
    digest = hashlib.sha256()

    def seen() -> Iterator[bytes]:
        for block in blocks:
            digest.update(block)
            yield block

    durable.replace_blocks(path, seen())
    handover = Handover(digest.hexdigest(), queue.current.end, anchored.waiting())
    write_life(directory, replace(life.going_on(), handover=handover))
