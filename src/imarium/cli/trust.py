"""What ``imarium verify`` is told to trust: options of each kind of root of trust, made into the verifier's terms."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from imarium.cli.documents import read_bytes, read_text
from imarium.cli.options import hex_bytes
from imarium.errors import MalformedInput, UsageError
from imarium.formats.cca import PCR_COLUMN_MAP, VIRTCCA_MAP, RemIndex, RemMap, SlotIndex, rem_of_slot
from imarium.formats.registers import LIST_PCRS, PcrIndex
from imarium.formats.tdx import RtmrIndex
from imarium.formats.tpm import Public, parse_public, parse_public_area
from imarium.verifier import CcaTrust, SoftwareTrust, TdxTrust, TpmTrust, Trust, VirtccaTrust
from imarium.verifier.cca import CcaPolicy, load_public_key
from imarium.verifier.signatures import VerificationKey
from imarium.verifier.tdx import UP_TO_DATE

__all__ = ["ListAnchoring", "keys_trusted", "tdx_trust", "tpm_trust"]

_EVERY = "all"


@dataclass(frozen=True, slots=True)
class ListAnchoring:
    """How a list was extended into registers: which one for a number in its register column, and what it held before.

    ``columns`` and ``initial`` are empty where the kind's own rule holds. ``otherwise`` is the register of columns
    that ``columns`` does not name, or None.
    """

    columns: dict[PcrIndex, int]
    otherwise: int | None
    initial: dict[int, bytes]
    bridged: bool

    @classmethod
    def from_options(cls, column: Collection[str], initial: Collection[str], *, bridged: bool) -> "ListAnchoring":
        """From ``COLUMN=REGISTER`` or ``all=REGISTER``, and ``REGISTER=HEX``. Raises UsageError."""
        columns: dict[PcrIndex, int] = {}
        otherwise = None
        for text in column:
            left, register = _pair("--column", text, "COLUMN=REGISTER")
            if left == _EVERY:
                otherwise = _small("--column", register)
            else:
                columns[PcrIndex(_small("--column", left))] = _small("--column", register)
        pairs = [_pair("--initial", text, "REGISTER=HEX") for text in initial]
        values = {_small("--initial", left): hex_bytes("--initial", value) for left, value in pairs}
        return cls(columns, otherwise, values, bridged)

    def every_column(self) -> dict[PcrIndex, int]:
        """The register of each column that goes into one."""
        others = {} if self.otherwise is None else dict.fromkeys(map(PcrIndex, range(LIST_PCRS)), self.otherwise)
        return others | self.columns


def tpm_trust(path: Path) -> TpmTrust:
    """The attestation key in a file: TPM2B_PUBLIC or TPMT_PUBLIC. Raises MalformedInput and MissingComponent."""
    return TpmTrust(_attestation_key(path))


def _attestation_key(path: Path) -> Public:
    data = read_bytes(path)
    if data.startswith(b"-----BEGIN"):
        raise MalformedInput(
            str(path),
            offset=0,
            expected="the AK's TPM2B_PUBLIC (ak.pub)",
            found="PEM, which does not say that the key is restricted",
        )
    try:
        return parse_public(data)
    except MalformedInput as error:
        try:
            return parse_public_area(data)
        except MalformedInput:
            expected = f"the AK's TPM2B_PUBLIC (ak.pub): {error.expected}"
            raise MalformedInput(str(path), offset=error.offset, expected=expected, found=error.found) from error


def tdx_trust(
    collateral: Path, root: Path | None, *, now: int, accepted: Collection[str], anchoring: ListAnchoring
) -> TdxTrust:
    """Intel's collateral, and a root certificate in DER where it is not Intel's own. Raises UsageError."""
    columns = {column: RtmrIndex(register) for column, register in anchoring.every_column().items()}
    initial = {RtmrIndex(register): value for register, value in anchoring.initial.items()}
    return TdxTrust(
        collateral=read_text(collateral),
        now=now,
        root_ca=None if root is None else read_bytes(root),
        accepted=frozenset(accepted) or UP_TO_DATE,
        columns=columns or {PcrIndex(2): RtmrIndex(2)},
        initial=initial,
        bridged=anchoring.bridged,
    )


def keys_trusted(
    cca: Path | None,
    virtcca: Path | None,
    old_virtcca: Path | None,
    software: Path | None,
    anchoring: ListAnchoring,
) -> list[Trust]:
    """What is trusted by a public key in a file, of those that are given.

    The platform's key of Arm CCA (CPAK) and of VirtCCA (AIK), the key of a VirtCCA VM itself, of the old form that has
    no platform token, and that of a software root of trust. Raises UsageError, MalformedInput and MissingComponent.
    """
    if virtcca is not None and old_virtcca is not None:
        raise UsageError("give the key of a VirtCCA platform or that of an old VM, not both")
    trust: list[Trust] = []
    if cca is not None:
        columns = _rem_map(anchoring, PCR_COLUMN_MAP)
        trust.append(CcaTrust(_key(cca), CcaPolicy(), columns, _rems(anchoring), anchoring.bridged))
    key = virtcca or old_virtcca
    if key is not None:
        policy = CcaPolicy(realm_alone=old_virtcca is not None)
        columns = _rem_map(anchoring, VIRTCCA_MAP)
        trust.append(VirtccaTrust(_key(key), policy, columns, _rems(anchoring), anchoring.bridged))
    if software is not None:
        names = {column: f"rtmr{register}" for column, register in anchoring.every_column().items()}
        trust.append(SoftwareTrust(read_bytes(software), names) if names else SoftwareTrust(read_bytes(software)))
    return trust


def _key(path: Path) -> VerificationKey:
    try:
        return load_public_key(read_bytes(path))
    except MalformedInput as error:
        raise MalformedInput(str(path), offset=error.offset, expected=error.expected, found=error.found) from error


def _rem_map(anchoring: ListAnchoring, default: RemMap) -> RemMap:
    if not anchoring.columns and anchoring.otherwise is None:
        return default
    otherwise = None if anchoring.otherwise is None else rem_of_slot(SlotIndex(anchoring.otherwise))
    return RemMap(otherwise, tuple((pcr, rem_of_slot(SlotIndex(slot))) for pcr, slot in anchoring.columns.items()))


def _rems(anchoring: ListAnchoring) -> dict[RemIndex, bytes]:
    return {rem_of_slot(SlotIndex(slot)): value for slot, value in anchoring.initial.items()}


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not (left and equals and right):
        raise UsageError(f"{option} {text!r} is not {form}")
    return left, right


def _small(option: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 2 and int(text) < LIST_PCRS):
        raise UsageError(f"{option}: {text!r} is not a register number below {LIST_PCRS}")
    return int(text)
