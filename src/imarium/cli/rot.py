"""``imarium rot``: the roots of trust of this machine."""

import enum
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from imarium import hashes
from imarium.cli.bridge import bridge
from imarium.cli.documents import read_bytes, write_atomically
from imarium.cli.options import PCRS, Banks, Json, Registers, Tcti, hex_bytes, named_banks, register_numbers
from imarium.cli.output import console, emit_json, progress_console
from imarium.cli.roots import extend_root, list_roots, read_root
from imarium.errors import MissingComponent, RefusedOperation, UsageError
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.formats.tpm import EccKey, PcrValues, SignatureScheme, parse_public
from imarium.hashes import HashAlgorithm
from imarium.rot import EndorsementKind, KeyKind, StoredKey, Tpm, holds_key, load_key, read_sysfs, save_key

__all__ = ["app"]

app = typer.Typer(help="List, read, extend and quote roots of trust.", no_args_is_help=True, rich_markup_mode=None)
app.command()(bridge)

_EVERY_PCR = tuple(PcrIndex(index) for index in range(PCRS))
_MAX_AUTH = 64

EndorsementAuth = Annotated[
    Path | None,
    typer.Option("--endorsement-auth", metavar="FILE", help="Holds the endorsement hierarchy's authorisation value."),
]
Names = Annotated[
    list[str] | None, typer.Option("--register", "-r", metavar="NAME", help="A register; may be repeated.")
]
Rot = Annotated[
    str | None,
    typer.Option("--rot", metavar="NAME", help="A root of trust, such as tdx or software:FILE; see imarium rot list."),
]


class _Key(enum.StrEnum):
    ecc = "ecc"
    rsa = "rsa"


class _Scheme(enum.StrEnum):
    ecdsa = "ecdsa"
    rsassa = "rsassa"
    rsapss = "rsapss"


@app.command("list")
def list_(tcti: Tcti = None, json: Json = False) -> None:
    """Show every driver in order of priority, whether it opens on this machine, and why not."""
    list_roots(tcti, json=json)


@app.command()
def read(
    register: Names = None,
    bank: Banks = None,
    rot: Rot = None,
    tcti: Tcti = None,
    sysfs: Annotated[
        Path | None, typer.Option("--sysfs", metavar="DIR", help="Read the kernel's files in DIR, without the TSS.")
    ] = None,
    json: Json = False,
) -> None:
    """Print registers' values: those of the TPM in the form of tpm2_pcrread, with --rot as NAME:BANK and the value."""
    banks = named_banks(bank)
    if rot is not None:
        if sysfs is not None:
            raise UsageError("--sysfs reads a TPM's files; leave out --rot or --sysfs")
        read_root(rot, register or (), banks, json=json)
        return
    registers = register_numbers([_number(name) for name in register or ()]) or None
    document: dict[str, object] = {}
    if sysfs is not None:
        shown = read_sysfs(sysfs, registers)
        missing = [found.name for found in banks if found not in shown]
        if missing:
            raise UsageError(f"{sysfs} has no {missing[0]} bank; it has {', '.join(found.name for found in shown)}")
        values: PcrValues = {found: shown[found] for found in banks or shown}
    else:
        with Tpm(tcti) as tpm:
            values = tpm.read(registers or _EVERY_PCR, banks or None)
            document["update_counter"] = tpm.update_counter()
    if json:
        emit_json({"registers": _by_register(values), **document})
    else:
        console().print(_as_pcrread(values), markup=False, end="")


@app.command()
def extend(
    register: Annotated[str, typer.Argument(metavar="REGISTER")],
    digests: Annotated[list[str], typer.Argument(metavar="BANK=HEX...", help="A digest for each bank.")],
    rot: Rot = None,
    tcti: Tcti = None,
    json: Json = False,
) -> None:
    """Extend a register. A TPM's bank that is not named stays as it is; with --rot, all banks must be named."""
    given = dict(map(_digest, digests))
    if len(given) != len(digests):
        raise UsageError("a bank is named twice; give one digest for each")
    if rot is not None:
        extend_root(rot, register, given, json=json)
        return
    (index,) = register_numbers([_number(register)])
    with Tpm(tcti) as tpm:
        tpm.extend(index, given)
        left = [bank.name for bank in tpm.banks() if bank not in given]
        values = tpm.read([index])
        counter = tpm.update_counter()
    if json:
        emit_json({"registers": _by_register(values), "update_counter": counter, "not_extended": left})
        return
    console().print(_as_pcrread(values), markup=False, end="")
    if left:
        progress_console().print(f"not extended: {', '.join(left)}; anyone can still put anything there", markup=False)


@app.command()
def quote(
    nonce: Annotated[str, typer.Option("--nonce", metavar="HEX", help="What the verifier gave, bound as it is.")],
    ak: Annotated[Path, typer.Option("--ak", metavar="DIR", help="The attestation key, made by imarium rot ak.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Write the quote's files into DIR.")
    ] = None,
    register: Registers = None,
    bank: Banks = None,
    tcti: Tcti = None,
    endorsement_auth: EndorsementAuth = None,
    json: Json = False,
) -> None:
    """Have the TPM sign the values of registers, by default register 10 in all banks.

    DIR then has quote.msg (TPMS_ATTEST), quote.sig (TPMT_SIGNATURE), ak.pub (TPM2B_PUBLIC) and pcrs.txt.
    """
    bound = hex_bytes("--nonce", nonce)
    if output is None and not json:
        raise UsageError("the quote needs a place: give -o DIR, or --json")
    registers = tuple(sorted(set(register_numbers(register)))) or (IMA_PCR,)
    with Tpm(tcti, load_key(ak), endorsement_auth=_auth(endorsement_auth)) as tpm:
        made = tpm.quote(bound, dict.fromkeys(named_banks(bank) or tpm.banks(), registers))
    name = parse_public(made.ak).name
    if output is not None:
        _write_files(
            output,
            {
                "quote.msg": made.attest,
                "quote.sig": made.signature,
                "ak.pub": made.ak,
                "pcrs.txt": _as_pcrread(made.values).encode(),
            },
        )
    if json:
        emit_json(
            {
                "attest": made.attest.hex(),
                "signature": made.signature.hex(),
                "ak": made.ak.hex(),
                "ak_name": name.hex(),
                "registers": _by_register(made.values),
                "directory": None if output is None else str(output),
            }
        )
    else:
        console().print(f"quoted into {output} by {name.hex()}", markup=False)


@app.command()
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
        above = EndorsementKind.RSA_2048 if parent is _Key.rsa else EndorsementKind.ECC_P256
        kind = _kind(key, scheme)
        _check_place(directory)
        with Tpm(tcti, endorsement_auth=_auth(endorsement_auth), owner_auth=_auth(owner_auth)) as tpm:
            stored = tpm.create_ak(kind, above, persistent=handle)
        save_key(directory, stored)
    elif (key, scheme, persistent, parent) != (None, None, None, None):
        raise RefusedOperation(f"{directory} holds a key already; choose another directory for a new one")
    else:
        stored = load_key(directory)
    _show_key(directory, stored, created=created, json=json)


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
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise RefusedOperation(f"{directory} is there already and not an empty directory; choose another")
    if not directory.absolute().parent.is_dir():
        raise MissingComponent(f"{directory.absolute().parent} is not there; make it first")


def _handle(text: str) -> int:
    if re.fullmatch(r"0x[0-9A-Fa-f]{1,8}", text) is None:
        raise UsageError(f"{text!r} is not a handle; give one such as 0x81010002")
    return int(text, 16)


def _auth(path: Path | None) -> bytes:
    return b"" if path is None else read_bytes(path, _MAX_AUTH + 1).removesuffix(b"\n")


def _digest(text: str) -> tuple[HashAlgorithm, bytes]:
    name, separator, value = text.partition("=")
    if not separator:
        raise UsageError(f"{text!r} is not BANK=HEX, such as sha256=8f0a...")
    return hashes.by_name(name), hex_bytes(name, value)


def _number(name: str) -> int:
    if not (name.isascii() and name.isdigit()):
        raise UsageError(f"{name!r} is no PCR; give its number, or the root of trust that has it with --rot")
    return int(name)


def _by_register(values: PcrValues) -> dict[str, dict[str, str]]:
    registers: dict[PcrIndex, dict[str, str]] = {}
    for bank, of_bank in values.items():
        for index, value in of_bank.items():
            registers.setdefault(index, {})[bank.name] = value.hex()
    return {str(index): registers[index] for index in sorted(registers)}


def _as_pcrread(values: PcrValues) -> str:
    lines: list[str] = []
    for bank, of_bank in values.items():
        lines.append(f"  {bank.name}:")
        lines += [f"    {index:<2}: 0x{of_bank[index].hex().upper()}" for index in sorted(of_bank)]
    return "\n".join(lines) + "\n"


def _write_files(directory: Path, files: Mapping[str, bytes]) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MissingComponent(f"cannot make {directory}: {error.strerror}") from error
    for name, content in files.items():
        write_atomically(directory / name, content)
