"""One measurement: what becomes a record of the list, and what extends the register for it."""

from dataclasses import dataclass
from functools import cache

from imarium.chain import violation_digest
from imarium.formats import ByteOrder, ListLayout, PcrIndex, Record, Template
from imarium.hashes import HashAlgorithm

__all__ = ["Measurement", "list_layout"]


@cache
def list_layout(bank: HashAlgorithm, byte_order: ByteOrder) -> ListLayout:
    """The layout of the list that has this bank's digests in its column.

    A bank that this machine cannot compute has SHA-1 digests with zeros behind them, as the kernel does it.
    """
    return ListLayout(bank, byte_order, padded=not bank.computable)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured. ``data`` is the template data, with its fields' lengths in ``byte_order``.

    ``violation`` says that the file was open for writing, so that its content stands for nothing.
    """

    pcr: PcrIndex
    template: Template
    data: bytes
    violation: bool = False
    byte_order: ByteOrder = "little"

    def digest(self, bank: HashAlgorithm) -> bytes:
        """The template digest in a bank: the record's column, which is all zeros for a violation."""
        return bytes(bank.size) if self.violation else self._template_digest(bank)

    def extended(self, bank: HashAlgorithm) -> bytes:
        """What the register is extended with in a bank: the template digest, or ones for a violation."""
        if self.violation:
            return violation_digest(bank, padded=not bank.computable)
        return self._template_digest(bank)

    def record(self, number: int, bank: HashAlgorithm) -> Record:
        """The record with this number in the bank's list; its offset there is not known and given as 0."""
        layout = list_layout(bank, self.byte_order)
        return Record(number, 0, self.pcr, self.digest(bank), self.template, self.data, layout)

    @property
    def runtime_size(self) -> int:
        """How many bytes the kernel counts for the record in a binary SHA-1 list.

        For the ``ima`` template it counts a length of the data that it does not write.
        """
        return 32 + len(self.template.name) + len(self.data)

    def _template_digest(self, bank: HashAlgorithm) -> bytes:
        return list_layout(bank, self.byte_order).template_digest(self.template, self.data)
