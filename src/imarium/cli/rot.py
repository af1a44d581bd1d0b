"""``imarium rot``: the roots of trust of this machine."""

from pathlib import Path
from typing import Annotated

import typer

from imarium import hashes
from imarium.cli.bridge import bridge
from imarium.cli.documents import write_files
from imarium.cli.options import (
    PCRS,
    Banks,
    Json,
    RegisterNames,
    Rot,
    Tcti,
    hex_bytes,
    named_banks,
    nonce_bytes,
    register_numbers,
)
from imarium.cli.output import console, emit_json, progress_console
from imarium.cli.roots import choose, extend_root, list_roots, quote_root, read_root
from imarium.cli.tpm_keys import EndorsementAuth, ak, ek, read_auth
from imarium.errors import MissingComponent, UsageError
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.formats.tpm import PcrValues, parse_public
from imarium.hashes import HashAlgorithm
from imarium.rot import Tpm, load_key, read_sysfs

__all__ = ["app"]

app = typer.Typer(help="List, read, extend and quote roots of trust.", no_args_is_help=True, rich_markup_mode=None)
app.command()(bridge)
app.command()(ak)
app.command()(ek)

_MAX_DIGITS = 4
_EVERY_PCR = tuple(PcrIndex(index) for index in range(PCRS))


@app.command("list")
def list_(tcti: Tcti = None, json: Json = False) -> None:
    """Show every driver in order of priority, whether it opens on this machine, and why not."""
    list_roots(tcti, json=json)


@app.command("choose")
def choose_(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A root of trust, or nothing.")] = None,
    json: Json = False,
) -> int:
    """Show which root of trust a list is anchored in when NAME is named.

    Without NAME it is the first driver that opens and can extend; with a known NAME that one or none; with an unknown
    NAME none. None is bypass: records are kept and nothing is anchored. It is said on standard error, and the exit
    status is 4.
    """
    return 0 if choose(name, json=json) else MissingComponent.exit_status


@app.command()
def read(
    register: RegisterNames = None,
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
    registers = register_numbers(map(_number, register or ())) or None
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
    register: Annotated[str, typer.Argument(metavar="REGISTER", help="A PCR's number, or with --rot a name.")],
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
    key: Annotated[
        Path | None, typer.Option("--ak", metavar="DIR", help="A TPM's attestation key, made by imarium rot ak.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Write the quote's files into DIR.")
    ] = None,
    register: RegisterNames = None,
    bank: Banks = None,
    rot: Rot = None,
    tcti: Tcti = None,
    endorsement_auth: EndorsementAuth = None,
    json: Json = False,
) -> None:
    """Have a root of trust sign the values of registers: the TPM, or that of --rot.

    By default of the TPM's register 10 in all banks; DIR then has quote.msg (TPMS_ATTEST), quote.sig (TPMT_SIGNATURE),
    ak.pub (TPM2B_PUBLIC) and pcrs.txt. With --rot, DIR has statement, which is what the device gave, registers.txt, and
    what belongs to it, such as signature or event_log.
    """
    bound = nonce_bytes(nonce)
    if output is None and not json:
        raise UsageError("the quote needs a place: give -o DIR, or --json")
    if rot is not None:
        if endorsement_auth is not None:
            raise UsageError("--endorsement-auth is for the TPM; leave out --rot or --endorsement-auth")
        document, files = quote_root(rot, bound, register or (), named_banks(bank), key)
        _hand_out(document, files, output, f"quoted into {output}", json=json)
        return
    if key is None:
        raise UsageError("a TPM quotes with an attestation key; give --ak DIR, made by imarium rot ak DIR")
    registers = tuple(sorted(set(register_numbers(map(_number, register or ()))))) or (IMA_PCR,)
    with Tpm(tcti, load_key(key), endorsement_auth=read_auth(endorsement_auth)) as tpm:
        made = tpm.quote(bound, dict.fromkeys(named_banks(bank) or tpm.banks(), registers))
    name = parse_public(made.ak).name.hex()
    document = {
        "attest": made.attest.hex(),
        "signature": made.signature.hex(),
        "ak": made.ak.hex(),
        "ak_name": name,
        "registers": _by_register(made.values),
    }
    files = {
        "quote.msg": made.attest,
        "quote.sig": made.signature,
        "ak.pub": made.ak,
        "pcrs.txt": _as_pcrread(made.values).encode(),
    }
    _hand_out(document, files, output, f"quoted into {output} by {name}", json=json)


def _hand_out(
    document: dict[str, object], files: dict[str, bytes], output: Path | None, said: str, *, json: bool
) -> None:
    """Write a quote's files where wanted, and print its document, or what was done."""
    if output is not None:
        write_files(output, files)
    if json:
        emit_json(document | {"directory": None if output is None else str(output)})
    else:
        console().print(said, markup=False)


def _digest(text: str) -> tuple[HashAlgorithm, bytes]:
    name, separator, value = text.partition("=")
    if not separator:
        raise UsageError(f"{text!r} is not BANK=HEX, such as sha256=8f0a...")
    return hashes.by_name(name), hex_bytes(name, value)


def _number(name: str) -> int:
    if not (name.isascii() and name.isdigit() and len(name) <= _MAX_DIGITS):
        raise UsageError(f"{name[:20]!r} is no PCR; give its number, or the root of trust that has it with --rot")
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
