"""``imarium challenge``: a nonce that one TPM alone can read, with one attestation key."""

from pathlib import Path
from typing import Annotated

import typer

from imarium.cli.documents import write_atomically
from imarium.cli.options import Json
from imarium.cli.output import console, emit_json
from imarium.cli.trust import moment, read_certificate, read_root, read_tpm_key
from imarium.errors import RefusedOperation, UsageError
from imarium.verifier import CertifiedKey, check_endorsement, make_challenge

__all__ = ["challenge"]


def challenge(
    ak: Annotated[Path, typer.Option("--ak", metavar="FILE", help="The attestation key the machine sent: its ak.pub.")],
    ek: Annotated[Path, typer.Option("--ek", metavar="FILE", help="The TPM's endorsement key: its ek.pub.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Write the challenge here.")],
    certificate: Annotated[
        Path | None, typer.Option("--ek-certificate", metavar="FILE", help="Its certificate: ek.crt; with --ek-root.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--ek-root", metavar="FILE", help="The root certificate of a TPM maker you trust.")
    ] = None,
    issuer: Annotated[
        list[Path] | None,
        typer.Option("--ek-issuer", metavar="FILE", help="A certificate between the two, from below; may be repeated."),
    ] = None,
    at: Annotated[
        int | None,
        typer.Option("--time", metavar="SECONDS", help="Certificates are to be good at this Unix time [default: now]."),
    ] = None,
    json: Json = False,
) -> None:
    """Make a challenge to a TPM and its attestation key, and print the nonce that is hidden in it.

    Keep the nonce. Evidence over it (imarium attest --challenge, imarium verify --nonce) proves that the attestation
    key is in the TPM with this endorsement key. That this is a real TPM's, its certificate says. Without one you have
    to know the endorsement key, or for SEV-SNP a report does (imarium verify --snp-ek). The exit status is 1 if the
    certificate is not good.
    """
    if (certificate is None) != (root is None):
        raise UsageError("--ek-certificate and --ek-root go together")
    attestation = read_tpm_key(ak, "the AK's TPM2B_PUBLIC (ak.pub)")
    endorsement = read_tpm_key(ek, "an endorsement key's TPM2B_PUBLIC (ek.pub)")
    if certificate is not None and root is not None:
        between = tuple(map(read_certificate, issuer or ()))
        chain = CertifiedKey(read_certificate(certificate), between, read_root(root), moment(at))
        for reason in check_endorsement(endorsement, chain):
            raise RefusedOperation(f"{certificate}: {reason.detail} ({reason.code})")
    made = make_challenge(endorsement, attestation)
    write_atomically(output, made.data)
    if json:
        names = {"ak_name": attestation.name.hex(), "ek_name": endorsement.name.hex()}
        emit_json({"nonce": made.nonce.hex(), **names, "certified": certificate is not None, "output": str(output)})
    else:
        console().print(made.nonce.hex(), markup=False)
