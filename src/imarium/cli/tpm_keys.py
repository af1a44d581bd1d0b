"""``imarium rot ak`` and ``imarium rot ek``: the keys of a TPM that verifiers need."""

import enum
import re
from pathlib import Path
from typing import Annotated

import typer

from imarium import durable
from imarium.cli.documents import read_bytes, write_files
from imarium.cli.options import Json, Tcti
from imarium.cli.output import console, emit_json
from imarium.errors import MissingComponent, RefusedOperation, UsageError
from imarium.formats.tpm import EccKey, SignatureScheme, parse_public
from imarium.rot import EndorsementKind, KeyKind, StoredKey, Tpm, holds_key, load_key, save_key

__all__ = ["EndorsementAuth", "ak", "ek", "read_auth"]

_MAX_AUTH = 64

EndorsementAuth = Annotated[
    Path | None,
    typer.Option("--endorsement-auth", metavar="FILE", help="Holds the endorsement hierarchy's authorisation value."),
]


class _Key(enum.StrEnum):
    ecc = "ecc"
    rsa = "rsa"


class _Scheme(enum.StrEnum):
    ecdsa = "ecdsa"
    rsassa = "rsassa"
    rsapss = "rsapss"


_ENDORSEMENT = {_Key.ecc: EndorsementKind.ECC_P256, _Key.rsa: EndorsementKind.RSA_2048}


def ak(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the key is kept.")],
    key: Annotated[_Key | None, typer.Option("--key", help="ECC P-256 (default) or RSA 2048.")] = None,
    scheme: Annotated[_Scheme | None, typer.Option("--scheme", help="ecdsa; for RSA rsassa (default), rsapss.")] = None,
    persistent: Annotated[
        str | None,
        typer.Option("--persistent", metavar="HANDLE", help="Store it in the TPM at HANDLE, such as 0x81010002."),
    ] = None,
    parent: Annotated[
        _Key | None, typer.Option("--parent", help="The endorsement key it is made under; by default ECC.")
    ] = None,
    tcti: Tcti = None,
    endorsement_auth: EndorsementAuth = None,
    owner_auth: Annotated[
        Path | None, typer.Option("--owner-auth", metavar="FILE", help="Holds the owner's authorisation value.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the attestation key in DIR, or make a new one there, and print its Name."""
    created = not holds_key(directory)
    if created:
        handle = None if persistent is None else _handle(persistent)
        above = _ENDORSEMENT[parent or _Key.ecc]
        kind = _kind(key, scheme)
        _check_place(directory)
        with Tpm(tcti, endorsement_auth=read_auth(endorsement_auth), owner_auth=read_auth(owner_auth)) as tpm:
            stored = tpm.create_ak(kind, above, persistent=handle)
        save_key(directory, stored)
    elif (key, scheme, persistent, parent) != (None, None, None, None):
        raise RefusedOperation(f"{directory} holds a key already; choose another directory for a new one")
    else:
        stored = load_key(directory)
    _show_key(directory, stored, created=created, json=json)


def ek(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Write the key's files into DIR.")],
    key: Annotated[_Key | None, typer.Option("--key", help="ECC P-256 (default) or RSA 2048.")] = None,
    tcti: Tcti = None,
    endorsement_auth: EndorsementAuth = None,
    json: Json = False,
) -> None:
    """Write the TPM's endorsement key into DIR, to be challenged: ek.pub, and ek.crt if its maker left one."""
    kind = _ENDORSEMENT[key or _Key.ecc]
    with Tpm(tcti, endorsement_auth=read_auth(endorsement_auth)) as tpm:
        found = tpm.endorsement_key(kind)
    files = {"ek.pub": found.public} | ({} if found.certificate is None else {"ek.crt": found.certificate})
    write_files(output, files)
    name = parse_public(found.public).name.hex()
    if json:
        certificate = None if found.certificate is None else found.certificate.hex()
        emit_json({"name": name, "public": found.public.hex(), "certificate": certificate, "directory": str(output)})
        return
    said = "with its certificate" if found.certificate is not None else "which has no certificate in the TPM"
    console().print(f"{name}\n{kind.value} endorsement key, {said}, in {output}", markup=False)


def _show_key(directory: Path, stored: StoredKey, *, created: bool, json: bool) -> None:
    public = parse_public(stored.public)
    scheme = None if public.scheme is None else public.scheme.scheme.name.lower()
    handle = None if stored.handle is None else f"{stored.handle:#010x}"
    if json:
        emit_json(
            {
                "name": public.name.hex(),
                "public": stored.public.hex(),
                "key": "ecc" if isinstance(public.key, EccKey) else "rsa",
                "scheme": scheme,
                "handle": handle,
                "directory": str(directory),
                "created": created,
            }
        )
        return
    place = f"in the TPM at {handle}" if handle else f"kept in {directory}"
    console().print(f"{public.name.hex()}\n{scheme} key, {place}; verifiers need {directory / 'ak.pub'}", markup=False)


def _kind(key: _Key | None, scheme: _Scheme | None) -> KeyKind:
    wants_rsa = key is _Key.rsa or (key is None and scheme in (_Scheme.rsassa, _Scheme.rsapss))
    chosen = scheme or (_Scheme.rsassa if wants_rsa else _Scheme.ecdsa)
    kind = KeyKind(SignatureScheme[chosen.upper()])
    if kind.rsa != wants_rsa:
        raise UsageError(
            f"an {'RSA' if wants_rsa else 'ECC'} key cannot sign {chosen}; choose another --key or --scheme"
        )
    return kind


def _check_place(directory: Path) -> None:
    """A key made persistent and then not saved would be stranded in the TPM."""
    with durable.storage_errors(directory):
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise RefusedOperation(f"{directory} is there already and not an empty directory; choose another")
        if not directory.absolute().parent.is_dir():
            raise MissingComponent(f"{directory.absolute().parent} is not there; make it first")


def _handle(text: str) -> int:
    if re.fullmatch(r"0x[0-9A-Fa-f]{1,8}", text) is None:
        raise UsageError(f"{text!r} is not a handle; give one such as 0x81010002")
    return int(text, 16)


def read_auth(path: Path | None) -> bytes:
    """An authorisation value, without the newline at its end. Raises MissingComponent, MalformedInput."""
    return b"" if path is None else read_bytes(path, _MAX_AUTH + 1).removesuffix(b"\n")
