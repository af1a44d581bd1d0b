"""Making evidence: a quote, and the records it is about."""

from collections.abc import Callable, Collection, Iterator
from typing import Protocol, runtime_checkable

from imarium.errors import RefusedOperation, UsageError
from imarium.formats.evidence import MAX_EVIDENCE, Evidence, ListPart
from imarium.formats.records import ListLayout, encode_record, read_records
from imarium.formats.registers import PcrIndex
from imarium.formats.report_data import report_data
from imarium.formats.roots import ROOT_PARTS, RootPart, quoted_part
from imarium.rot import RootOfTrust

__all__ = ["IndexedView", "LogView", "make_evidence"]

_ATTEMPTS = 4
_BESIDE = 1 << 16
"""Room in evidence for all that is not records, in bytes."""


class LogView(Protocol):
    """One life of the registers at one moment, from its first record to the last the kernel has."""

    @property
    def layout(self) -> ListLayout:
        """The layout of the records."""

    def blocks(self) -> Iterator[bytes]:
        """The binary list, in blocks."""


@runtime_checkable
class IndexedView(LogView, Protocol):
    """A view that does not have to be read from its first record on."""

    def tail(self, first: int) -> tuple[int, Collection[PcrIndex], Iterator[bytes]]:
        """Where to begin for the records from number ``first`` on: at a record that is not behind it.

        Its number, the registers that the records before it name, and the list from it on, in blocks.
        """


def make_evidence(
    rot: RootOfTrust,
    view: Callable[[], LogView],
    *,
    nonce: bytes,
    first: int = 0,
    registers: Collection[str] = (),
) -> Evidence[RootPart]:
    """Evidence over ``nonce`` with the records from number ``first`` on, by any root of trust that evidence knows.

    The quote is made before the records are read, so that no record it covers can be missing; those added since are
    in the evidence too and count as unverified. ``view`` reads the log as it is when called. ``registers`` are quoted
    beside the default one; where a device quotes a selection, so are those that boot_aggregate is taken over and
    every one that a record of the log names. Raises UsageError if the log has not ``first`` records, for a kind
    that evidence has not, and what the device and the view raise.
    """
    kind = ROOT_PARTS.get(rot.kind)
    if kind is None:
        raise UsageError(f"evidence is of kind {', '.join(ROOT_PARTS)}, not {rot.kind}; choose a root of such a kind")
    bound = report_data(nonce) if kind.nonce_hashed else nonce
    wanted = {rot.default_register, *kind.selected, *registers}
    for _ in range(_ATTEMPTS):
        quote = rot.quote(bound, sorted(wanted))
        part, used = _records(view(), first)
        named = {str(register) for register in used} if kind.selected else set()
        if named <= wanted:
            return Evidence(quoted_part(rot.kind, quote.statement, quote.beside, quote.values), part)
        wanted |= named
    raise RefusedOperation("the list goes on using new registers; try again")


def _records(view: LogView, first: int) -> tuple[ListPart, set[PcrIndex]]:
    """The log's records from number ``first`` on, and the registers that any record of it names."""
    begin, named, blocks = view.tail(first) if isinstance(view, IndexedView) else (0, (), view.blocks())
    used = set(named)
    parts: list[bytes] = []
    count, size = begin, 0
    for record in read_records(blocks, view.layout, first=begin):
        count = record.number + 1
        used.add(record.pcr)
        if record.number >= first:
            parts.append(encode_record(record))
            size += record.size
            if size > MAX_EVIDENCE - _BESIDE:
                raise RefusedOperation(
                    f"the records from number {first} on make evidence over {MAX_EVIDENCE} bytes, which no verifier "
                    "accepts; ask with --from N for those after what the verifier has"
                )
    if first > count:
        raise UsageError(f"the log has {count} records; there is no record {first} to begin with")
    return ListPart(first, count - first, view.layout, b"".join(parts)), used
