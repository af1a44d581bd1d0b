"""The TPM 2.0 driver."""

import struct
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Self

from imarium.errors import DeviceError, ImariumError, UsageError
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.formats.tpm import (
    PcrSelection,
    parse_attest,
    parse_credential,
    parse_selection,
    parse_signature,
    pcr_digest,
    selection_bytes,
)
from imarium.hashes import HashAlgorithm, by_tcg_id
from imarium.rot.ak_store import EndorsementKind, StoredKey
from imarium.rot.protocol import Quote
from imarium.rot.tpm_ak import (
    EndorsementKey,
    KeyKind,
    create_ak,
    drop_ak,
    endorsement_key,
    load_ak,
    make_persistent,
    open_challenge,
)
from imarium.rot.tss import Handle, Tss, default_tcti

__all__ = ["Tpm"]

_READ_ATTEMPTS = 50
_QUOTE_ATTEMPTS = 20
_PER_READ = 8
"""TPM2_PCR_Read returns at most this many values."""

_Values = dict[HashAlgorithm, dict[PcrIndex, bytes]]


class Tpm:
    """A TPM 2.0; implements :class:`~imarium.rot.protocol.PcrDevice`.

    ``tcti`` names the TPM as tpm2-tools do, by default the kernel's resource manager. ``ak`` is the key to quote
    with; it is loaded at the first quote and flushed by :meth:`close`. The authorisation values are those of the
    hierarchies, empty on most machines. Raises MissingComponent where no TPM answers.
    """

    name = "tpm"
    default_register = IMA_PCR

    def __init__(
        self,
        tcti: str | None = None,
        ak: StoredKey | None = None,
        *,
        endorsement_auth: bytes = b"",
        owner_auth: bytes = b"",
    ) -> None:
        self._ak = ak
        self._ak_handle: Handle | None = None
        self._allocated: dict[int, frozenset[int]] | None = None
        self._connection: Tss | None = Tss(tcti or default_tcti())
        try:
            self._tss.set_authorisations(endorsement=endorsement_auth, owner=owner_auth)
        except ImariumError:
            self.close()
            raise

    @property
    def _tss(self) -> Tss:
        if self._connection is None:
            raise UsageError("the TPM is closed; open it again")
        return self._connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except DeviceError:
            if error is None:  # else the first error says more
                raise

    def close(self) -> None:
        """Flushes the attestation key and ends the connection. Closing twice does nothing."""
        tss, self._connection = self._connection, None
        if tss is None:
            return
        handle, self._ak_handle = self._ak_handle, None
        try:
            if handle is not None and self._ak is not None:
                drop_ak(tss, self._ak, handle)
        finally:
            tss.close()

    def banks(self) -> tuple[HashAlgorithm, ...]:
        """The banks with PCRs in them, in the TPM's order, of the algorithms imarium knows."""
        return tuple(found for found in map(by_tcg_id, self._pcrs()) if found is not None)

    def pcrs(self) -> dict[HashAlgorithm, tuple[PcrIndex, ...]]:
        """The PCRs that each of :meth:`banks` has, ascending."""
        allocated = self._pcrs()
        return {bank: tuple(PcrIndex(index) for index in sorted(allocated[bank.tcg_id])) for bank in self.banks()}

    def unknown_banks(self) -> tuple[int, ...]:
        """The TPM_ALG_ID of each bank with PCRs whose algorithm imarium does not know."""
        return tuple(identifier for identifier in self._pcrs() if by_tcg_id(identifier) is None)

    def _pcrs(self) -> dict[int, frozenset[int]]:
        """Asked for once: allocation changes only at a reset of the TPM."""
        if self._allocated is None:
            self._allocated = self._tss.allocated_pcrs()
        return self._allocated

    def read(self, registers: Collection[PcrIndex], banks: Collection[HashAlgorithm] | None = None) -> _Values:
        """The values of PCRs, all as of one moment.

        One command reads at most 8 values. Where more are asked for, the TPM's update counter tells whether any
        PCR changed in between, and then all are read again; PCR 16 and 23 do not count and may have changed. Raises
        DeviceError if the PCRs never stay as they are for long enough, and UsageError for a bank or PCR that is
        not there.
        """
        chosen = self.banks() if banks is None else tuple(banks)
        selection = {bank: tuple(sorted(set(registers))) for bank in chosen}
        self._check(selection)
        return self._read(selection)

    def _check(self, selection: PcrSelection) -> None:
        """Raises UsageError for a bank or PCR that is not there: the TPM would leave it out without a word."""
        for bank, indexes in selection.items():
            present = self._pcrs().get(bank.tcg_id)
            if present is None or bank not in self.banks():
                names = ", ".join(found.name for found in self.banks())
                raise UsageError(f"this TPM has no {bank.name} bank; it has {names}")
            for index in indexes:
                if index not in present:
                    raise UsageError(f"this TPM has no PCR {index} in its {bank.name} bank; it has 0 to {max(present)}")

    def _read(self, selection: PcrSelection) -> _Values:
        for _ in range(_READ_ATTEMPTS):
            counters: set[int] = set()
            values: _Values = {bank: {} for bank in selection}
            pending = [(bank, index) for bank, indexes in selection.items() for index in indexes]
            while pending and len(counters) < 2:
                counter, part = self._read_part(pending[:_PER_READ])
                counters.add(counter)
                for bank, of_bank in part.items():
                    values[bank].update(of_bank)
                pending = [(bank, index) for bank, index in pending if index not in values[bank]]
            if len(counters) < 2:
                return values
        raise DeviceError(f"PCRs changed during each of {_READ_ATTEMPTS} reads; try again, or read fewer at once")

    def _read_part(self, wanted: list[tuple[HashAlgorithm, PcrIndex]]) -> tuple[int, _Values]:
        """One TPM2_PCR_Read: the update counter and the values the TPM gave, which may be fewer than wanted."""
        selection: dict[HashAlgorithm, tuple[PcrIndex, ...]] = {}
        for bank, index in wanted:
            selection[bank] = (*selection.get(bank, ()), index)
        counter, returned, digests = self._tss.pcr_read(selection_bytes(selection))
        given = parse_selection(returned)
        places = [(bank, index) for bank, indexes in given.items() for index in indexes]
        if not places or len(places) != len(digests) or not set(places) <= set(wanted):
            raise DeviceError(f"TPM2_PCR_Read: asked for {len(wanted)} PCRs, the TPM gave others; is it PC Client?")
        values: _Values = {}
        for (bank, index), digest in zip(places, digests, strict=True):
            values.setdefault(bank, {})[index] = digest
        return counter, values

    def update_counter(self) -> int:
        """pcrUpdateCounter: it rises by one for each digest, so by the number of banks for each extend.

        PCR 16 and 23 do not count.
        """
        counter, _, _ = self._tss.pcr_read(selection_bytes({}))
        return counter

    def extend(self, register: PcrIndex, digests: Mapping[HashAlgorithm, bytes]) -> None:
        """Extends each named bank of a PCR, all in one command.

        A bank that is not named stays as it is, and anyone can then extend it with anything: name all of them.
        Raises UsageError for a bank that is not there, a digest of the wrong size, or no digest.
        """
        self._check(dict.fromkeys(digests, (register,)))
        if not digests:
            raise UsageError("nothing to extend with: give a digest for each bank")
        parts = [struct.pack(">I", len(digests))]
        for bank, digest in digests.items():
            if len(digest) != bank.size:
                raise UsageError(f"a {bank.name} digest has {bank.size} bytes, not {len(digest)}")
            parts.append(struct.pack(">H", bank.tcg_id) + digest)
        self._tss.pcr_extend(register, b"".join(parts))

    def max_nonce(self) -> int:
        """The most bytes a nonce can have on this TPM: sizeof(TPMT_HA), 2 more than its largest digest."""
        return 2 + self._tss.largest_digest()

    def quote(self, nonce: bytes, selection: PcrSelection) -> Quote:
        """A quote over the selected PCRs, with the values it covers.

        Reading and quoting are two commands and PCRs change between them, so both are repeated until the values
        hash to the quote's digest. Raises UsageError for a nonce that is too long, an empty selection, or without an
        attestation key; DeviceError if the PCRs change each time.
        """
        self._check(selection)
        if not any(selection.values()):
            raise UsageError("nothing to quote: select at least one PCR")
        limit = self.max_nonce()
        if len(nonce) > limit:
            raise UsageError(f"the nonce has {len(nonce)} bytes, this TPM takes at most {limit}; use a shorter one")
        key, handle = self._loaded_ak()
        before = self._read(selection)
        for _ in range(_QUOTE_ATTEMPTS):
            attest, signature = self._tss.quote(handle, selection_bytes(selection), nonce)
            if _covers(attest, signature, before):
                return Quote(attest, signature, key.public, before)
            after = self._read(selection)
            if _covers(attest, signature, after):
                return Quote(attest, signature, key.public, after)
            before = after
        raise DeviceError(f"PCRs changed during each of {_QUOTE_ATTEMPTS} quotes; try again, or select fewer")

    def endorsement_key(self, kind: EndorsementKind = EndorsementKind.ECC_P256) -> EndorsementKey:
        """The endorsement key of the TCG's default template, with its certificate. Raises DeviceError."""
        return endorsement_key(self._tss, kind)

    def open_challenge(self, challenge: bytes) -> bytes:
        """The nonce in a verifier's challenge to this TPM and its attestation key.

        Raises MalformedInput for what is no challenge, DeviceError for one to another TPM or key, UsageError without
        an attestation key.
        """
        credential = parse_credential(challenge)
        _, handle = self._loaded_ak()
        return open_challenge(self._tss, handle, credential)

    def use_ak(self, key: StoredKey) -> None:
        """Quote with this key from now on. Raises DeviceError if the one of before cannot be flushed."""
        handle, self._ak_handle, before = self._ak_handle, None, self._ak
        self._ak = key
        if handle is not None and before is not None:
            drop_ak(self._tss, before, handle)

    def _loaded_ak(self) -> tuple[StoredKey, Handle]:
        if self._ak is None:
            raise UsageError("quoting needs an attestation key; make one with: imarium rot ak DIR")
        if self._ak_handle is None:
            self._ak_handle = load_ak(self._tss, self._ak)
        return self._ak, self._ak_handle

    def create_ak(
        self, kind: KeyKind, parent: EndorsementKind = EndorsementKind.ECC_P256, *, persistent: int | None = None
    ) -> StoredKey:
        """Makes a new attestation key, and stores it in the TPM if a ``persistent`` handle is given.

        It is not used before a Tpm is opened with it. Raises DeviceError.
        """
        key = create_ak(self._tss, kind, parent)
        return key if persistent is None else make_persistent(self._tss, key, persistent)


def _covers(attest: bytes, signature: bytes, values: _Values) -> bool:
    """Whether the TPM's digest is over these values. It may select in another order than it was asked to."""
    quote = parse_attest(attest).quote
    if quote is None:
        raise DeviceError("TPM2_Quote: the TPM returned a statement that is not a quote")
    return pcr_digest(quote.selection, values, parse_signature(signature).hash) == quote.pcr_digest
