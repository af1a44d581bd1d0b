"""What is trusted of Arm CCA and Huawei VirtCCA."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypedDict

import typer

from imarium.cli.documents import read_bytes
from imarium.cli.options import hex_bytes
from imarium.cli.trust.every_kind import EveryKind, ListAnchoring, moment, read_certificate, read_root
from imarium.errors import MalformedInput, UsageError
from imarium.formats.cca import PCR_COLUMN_MAP, VIRTCCA_MAP, RemIndex, RemMap, SlotIndex, rem_of_slot
from imarium.verifier import CcaTrust, VirtccaTrust
from imarium.verifier.cca import CcaAnchor, CcaPolicy, load_public_key
from imarium.verifier.certificates import CertifiedKey
from imarium.verifier.signatures import VerificationKey

__all__ = ["CcaOptions"]


class _Anchoring(TypedDict):
    columns: RemMap
    initial: dict[RemIndex, bytes]
    bridged: bool


@dataclass(frozen=True, slots=True)
class CcaOptions:
    """The platform's key of Arm CCA (CPAK) and VirtCCA (AIK), or its certificate; of an old VirtCCA VM its own key."""

    cca_platform_key: Annotated[
        Path | None, typer.Option("--cca-platform-key", metavar="FILE", help="CCA: the platform's key (CPAK).")
    ] = None
    virtcca_platform_key: Annotated[
        Path | None, typer.Option("--virtcca-platform-key", metavar="FILE", help="VirtCCA: the platform's key (AIK).")
    ] = None
    virtcca_realm_key: Annotated[
        Path | None,
        typer.Option(
            "--virtcca-realm-key", metavar="FILE", help="Old VirtCCA without platform token: the VM's own key."
        ),
    ] = None
    cca_certificate: Annotated[
        Path | None,
        typer.Option(
            "--cca-certificate", metavar="FILE", help="CCA: a certificate of the platform's key; with --cca-root."
        ),
    ] = None
    virtcca_certificate: Annotated[
        Path | None,
        typer.Option("--virtcca-certificate", metavar="FILE", help="VirtCCA: the same; with --cca-root."),
    ] = None
    cca_issuer: Annotated[
        list[Path] | None,
        typer.Option(
            "--cca-issuer", metavar="FILE", help="A certificate between that and the root, from below; repeat it."
        ),
    ] = None
    cca_root: Annotated[
        Path | None, typer.Option("--cca-root", metavar="FILE", help="CCA and VirtCCA: the root certificate you trust.")
    ] = None
    cca_rim: Annotated[
        list[str] | None,
        typer.Option(
            "--cca-rim", metavar="HEX", help="CCA and VirtCCA: a RIM you know; may be repeated [default: any passes]."
        ),
    ] = None

    def trusted(self, every: EveryKind) -> tuple[CcaTrust, ...]:
        """What is trusted of these kinds. Raises UsageError, MalformedInput and MissingComponent."""
        if self.virtcca_realm_key is not None and (self.virtcca_platform_key or self.virtcca_certificate):
            raise UsageError("give the key of a VirtCCA platform or that of an old VM, not both")
        rims = frozenset(hex_bytes("--cca-rim", text) for text in self.cca_rim or ())
        found: list[CcaTrust] = []
        platform = self._anchor("cca", self.cca_platform_key, self.cca_certificate, every)
        if platform is not None:
            found.append(CcaTrust(platform, measurements=rims, **_anchoring(every.anchoring, PCR_COLUMN_MAP)))
        vm = self._anchor("virtcca", self.virtcca_platform_key, self.virtcca_certificate, every)
        anchor = vm if self.virtcca_realm_key is None else _key(self.virtcca_realm_key)
        if anchor is not None:
            policy = CcaPolicy(realm_alone=vm is None)
            found.append(VirtccaTrust(anchor, policy, measurements=rims, **_anchoring(every.anchoring, VIRTCCA_MAP)))
        certified = self.cca_certificate is not None or self.virtcca_certificate is not None
        if not certified and (self.cca_root is not None or self.cca_issuer):
            raise UsageError("--cca-root and --cca-issuer go with --cca-certificate or --virtcca-certificate")
        if not found and rims:
            raise UsageError("--cca-rim goes with the key or the certificate of a CCA or VirtCCA platform")
        return tuple(found)

    def _anchor(self, kind: str, key: Path | None, certificate: Path | None, every: EveryKind) -> CcaAnchor | None:
        if certificate is None:
            return None if key is None else _key(key)
        if key is not None:
            raise UsageError(f"give --{kind}-platform-key or --{kind}-certificate, not both")
        if self.cca_root is None:
            raise UsageError(f"--{kind}-certificate needs --cca-root, the certificate that you trust above it")
        between = tuple(map(read_certificate, self.cca_issuer or ()))
        return CertifiedKey(read_certificate(certificate), between, read_root(self.cca_root), moment(every.at))


def _key(path: Path) -> VerificationKey:
    try:
        return load_public_key(read_bytes(path))
    except MalformedInput as error:
        expected = f"a public key in JWK, PEM, DER or COSE_Key: {error.expected}"
        raise MalformedInput(str(path), offset=error.offset, expected=expected, found=error.found) from error


def _anchoring(anchoring: ListAnchoring, default: RemMap) -> _Anchoring:
    columns = default
    if anchoring.columns or anchoring.otherwise is not None:
        otherwise = None if anchoring.otherwise is None else rem_of_slot(SlotIndex(anchoring.otherwise))
        by_pcr = tuple((pcr, rem_of_slot(SlotIndex(slot))) for pcr, slot in anchoring.columns.items())
        columns = RemMap(otherwise, by_pcr)
    initial = {rem_of_slot(SlotIndex(slot)): value for slot, value in anchoring.initial.items()}
    return {"columns": columns, "initial": initial, "bridged": anchoring.bridged}
