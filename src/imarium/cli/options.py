"""Options that several commands share, and what their texts mean."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated

import typer

from imarium import hashes
from imarium.errors import UsageError
from imarium.formats.registers import PcrIndex
from imarium.hashes import HashAlgorithm

__all__ = [
    "TCTI_VARIABLES",
    "Banks",
    "Json",
    "Output",
    "RegisterNames",
    "Registers",
    "Rot",
    "SourceDirectory",
    "StoreDirectory",
    "Tcti",
    "chosen_tcti",
    "hex_bytes",
    "named_banks",
    "nonce_bytes",
    "register_numbers",
]

PCRS = 24
TCTI_VARIABLES = ("IMARIUM_TCTI", "TPM2TOOLS_TCTI")
"""Where commands look for the TPM's name without --tcti, in this order."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write here [default: standard output].")
]
Tcti = Annotated[
    str | None,
    typer.Option(
        "--tcti",
        metavar="NAME",
        envvar=list(TCTI_VARIABLES),
        help="The TPM, such as swtpm:host=127.0.0.1,port=2321; by default this machine's.",
    ),
]
Registers = Annotated[
    list[int] | None, typer.Option("--register", "-r", metavar="N", help="A register; may be repeated.")
]
RegisterNames = Annotated[
    list[str] | None, typer.Option("--register", "-r", metavar="NAME", help="A register; may be repeated.")
]
Rot = Annotated[
    str | None,
    typer.Option("--rot", metavar="NAME", help="A root of trust, such as tdx or software:FILE; see imarium rot list."),
]
Banks = Annotated[list[str] | None, typer.Option("--bank", metavar="ALG", help="A bank; may be repeated.")]
StoreDirectory = Annotated[
    Path | None,
    typer.Option("--store", metavar="DIR", help="The store [default: /var/lib/imarium for root, else the user's]."),
]
SourceDirectory = Annotated[
    Path | None,
    typer.Option("--source", metavar="DIR", help="Directory of the list files [default: the kernel's, in securityfs]."),
]


def hex_bytes(name: str, text: str) -> bytes:
    """The bytes an option gives in hexadecimal. Raises UsageError."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UsageError(f"{name} {text!r} is not hexadecimal") from None


def nonce_bytes(text: str) -> bytes:
    """The nonce that ``--nonce`` gives. Raises UsageError, also for an empty one."""
    nonce = hex_bytes("--nonce", text)
    if not nonce:
        raise UsageError("the nonce is empty, so that any old quote would do; give the one that the verifier chose")
    return nonce


def chosen_tcti(named: str | None) -> str | None:
    """The TPM that an option or else the environment names, where the option has no variables of its own."""
    return named or next(filter(None, map(os.environ.get, TCTI_VARIABLES)), None)


def register_numbers(numbers: Iterable[int] | None) -> list[PcrIndex]:
    """The PCRs an option names. Raises UsageError."""
    found = [PcrIndex(number) for number in numbers or ()]
    for number in found:
        if not 0 <= number < PCRS:
            raise UsageError(f"there is no register {number}; a TPM has 0 to {PCRS - 1}")
    return found


def named_banks(names: Collection[str] | None) -> list[HashAlgorithm]:
    """The banks an option names, each once. Raises UsageError."""
    return list(dict.fromkeys(map(hashes.by_name, names or ())))
