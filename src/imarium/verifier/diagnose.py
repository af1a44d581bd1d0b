"""Why a list does not lead to the attested values: looking for the one change that explains it.

An aid for people, after the verdict: a hash chain says that something is wrong, not what. Every explanation offered
has been tried: with it, the list leads to the attested value. The search is bounded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from imarium.chain import violation_digest
from imarium.hashes import HashAlgorithm
from imarium.verifier.result import Reason

__all__ = ["Link", "explain"]

MAX_HASHES = 4_000_000
"""How many extends the search may compute: a few seconds."""


@dataclass(frozen=True, slots=True)
class Link:
    """One record in one register's chain: its number, and the digest its data gives."""

    record: int
    digest: bytes
    is_violation: bool

    def extended(self, bank: HashAlgorithm) -> bytes:
        """What the record extends."""
        return violation_digest(bank) if self.is_violation else self.digest


def explain(links: Sequence[Link], bank: HashAlgorithm, start: bytes, target: bytes) -> Reason | None:
    """The single change of the list after which it leads from ``start`` to ``target``; None where none was found.

    Tried are: a record too many, two neighbours in the wrong order, and a measurement passed off as a violation.
    """
    construct = bank.constructor()
    digests = [link.extended(bank) for link in links]
    budget = MAX_HASHES
    value = start
    for index, link in enumerate(links):
        rest = digests[index:]
        for reason, tail in _changes(link, links[index + 1 :][:1], rest):
            budget -= len(tail)
            if budget < 0:
                return None
            trial = value
            for digest in tail:
                trial = construct(trial + digest).digest()
                if trial == target:
                    return reason
        value = construct(value + rest[0]).digest()
    return None


def _changes(link: Link, following: Sequence[Link], rest: list[bytes]) -> Iterator[tuple[Reason, list[bytes]]]:
    number = link.record
    yield Reason("record_added", f"the list leads to the attested value without record {number}", number), rest[1:]
    if link.is_violation:
        detail = f"the list leads to the attested value if record {number} is no violation: its digest was zeroed"
        yield Reason("template_digest_altered", detail, number), [link.digest, *rest[1:]]
    if following:
        other = following[0].record
        detail = f"the list leads to the attested value with records {number} and {other} the other way round"
        yield Reason("record_order", detail, number), [rest[1], rest[0], *rest[2:]]
