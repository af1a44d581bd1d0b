"""Making evidence: a quote, and the records it is about."""

from collections.abc import Callable, Collection, Iterator
from typing import Protocol

from imarium.errors import RefusedOperation, UsageError
from imarium.formats.evidence import MAX_EVIDENCE, Evidence, ListPart, TpmPart
from imarium.formats.records import ListLayout, encode_record, read_records
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.formats.report_data import report_data
from imarium.formats.roots import ROOT_PARTS, RootPart, root_part
from imarium.formats.tpm import PcrSelection
from imarium.hashes import SHA1, SHA256, HashAlgorithm
from imarium.rot import PcrDevice, RootOfTrust

__all__ = ["BOOT_REGISTERS", "LogView", "choose_banks", "make_evidence", "make_native_evidence"]

BOOT_REGISTERS = tuple(PcrIndex(pcr) for pcr in range(10))
"""The PCRs boot_aggregate is taken over: quoted too, so that a verifier can tell whether it is right."""

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


def make_evidence(
    rot: PcrDevice,
    view: Callable[[], LogView],
    *,
    nonce: bytes,
    first: int = 0,
    banks: Collection[HashAlgorithm] = (),
    registers: Collection[PcrIndex] = (),
) -> Evidence[TpmPart]:
    """Evidence over ``nonce`` with the records from number ``first`` on.

    The quote is made before the records are read, so that no record it covers can be missing; those added since are
    in the evidence too and count as unverified. ``view`` reads the log as it is when called. Quoted are PCR 0 to 10,
    every register that a record of the log names, and ``registers``; in ``banks``, or else those that
    :func:`choose_banks` takes. Raises UsageError if the log has not ``first`` records, and what the device and the
    view raise.
    """
    chosen = tuple(banks) or choose_banks(rot.banks())
    wanted = {*BOOT_REGISTERS, IMA_PCR, *registers}
    for _ in range(_ATTEMPTS):
        selection: PcrSelection = dict.fromkeys(chosen, tuple(sorted(wanted)))
        quote = rot.quote(nonce, selection)
        part, used = _records(view(), first)
        if used <= wanted:
            return Evidence(TpmPart(quote.attest, quote.signature, quote.ak, quote.values), part)
        wanted |= used
    raise RefusedOperation("the list goes on using new registers; try again")


def make_native_evidence(
    rot: RootOfTrust, view: Callable[[], LogView], *, nonce: bytes, first: int = 0
) -> Evidence[RootPart]:
    """Evidence over ``nonce`` by a root of trust whose statement has all that belongs to it.

    It is quoted before the records are read, as :func:`make_evidence` does for a TPM. Raises UsageError for a TPM and
    for a kind that evidence does not know, and what the device and the view raise.
    """
    part = ROOT_PARTS.get(rot.kind)
    if part is None or not part.native:
        kinds = ", ".join(kind for kind, known in ROOT_PARTS.items() if known.native)
        raise UsageError(f"evidence like this is of kind {kinds}, not {rot.kind}; choose a root of such a kind")
    quote = rot.quote(report_data(nonce) if part.nonce_hashed else nonce)
    root = root_part({"kind": rot.kind, part.native: quote.statement, **quote.beside})
    return Evidence(root, _records(view(), first)[0])


def choose_banks(there: Collection[HashAlgorithm]) -> tuple[HashAlgorithm, ...]:
    """The banks to quote unless told otherwise: SHA-1 and SHA-256, which every kernel can compute.

    All that are there if SHA-256 is not. Raises UsageError if that leaves SHA-1 alone, which no verifier accepts.
    """
    usual = tuple(bank for bank in (SHA1, SHA256) if bank in there)
    chosen = usual if SHA256 in there else tuple(there)
    if not set(chosen) - {SHA1}:
        raise UsageError(
            "the TPM has no bank but SHA-1, which no verifier accepts; allocate SHA-256 (tpm2_pcrallocate)"
        )
    return chosen


def _records(view: LogView, first: int) -> tuple[ListPart, set[PcrIndex]]:
    """The log's records from number ``first`` on, and the registers that any record of it names."""
    used: set[PcrIndex] = set()
    parts: list[bytes] = []
    count = size = 0
    for record in read_records(view.blocks(), view.layout):
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
