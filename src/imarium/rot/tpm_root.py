"""The TPM 2.0 as a root of trust: PCRs by name, all banks together, and boot_aggregate as the kernel takes it."""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from imarium.chain import aggregated_pcrs, pcr_aggregate
from imarium.errors import RefusedOperation, UsageError
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.formats.tpm import SignatureScheme
from imarium.formats.tpm.selection import MAX_PCRS
from imarium.hashes import SHA1, SHA256, HashAlgorithm
from imarium.registers import Access, Register
from imarium.registers.provider import identity_of
from imarium.rot.ak_store import EndorsementKind, StoredKey, holds_key, load_key, save_key
from imarium.rot.options import split_options
from imarium.rot.peer import listeners
from imarium.rot.protocol import NativeQuote, Values
from imarium.rot.swtpm import OwnSwtpm
from imarium.rot.tpm import Tpm
from imarium.rot.tpm_ak import KeyKind
from imarium.rot.tss import default_tcti

__all__ = ["TpmRoot", "choose_banks", "tpm_root"]

_LOG = logging.getLogger("imarium.rot")
_PCRS = {str(index): PcrIndex(index) for index in range(MAX_PCRS)}


class TpmRoot:
    """A TPM; implements :class:`~imarium.rot.protocol.RootOfTrust`.

    ``tcti`` names the TPM as tpm2-tools do, by default this machine's. With ``swtpm`` it is a simulator of our own
    instead, which ends with this process. ``ak`` is the key to quote with. Quotes are in the banks that
    :func:`choose_banks` takes, unless told otherwise.
    """

    name: ClassVar[str] = "tpm"
    kind: ClassVar[str] = "tpm"
    default_register = str(IMA_PCR)

    def __init__(self, tcti: str | None = None, *, swtpm: OwnSwtpm | None = None, ak: StoredKey | None = None) -> None:
        self._tcti = tcti
        self._swtpm = swtpm
        self._ak = ak
        self._quoted: tuple[HashAlgorithm, ...] = ()
        self._device: Tpm | None = None

    @property
    def identity(self) -> str:
        """Of the simulator's directory, or of the name in use. Two names of one TPM are taken for two devices."""
        return identity_of("tpm", self._swtpm.state if self._swtpm else self._tcti or default_tcti())

    @property
    def processes(self) -> tuple[int, ...]:
        """Those of a simulator on this machine: who watches programs must not keep it waiting."""
        if self._swtpm is None:
            return listeners(self._tcti or default_tcti())
        return () if self._swtpm.pid is None else (self._swtpm.pid,)

    @property
    def device(self) -> Tpm:
        """The TPM with its own interface. Raises UsageError before :meth:`init`."""
        if self._device is None:
            raise UsageError("the TPM is not open; call init first")
        return self._device

    def init(self) -> None:
        """Connect, after starting the simulator where there is one of our own. Raises MissingComponent."""
        if self._device is None:
            tcti = self._swtpm.start() if self._swtpm else self._tcti
            self._device = Tpm(tcti, self._ak)
            if self._swtpm:
                _LOG.warning("tpm: a simulator, which proves nothing to others; while it runs: --tcti %s", tcti)

    def close(self) -> None:
        """Disconnect, and end the simulator of our own."""
        device, self._device = self._device, None
        try:
            if device is not None:
                device.close()
        finally:
            if self._swtpm is not None:
                self._swtpm.stop()

    def __enter__(self) -> Self:
        self.init()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def banks(self) -> tuple[HashAlgorithm, ...]:
        """Its PCR banks."""
        return self.device.banks()

    def registers(self) -> tuple[Register, ...]:
        """Every PCR in every bank."""
        return tuple(
            Register(str(index), bank.size, bank, Access.RTMR | Access.W)
            for bank, indexes in self.device.pcrs().items()
            for index in indexes
        )

    def read(self, registers: Collection[str]) -> Values:
        """The values, all as of one moment."""
        wanted = [_pcr(name) for name in registers]
        values = self.device.read(wanted)
        return {str(pcr): {bank: values[bank][pcr] for bank in values} for pcr in wanted}

    def extend(self, register: str, digests: Mapping[HashAlgorithm, bytes]) -> None:
        """One TPM2_PCR_Extend. A bank without a digest is a UsageError: anyone could put anything there later."""
        missing = [bank.name for bank in self.banks() if bank not in digests]
        if missing:
            raise UsageError(f"PCR {register} needs a digest for each bank; {', '.join(missing)} has none")
        self.device.extend(_pcr(register), digests)

    def boot_aggregate(self, bank: HashAlgorithm) -> bytes:
        """The hash over PCR 0 to 9 (0 to 7 for SHA-1), read from this bank, else from SHA-256, else SHA-1.

        Where another bank is read, the digest is of that bank's algorithm, as the kernel's is. Zeros where there is
        none of the three.
        """
        there = self.banks()
        source = next((candidate for candidate in (bank, SHA256, SHA1) if candidate in there), None)
        if source is None:
            return bytes(bank.size)
        values = self.device.read(aggregated_pcrs(source), [source])[source]
        return pcr_aggregate(values, source) or bytes(bank.size)

    @property
    def has_key(self) -> bool:
        """Whether there is a key to quote with."""
        return self._ak is not None

    def use_banks(self, banks: Collection[HashAlgorithm]) -> None:
        """Quote in these banks."""
        self._quoted = tuple(banks)

    def use_key(self, directory: Path) -> bool:
        """Quote with the attestation key in ``directory``, made there first if there is none; whether it was made.

        Raises what :func:`~imarium.rot.save_key` and :func:`~imarium.rot.load_key` raise.
        """
        made = not holds_key(directory)
        if made:
            save_key(directory, self.device.create_ak(KeyKind(SignatureScheme.ECDSA), self._endorsement_kind()))
        self._ak = load_key(directory)
        self.device.use_ak(self._ak)
        return made

    def open_challenge(self, challenge: bytes) -> bytes:
        """The nonce in a verifier's challenge to this TPM and its key. Raises as :meth:`Tpm.open_challenge`."""
        return self.device.open_challenge(challenge)

    def _endorsement_kind(self) -> EndorsementKind:
        """The endorsement key that a new attestation key is made under."""
        return EndorsementKind.ECC_P256

    def quote(self, nonce: bytes, registers: Collection[str] = ()) -> NativeQuote:
        """A TPM2_Quote over the registers. ``beside`` has ``signature`` and ``ak``."""
        if self._ak is None:
            advice = f"give {self.name}:...,ak=DIR, made by imarium rot ak DIR"
            raise RefusedOperation(f"quoting needs an attestation key; {advice}")
        pcrs = tuple(sorted({_pcr(name) for name in registers or (self.default_register,)}))
        quote = self.device.quote(nonce, dict.fromkeys(self._quoted or choose_banks(self.banks()), pcrs))
        values: Values = {str(pcr): {bank: of[pcr] for bank, of in quote.values.items()} for pcr in pcrs}
        return NativeQuote(self.kind, quote.attest, {"signature": quote.signature, "ak": quote.ak}, values)

    def unknown_banks(self) -> tuple[str, ...]:
        """The banks with PCRs whose algorithm imarium does not know, as the kernel names them."""
        return tuple(f"tpm_alg_{identifier:x}" for identifier in self.device.unknown_banks())

    def update_counter(self) -> int:
        """pcrUpdateCounter: one more for each digest."""
        return self.device.update_counter()


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


def tpm_root(argument: str) -> TpmRoot:
    """The TPM that ``argument`` names: nothing, ``swtpm:DIR``, or a TCTI such as ``device:/dev/tpmrm0``.

    ``,ak=DIR`` at its end names the key to quote with. Raises UsageError, MissingComponent.
    """
    place, options = split_options("tpm", argument, ("ak",), commas=True)
    ak = load_key(Path(options["ak"])) if "ak" in options else None
    module, _, configuration = place.partition(":")
    if module == "swtpm" and not configuration.startswith(("host=", "port=", "path=")):
        if not configuration:
            raise UsageError("name the simulator's directory: tpm:swtpm:DIR")
        return TpmRoot(swtpm=OwnSwtpm(Path(configuration)), ak=ak)
    return TpmRoot(place or None, ak=ak)


def _pcr(name: str) -> PcrIndex:
    if name not in _PCRS:
        raise UsageError(f"{name[:20]!r} is no PCR; give a number from 0 to {MAX_PCRS - 1}")
    return _PCRS[name]
