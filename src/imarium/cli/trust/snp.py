"""What is trusted of AMD SEV-SNP with an SVSM."""

import enum
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import typer

from imarium.cli.options import hex_bytes
from imarium.cli.trust.every_kind import EveryKind, moment, read_certificate, read_root, read_tpm_key
from imarium.errors import UsageError
from imarium.formats.snp import ECC_P256_EK_SIZE, RSA_2048_EK_SIZE, TcbVersion
from imarium.verifier import SnpTrust
from imarium.verifier.snp import MEASUREMENT_SIZE, SnpPolicy

__all__ = ["SnpOptions"]


class _EkKind(enum.StrEnum):
    rsa = "rsa"
    ecc = "ecc"


_EK_SIZES = {_EkKind.rsa: RSA_2048_EK_SIZE, _EkKind.ecc: ECC_P256_EK_SIZE}


@dataclass(frozen=True, slots=True)
class SnpOptions:
    """AMD's root and what it issued, the launch measurements that are known, and the endorsement key."""

    snp_root: Annotated[
        Path | None,
        typer.Option("--snp-root", metavar="FILE", help="SNP: AMD's root certificate (ARK); with --ak."),
    ] = None
    snp_issuer: Annotated[
        Path | None,
        typer.Option("--snp-issuer", metavar="FILE", help="SNP: the ASK or ASVK [default: from the evidence]."),
    ] = None
    snp_certificate: Annotated[
        Path | None,
        typer.Option("--snp-certificate", metavar="FILE", help="SNP: the VCEK or VLEK [default: from the evidence]."),
    ] = None
    snp_measurement: Annotated[
        list[str] | None,
        typer.Option("--snp-measurement", metavar="HEX", help="SNP: a launch measurement you know; may be repeated."),
    ] = None
    snp_ek: Annotated[
        Path | None,
        typer.Option("--snp-ek", metavar="FILE", help="SNP: the endorsement key that the AK was challenged with."),
    ] = None
    snp_ek_kind: Annotated[
        _EkKind | None,
        typer.Option("--snp-ek-kind", help="SNP: the kind of this SVSM's endorsement keys [default: rsa]."),
    ] = None
    snp_minimum_tcb: Annotated[
        str | None,
        typer.Option(
            "--snp-minimum-tcb",
            metavar="[FMC.]BOOT.TEE.SNP.UCODE",
            help="SNP: the oldest firmware to accept, in each part.",
        ),
    ] = None
    snp_provider: Annotated[
        str | None,
        typer.Option("--snp-provider", metavar="NAME", help="SNP: the cloud provider that a VLEK must be of."),
    ] = None
    snp_vmpl: Annotated[
        int | None,
        typer.Option("--snp-vmpl", metavar="N", min=0, max=3, help="SNP: the SVSM's privilege level [default: 0]."),
    ] = None

    def trusted(self, every: EveryKind) -> tuple[SnpTrust, ...]:
        """What is trusted of this kind. Raises UsageError, MalformedInput and MissingComponent."""
        if self.snp_root is None:
            if any(getattr(self, field.name) is not None for field in fields(self)):
                raise UsageError("the options of SNP need --snp-root, the certificate that you trust")
            return ()
        if every.trusted_ak is None:
            raise UsageError("an SNP guest quotes with its vTPM: give --ak, its attestation key, beside --snp-root")
        if not self.snp_measurement:
            raise UsageError("name the launch measurements you know with --snp-measurement: nothing passes without one")
        trust = SnpTrust(
            ak=every.trusted_ak,
            root=read_root(self.snp_root),
            at=moment(every.at),
            policy=SnpPolicy(
                measurements=frozenset(map(_measurement, self.snp_measurement)),
                vmpl=self.snp_vmpl or 0,
                minimum_tcb=None if self.snp_minimum_tcb is None else _tcb(self.snp_minimum_tcb),
                csp_id=self.snp_provider,
            ),
            issuer=None if self.snp_issuer is None else read_certificate(self.snp_issuer),
            leaf=None if self.snp_certificate is None else read_certificate(self.snp_certificate),
            ek=None if self.snp_ek is None else read_tpm_key(self.snp_ek, "an endorsement key's TPM2B_PUBLIC"),
            ek_size=_EK_SIZES[self.snp_ek_kind or _EkKind.rsa],
        )
        return (trust,)


def _measurement(text: str) -> bytes:
    value = hex_bytes("--snp-measurement", text)
    if len(value) != MEASUREMENT_SIZE:
        raise UsageError(f"--snp-measurement: a launch measurement has {MEASUREMENT_SIZE} bytes, not {len(value)}")
    return value


def _tcb(text: str) -> TcbVersion:
    parts = [int(part) for part in text.split(".") if part.isascii() and part.isdigit() and len(part) <= 3]
    if len(parts) != text.count(".") + 1 or len(parts) not in (4, 5) or max(parts) > 0xFF:
        raise UsageError(f"--snp-minimum-tcb {text!r} is not 4 or 5 numbers up to 255, such as 3.0.8.115")
    bootloader, tee, snp, microcode = parts[-4:]
    return TcbVersion(parts[0] if len(parts) == 5 else None, bootloader, tee, snp, microcode)
