"""Why the records do not lead to the attested values, as far as it can be told, and which records were altered."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from imarium.chain import (
    ChainState,
    CounterTrail,
    RegisterValues,
    ReplayResult,
    explain_counters,
    violation_digest,
)
from imarium.formats.fields import hash_input
from imarium.formats.registers import PcrIndex
from imarium.formats.templates import template
from imarium.hashes import HashAlgorithm
from imarium.verifier.diagnose import Link, explain, leads_to
from imarium.verifier.listed import ListedRecords
from imarium.verifier.reason import Reason

__all__ = ["MAX_REASONS", "Replayed", "check_digests", "check_match"]

MAX_REASONS = 100
"""Most records that are named one by one; beyond that they are summed up in one reason."""

_SHOWN_INTERVALS = 5


@dataclass(frozen=True, slots=True)
class Replayed:
    """Records, the values they have to lead to, and what their replay from ``start`` found."""

    listed: ListedRecords
    attested: RegisterValues
    start: ChainState
    result: ReplayResult

    @property
    def missed(self) -> list[tuple[PcrIndex, HashAlgorithm]]:
        """The registers and banks whose value was never reached."""
        covered = self.result.matches.covered
        return [(pcr, bank) for pcr, banks in covered.items() for bank, hit in banks.items() if hit is None]

    def links(self, bank: HashAlgorithm) -> Iterator[Link]:
        """Every record as a link of its register's chain."""
        frames = chain.from_iterable(self.listed.frames())
        for number, (pcr, stored, name, data) in enumerate(frames, self.listed.part.first):
            found = template(name)
            assert found is not None  # noqa: S101 - the framer has looked it up
            yield Link(number, PcrIndex(pcr), bank.digest(hash_input(found, data)), not any(stored))

    def stored_digests(self, pcr: PcrIndex) -> Iterator[bytes]:
        """What the register was extended with if the list's template digests are right."""
        column = self.listed.part.layout.digest
        ones, zero = violation_digest(column), bytes(column.size)
        for register, stored, _, _ in chain.from_iterable(self.listed.frames()):
            if register == pcr:
                yield ones if stored == zero else stored


def check_match(replayed: Replayed) -> list[Reason]:
    """The list leads to the attested values: a reason where it does not, with an explanation where there is one.

    Nothing where altered records alone explain it: those :func:`check_digests` names.
    """
    if replayed.result.matches.prefix is not None:
        return []
    missed = replayed.missed
    if not missed:
        return [Reason("registers_disagree", "the attested values of the registers belong to different moments")]
    if not replayed.listed.count:
        detail = "the evidence has no records, but a register was extended: ask again from where the state ends"
        return [Reason("list_empty", detail)]
    if replayed.result.bad_digests:
        return [] if _altered_only(replayed) else [_missing(replayed)]
    pcr, bank = missed[0]
    reached = [other.name for other, hit in replayed.result.matches.covered[pcr].items() if hit is not None]
    if reached:
        detail = (
            f"register {pcr} is what the list leads to in the {', '.join(reached)} bank, not in the {bank.name} bank: "
            "something extended one of them alone"
        )
        return [Reason("banks_disagree", detail)]
    found = explain(replayed.links(bank), pcr, bank, replayed.start.value(pcr, bank), replayed.attested[pcr][bank])
    return [found or _missing(replayed)]


def _altered_only(replayed: Replayed) -> bool:
    """Whether the template digests as they stand in the list lead to the attested values: only data was altered.

    True also where the quote does not cover the bank of these digests, so that nothing can be said.
    """
    column = replayed.listed.part.layout.digest
    pcrs = [pcr for pcr, bank in replayed.missed if bank == column]
    return all(
        leads_to(
            column,
            replayed.start.value(pcr, column),
            replayed.stored_digests(pcr),
            replayed.attested[pcr][column],
        )
        for pcr in pcrs
    )


def _missing(replayed: Replayed) -> Reason:
    pcr, bank = replayed.missed[0]
    where = "from the state on " if replayed.start.records else ""
    detail = (
        f"no prefix of the list leads {where}to the attested value of register {pcr} in the {bank.name} bank: records "
        "are missing or were replaced, or something else extended the register"
    )
    return Reason("records_missing", detail + _counted(replayed))


def _counted(replayed: Replayed) -> str:
    """Where the update counters in the list say that records can be missing: a part of a sentence, or nothing."""
    trail = CounterTrail(replayed.listed.part.layout, replayed.listed.part.first)
    for frames in replayed.listed.frames():
        trail.feed(frames)
    intervals = explain_counters(trail, replayed.result, replayed.attested)
    found = [
        f"between records {each.first} and {each.last} (up to {each.missing[1]})"
        for each in intervals
        if each.verdict in {"missing", "missing_or_other"}
    ]
    if not found:
        return ""
    return f"; the update counters allow for missing ones {', '.join(found[:_SHOWN_INTERVALS])}"


def check_digests(result: ReplayResult) -> list[Reason]:
    """Every template digest is the one its data gives.

    Whether the list still leads to the attested values tells which half of the record was altered.
    """
    if result.matches.prefix is not None:
        code, what = (
            "template_digest_altered",
            "the data is proved by the quote, the template digest is not the one it gives",
        )
    else:
        code, what = (
            "record_altered",
            "the template digest is not the one the data gives, and the quote does not prove the data",
        )
    bad = result.bad_digests
    reasons = [Reason(code, f"record {number}: {what}", number) for number in bad[:MAX_REASONS]]
    if len(bad) > MAX_REASONS:
        reasons.append(Reason(code, f"and {len(bad) - MAX_REASONS} more records"))
    return reasons
