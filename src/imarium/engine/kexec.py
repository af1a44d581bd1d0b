"""What one engine hands to the next, as one kernel does at kexec: its records, staged before current, in one buffer."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from imarium.engine.measurement import Measurement, list_layout
from imarium.engine.queue import MeasurementQueue
from imarium.errors import MalformedInput
from imarium.formats import ByteOrder, KexecHeader, ListForm, ListKind, Template, encode_record, read_list
from imarium.formats.kexec import KEXEC_HEADER_SIZE
from imarium.formats.lists import peek
from imarium.hashes import SHA1

__all__ = ["MOST_TEMPLATES", "kexec_buffer", "kexec_event", "records_in_buffer", "segment_size"]

_AT_ONCE = 1024
_PAGE = 4096
_EXTRA = _PAGE // 2
"""Room for what is measured between load and execute (CONFIG_IMA_KEXEC_EXTRA_MEMORY_KB=0)."""


MOST_TEMPLATES = 1024
"""Templates that the records of one buffer may have. A kernel has eight, and one of its command line."""


def segment_size(queue: MeasurementQueue) -> int:
    """How large a kernel makes the next one's segment for the records that are there, in bytes."""
    needed = queue.current.size + queue.staged.size + KEXEC_HEADER_SIZE + _EXTRA
    return -(-needed // _PAGE) * _PAGE


def kexec_event(queue: MeasurementQueue, segment: int) -> bytes:
    """The text of the critical data ``kexec_load`` and ``kexec_execute``.

    Size and count are of all records since the start, staged and deleted ones included.
    """
    size, count = queue.full_size + KEXEC_HEADER_SIZE, queue.counts.full
    return b"kexec_segment_size=%d;ima_binary_runtime_size=%d;ima_runtime_measurements_count=%d;" % (
        segment,
        size,
        count,
    )


def kexec_buffer(queue: MeasurementQueue) -> Iterator[bytes]:
    """The buffer of a suspended queue, in blocks."""
    size = KEXEC_HEADER_SIZE + sum(map(len, _records(queue)))
    count = len(queue.staged) + len(queue.current)
    return _blocks(KexecHeader(size, count, queue.byte_order).encode(), _records(queue))


def _records(queue: MeasurementQueue) -> Iterator[bytes]:
    for measurement in chain(queue.staged, queue.current):
        yield encode_record(measurement.record(0, SHA1))


def _blocks(head: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    while block := b"".join(islice(pieces, _AT_ONCE)):
        yield block


def records_in_buffer(blocks: Iterable[bytes], byte_order: ByteOrder) -> Iterator[Measurement]:
    """The measurements in a buffer, each checked before it is handed out.

    A record whose template digest is not the one its data gives is refused: it was not written by an engine. Raises
    MalformedInput.
    """
    head, blocks = peek(blocks, KEXEC_HEADER_SIZE)
    if (order := KexecHeader.decode(head).byte_order) != byte_order:
        raise MalformedInput("kexec buffer", offset=0, expected=f"{byte_order}-endian numbers", found=order)
    templates: set[Template] = set()
    for record in read_list(blocks, ListForm(ListKind.KEXEC, list_layout(SHA1, byte_order))):
        if not record.digest_is_good:
            raise MalformedInput(
                "kexec buffer",
                offset=record.offset,
                expected=f"record {record.number} with the template digest that its data gives",
                found=record.template_digest.hex(),
            )
        templates.add(record.template)
        if len(templates) > MOST_TEMPLATES:
            raise MalformedInput(
                "kexec buffer",
                offset=record.offset,
                expected=f"records of no more than {MOST_TEMPLATES} templates",
                found=repr(record.template.name),
            )
        _ = record.fields
        yield Measurement(record.pcr, record.template, record.data, record.is_violation, byte_order)
