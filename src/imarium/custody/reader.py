"""Reading custody: what is kept, and what is still in the kernel behind it."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imarium.chain import ChainState
from imarium.custody.continuity import Verdict, look
from imarium.custody.log import Log
from imarium.custody.proof import ReadRegisters, no_registers
from imarium.custody.source import Source
from imarium.custody.store import Store
from imarium.errors import RefusedOperation, UsageError
from imarium.formats.records import ListLayout
from imarium.formats.registers import PcrIndex
from imarium.hashes import SHA1, SHA256, HashAlgorithm

__all__ = ["Custody", "TooMuchPending", "Whole"]


class TooMuchPending(RefusedOperation):
    """The kernel has more that is not kept yet than the caller wants to hold in memory."""

    code = "too_much_pending"


@dataclass(frozen=True, slots=True)
class Whole:
    """One life of the registers at one moment: the kept records and those still in the kernel behind them.

    ``log`` is None if nothing of this life is kept yet; then ``pending`` is all of it. ``records`` is how many are
    kept, in ``size`` bytes; ``pending`` are the bytes of the records from that number on. ``verdict`` and ``reason``
    say on what grounds the one continues the other.
    """

    log: Log | None
    layout: ListLayout
    records: int
    size: int
    pending: bytes
    verdict: Verdict
    reason: str

    def blocks(self, first: int = 0) -> Iterator[bytes]:
        """The binary list from record ``first`` on, which must be kept or the first pending. Raises UsageError."""
        if self.log is not None:
            yield from self.log.blocks(self.log.offset_of(first), self.size)
        yield self.pending

    def tail(self, first: int) -> tuple[int, Collection[PcrIndex], Iterator[bytes]]:
        """Where to begin for the records from number ``first`` on: at that one if it is kept.

        Its number, the registers that the records before it name, and the binary list from it on.
        """
        begin = min(max(first, 0), self.records)
        if self.log is None or self.log.meta.start == "unknown":
            return 0, (), self.blocks()  # what those before it name is learned by reading them
        return begin, self.log.state_at(begin, (SHA1,)).values, self.blocks(begin)

    def state_at(self, number: int, banks: Iterable[HashAlgorithm] = (SHA1, SHA256)) -> ChainState:
        """The registers after ``number`` kept records. Raises UsageError, RefusedOperation."""
        if self.log is not None:
            return self.log.state_at(number, banks)
        if number:
            raise UsageError(f"nothing is kept yet, so there is no record {number - 1} to begin behind")
        return ChainState()


class Custody:
    """Reads a store, for the attester. Opening raises as :class:`Store`."""

    def __init__(self, path: Path, *, patience: float = 10.0) -> None:
        self.store = Store(path, patience=patience)

    def log(self, number: int | None = None) -> Log:
        """A log by number, or the newest. Raises MissingComponent, UsageError, MalformedInput."""
        return self.store.log(number)

    def whole(
        self,
        source: Source,
        *,
        boot_id: str,
        registers: ReadRegisters = no_registers,
        recheck: bool = True,
        known: Log | None = None,
        most: int | None = None,
    ) -> Whole:
        """What is kept, and what the kernel has behind it, without draining.

        The store is locked meanwhile so that no run of custody can come between. With ``recheck`` all kept records are
        replayed, so that none that was changed becomes evidence; without, only the last bytes that the journal noted
        are compared, and a verifier finds out the rest. ``known`` is the newest log if the caller has it open.
        ``most`` is how many bytes that are not kept yet may be read into memory, any number unless given. Raises
        StoreBusy, TooMuchPending, the source's errors, MalformedInput.
        """
        with self.store.lock(shared=True), source.snapshot() as lists:
            is_newest = known is not None and known.number == max(self.store.numbers, default=-1)
            log = known.refreshed() if known is not None and is_newest else self.store.newest()
            found, kernel = look(log, lists, registers, boot_id, recheck=recheck)
            size = kernel.size - found.overlap
            if most is not None and size > most:
                raise TooMuchPending(
                    f"the kernel has {size} bytes of records that are not kept yet, over {most}; drain first, then "
                    "ask again"
                )
            pending = b"".join(kernel.blocks(found.overlap))
        records, size = (found.log.records, found.log.bytes) if found.log is not None else (0, 0)
        return Whole(found.log, found.layout, records, size, pending, found.verdict, found.reason)
