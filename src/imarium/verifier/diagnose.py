"""Why a list does not lead to the attested values: looking for the one change that explains it.

An aid for people, after the verdict: a hash chain says that something is wrong, not what. Every explanation offered
has been tried: with it, the list leads to the attested value. The search is bounded.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from imarium.chain import extend, violation_digest
from imarium.formats.registers import PcrIndex
from imarium.hashes import HashAlgorithm
from imarium.verifier.reason import Reason

__all__ = ["WINDOW", "Link", "explain", "leads_to"]

WINDOW = 1500
"""How many of the last records are searched. Trying a change costs an extend for each record behind it."""

_PAIR_HASHES = 2_000_000
"""How many extends may go into trying records that are not neighbours in each other's place."""


@dataclass(frozen=True, slots=True)
class Link:
    """A record of the list: its number, its register, and the digest its data gives in the bank at hand."""

    record: int
    pcr: PcrIndex
    digest: bytes
    is_violation: bool

    def extended(self, bank: HashAlgorithm) -> bytes:
        """What the record extends."""
        return violation_digest(bank) if self.is_violation else self.digest


def explain(links: Iterable[Link], pcr: PcrIndex, bank: HashAlgorithm, start: bytes, target: bytes) -> Reason | None:
    """The single change of the list after which it leads register ``pcr`` from ``start`` to ``target``; or None.

    ``links`` are the records of every register. Tried are, from the list's end back: a record too many, two records in
    each other's place (neighbours, in short lists any two), a measurement passed off as a violation, and a record
    with another register in it.
    """
    search = _Search(bank, pcr, target)
    window, values = search.open(links, start)
    own = [(link.record, link.extended(bank)) for link in window if link.pcr == pcr]
    reach = max(1, 2 * _PAIR_HASHES // max(1, len(own)) ** 2)
    following = len(own)
    for link, value in zip(reversed(window), reversed(values), strict=True):
        following -= link.pcr == pcr
        for reason, tail in search.changes(link, own[following:], reach):
            if leads_to(bank, value, tail, target):
                return reason
    return None


def leads_to(bank: HashAlgorithm, value: bytes, digests: Iterable[bytes], target: bytes) -> bool:
    """Whether extending ``digests`` one after the other gives ``target`` at some point."""
    construct = bank.constructor()
    for digest in digests:
        value = construct(value + digest).digest()
        if value == target:
            return True
    return False


@dataclass(frozen=True, slots=True)
class _Search:
    bank: HashAlgorithm
    pcr: PcrIndex
    target: bytes

    def open(self, links: Iterable[Link], start: bytes) -> tuple[list[Link], list[bytes]]:
        """The last links, and the register's value before each."""
        window: deque[Link] = deque()
        value = start
        for link in links:
            if len(window) == WINDOW:
                value = self._after(window.popleft(), value)
            window.append(link)
        values = []
        for link in window:
            values.append(value)
            value = self._after(link, value)
        return list(window), values

    def _after(self, link: Link, value: bytes) -> bytes:
        return extend(self.bank, value, link.extended(self.bank)) if link.pcr == self.pcr else value

    def changes(
        self, link: Link, rest: Sequence[tuple[int, bytes]], reach: int
    ) -> Iterator[tuple[Reason, list[bytes]]]:
        """What may be wrong with ``link``, and what the register would then be extended with from there on.

        ``rest`` are the register's records from ``link`` on and what each extends, ``reach`` is how far apart two
        records in each other's place may be.
        """
        number, digests = link.record, [digest for _, digest in rest]
        if link.pcr != self.pcr:
            detail = (
                f"the list leads to the attested value if record {number} is one of register {self.pcr}, not {link.pcr}"
            )
            yield Reason("record_register", detail, number), [link.extended(self.bank), *digests]
            return
        detail = f"the list leads to the attested value without record {number}"
        yield Reason("record_added", detail, number), digests[1:]
        if link.is_violation:
            detail = f"the list leads to the attested value if record {number} is no violation: its digest was zeroed"
            yield Reason("violation_forged", detail, number), [link.digest, *digests[1:]]
        for apart in range(1, min(reach + 1, len(rest))):
            other = rest[apart][0]
            detail = f"the list leads to the attested value with records {number} and {other} in each other's place"
            swapped = [digests[apart], *digests[1:apart], digests[0], *digests[apart + 1 :]]
            yield Reason("record_order", detail, number), swapped
