"""Whether the kernel's list continues a log, and where; or begins a new one.

With registers that can be read this is proved: the way of reading is taken in which replay reaches them. Only where
there is none do content, the journal, the boot id and the TPM's reset count decide, and the result is called unproven;
it is refused if registers proved the log before.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from imarium.chain import ChainState, RegisterValues
from imarium.custody.listing import Listing, layout_of, survey
from imarium.custody.log import Log
from imarium.custody.meta import LogStart
from imarium.custody.overlap import overlaps
from imarium.custody.proof import UNTIL_RESET, Proof, ReadRegisters, banks_of, prove
from imarium.custody.source import Lists, read_all
from imarium.formats.records import ListLayout
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.hashes import SHA1, HashAlgorithm

__all__ = ["Continuity", "Verdict", "decide", "look", "registers_named"]

Verdict = Literal["proven", "unproven", "refused"]
"""``proven`` by registers; ``unproven`` as no register can be read; ``refused`` as the registers say otherwise."""


@dataclass(frozen=True, slots=True)
class Continuity:
    """How a kernel list is to be kept.

    ``log`` is the log it continues, None if it begins a new one. ``overlap`` is how many bytes of it that log has
    already. ``state`` is the replay up to the log's end, None if its start is unknown. ``start`` and ``padded`` are
    for the new log. ``reason`` is one line, ``registers`` are those that prove it. ``unread`` says that it is refused
    only because those that proved the log before cannot be read.
    """

    log: Log | None
    overlap: int
    state: ChainState | None
    layout: ListLayout
    padded: frozenset[HashAlgorithm]
    start: LogStart
    verdict: Verdict
    reason: str
    registers: tuple[PcrIndex, ...] = ()
    unread: bool = False


def registers_named(log: Log | None, *lists: Listing) -> frozenset[PcrIndex]:
    """The registers that records of the log or the kernel's lists name, and IMA's own."""
    noted = log.noted_state if log else None
    return frozenset({IMA_PCR}).union(noted.values if noted else (), *(listing.registers for listing in lists))


def look(
    log: Log | None,
    lists: Lists,
    registers: ReadRegisters,
    boot_id: str,
    *,
    reset: bool | None = None,
    recheck: bool = False,
) -> tuple[Continuity, Listing]:
    """All that the kernel has, and how to keep it: see :func:`decide`. Raises as it, and what ``registers`` raises."""

    def read() -> Iterator[bytes]:
        return read_all(lists)

    layout = log.layout if log else layout_of(read)
    values = registers(registers_named(log, survey(read, layout)))
    kernel = survey(read, layout)
    return decide(log, kernel, values, boot_id, reset=reset, recheck=recheck), kernel


def decide(
    log: Log | None,
    kernel: Listing,
    values: RegisterValues,
    boot_id: str,
    *,
    reset: bool | None = None,
    recheck: bool = False,
) -> Continuity:
    """How to keep ``kernel``, all that the kernel has, staged and current. ``log`` is the newest log.

    ``values`` were read before the end of ``kernel``. ``reset`` says whether the registers were reset since the log was
    written, None if that is not known; what they hold goes before it. The log is taken up where its journal ends; with
    ``recheck``, and when no register is reached so for the first time, it is replayed from its first byte.

    Raises MalformedRecord for a kernel list that cannot be read, and MalformedInput for a log that is not what its
    journal says.
    """
    found = _continues(log, kernel, values, _Life(boot_id, reset), recheck) if log else None
    if found is not None and found.verdict != "refused":
        return found
    layout = log.layout if log and not kernel.size else layout_of(kernel.read)
    fresh = _begins(kernel, values, layout)
    return fresh if found is None or fresh.verdict == "proven" else found


@dataclass(frozen=True, slots=True)
class _Life:
    """What is known of the kernel's life without its records."""

    boot_id: str
    reset: bool | None

    def goes_on(self, log: Log) -> bool:
        """Whether it is that of the log's end."""
        return not self.reset and (log.boot_id == self.boot_id or self.reset is False)


def _continues(log: Log, kernel: Listing, values: RegisterValues, life: _Life, recheck: bool) -> Continuity | None:
    """The kernel list as a continuation of ``log``; None if nothing speaks for it."""
    padded = log.meta.padded
    banks = banks_of(values)
    state = log.end_state(banks) if recheck else log.resumed_state(banks)
    known = values if state else {}
    doubt = "" if state else f"where log {log.number:04} begins is unknown, so no register proves it; {UNTIL_RESET}"
    by_content: int | None = None
    readable = False
    for overlap in overlaps(log, kernel):
        proof = _proof(kernel.blocks(overlap), log.layout, state or ChainState(log.records), known, padded)
        readable = readable or proof.readable
        if kernel.size and log.boot_id != life.boot_id and not log.rebuilt and not proof.kernels:
            continue  # another kernel's list has its own boot aggregate behind what was carried over
        if proof.reached:
            return Continuity(log, overlap, state, log.layout, padded, "reset", "proven", *_proved_by(proof))
        if life.reset and not proof.readable:
            continue  # whatever the lists have in common, the registers begin anew
        assumed = not proof.readable and _goes_on(log, life, proof) and overlap in log.expected_overlaps
        if by_content is None and (overlap or not kernel.size or assumed):
            by_content = overlap
            doubt = doubt or proof.doubt()
        if by_content is not None and not known:
            break  # no other place could be proved
    refused = log.refusal
    if readable and not recheck and (refused is None or (refused.boot_id, refused.detail) != (life.boot_id, doubt)):
        log.end_state(banks)  # as it was not yet when it was last found so, for this reason
    if by_content is None:
        return None
    unread = not readable and not doubt and bool(log.proved_by)
    if unread:
        doubt = _vanished(log.proved_by)
    verdict: Verdict = "refused" if doubt else "unproven"
    reason = doubt or "no register can be read; content and the journal decided"
    return Continuity(log, by_content, state, log.layout, padded, log.meta.start, verdict, reason, unread=unread)


def _goes_on(log: Log, life: _Life, proof: Proof) -> bool:
    """Whether the log may be taken to go on where nothing overlaps: as far as is known, nothing is missing there.

    A boot aggregate comes first where what makes the list was started anew; in one and the same kernel that is another
    life, as of an engine.
    """
    anew = log.boot_id == life.boot_id and log.records > 0 and proof.kernels[:1] == (log.records,)
    return life.goes_on(log) and not log.broken and not anew


def _begins(kernel: Listing, values: RegisterValues, layout: ListLayout) -> Continuity:
    """The kernel list as the beginning of a new log."""
    padded: frozenset[HashAlgorithm] = frozenset()
    proof = _proof(kernel.blocks(), layout, ChainState(), values, padded)
    if proof.readable and not proof.reached and SHA1 not in proof.missed_banks:
        again = _proof(kernel.blocks(), layout, ChainState(), values, proof.missed_banks)
        if again.reached:
            proof, padded = again, proof.missed_banks
    if proof.reached:
        return Continuity(None, 0, ChainState(), layout, padded, "reset", "proven", *_proved_by(proof))
    at_start = 0 in proof.kernels
    verdict: Verdict = "refused"
    if not at_start:
        reason = (
            "the kernel's list continues no log and has no boot aggregate: records are missing or were not extended; "
            f"{UNTIL_RESET}"
        )
    elif proof.readable:
        reason = proof.doubt()
    else:
        verdict, reason = "unproven", "no register can be read; the list begins with a boot aggregate"
    start: LogStart = "reset" if at_start else "unknown"
    return Continuity(None, 0, ChainState() if at_start else None, layout, padded, start, verdict, reason)


def _proof(
    new: Iterable[bytes],
    layout: ListLayout,
    start: ChainState,
    values: RegisterValues,
    padded: frozenset[HashAlgorithm],
) -> Proof:
    return prove(new, (), layout, start=start, values=values, padded=padded)


def _proved_by(proof: Proof) -> tuple[str, tuple[PcrIndex, ...]]:
    return f"replay reaches register {_numbers(proof.registers)}", proof.registers


def _vanished(registers: tuple[PcrIndex, ...]) -> str:
    return (
        f"register {_numbers(registers)} proved this log before and cannot be read now; name the TPM of a source that "
        "is not the kernel's own with --tcti, or tcti in a configuration; for the kernel's, see that the TPM's driver "
        "is loaded; then run again (or restart: a reset begins a new log)"
    )


def _numbers(registers: tuple[PcrIndex, ...]) -> str:
    return ", ".join(map(str, registers))
