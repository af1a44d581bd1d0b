"""Roots of trust by name, for ``imarium rot``: what each driver has to say, registers read, extended and quoted."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from imarium.cli.output import console, emit_json, progress_console
from imarium.errors import ImariumError, UsageError
from imarium.hashes import HashAlgorithm
from imarium.rot import (
    CountsUpdates,
    Driver,
    HasCaveat,
    HasUnknownBanks,
    KeyedQuotes,
    RootOfTrust,
    Values,
    choose_root,
    drivers,
    open_root,
)

__all__ = ["choose", "extend_root", "list_roots", "prepare_quotes", "quote_root", "read_root", "tell_caveat"]


@dataclass(frozen=True, slots=True)
class _Probed:
    """A driver and what opening it showed."""

    driver: Driver
    document: Mapping[str, object]

    @property
    def line(self) -> str:
        found = self.document
        name = f"{self.driver.name} ({self.driver.summary})"
        if not found["available"]:
            return f"{name}: not available: {found['detail']}"
        banks, unknown = found["banks"], found.get("unknown_banks", [])
        listed = [str(bank) for part in (banks, unknown) if isinstance(part, list) for bank in part]
        can = "" if found["extensible"] else "; cannot be extended"
        return f"{name}: available; default register {found['default_register']}; banks {', '.join(listed)}{can}"


def list_roots(tcti: str | None, *, json: bool) -> None:
    """Print every driver, in order of priority, and whether it opens here."""
    probed = [_probe(driver, tcti) for driver in drivers()]
    if json:
        emit_json({"drivers": [each.document for each in probed]})
        return
    out = console()
    for each in probed:
        out.print(each.line, markup=False)


def _probe(driver: Driver, tcti: str | None) -> _Probed:
    document: dict[str, object] = {
        "name": driver.name,
        "summary": driver.summary,
        "automatic": driver.automatic,
        "available": False,
        "detail": None,
    }
    try:
        argument = tcti or "" if driver.by_tcti else driver.present()
        with open_root(f"{driver.name}:{argument}", [driver]) as root:
            document |= _opened(root)
    except ImariumError as error:
        document["detail"] = str(error)
    return _Probed(driver, document)


def _opened(root: RootOfTrust) -> dict[str, object]:
    default = [register for register in root.registers() if register.name == root.default_register]
    found: dict[str, object] = {
        "available": True,
        "kind": root.kind,
        "default_register": root.default_register,
        "extensible": bool(default) and all(register.extensible for register in default),
        "banks": [bank.name for bank in root.banks()],
    }
    if isinstance(root, HasUnknownBanks):
        found["unknown_banks"] = list(root.unknown_banks())
    return found


def choose(name: str | None, *, json: bool) -> bool:
    """Print which root of trust a name chooses, or none does, and whether there is one."""
    choice = choose_root(name)
    document: dict[str, object] = {
        "chosen": None,
        "register": None,
        "bypass": choice.bypass,
        "refused": [{"driver": driver, "detail": detail} for driver, detail in choice.refused],
    }
    if choice.root is not None:
        with choice.root as root:
            document |= {"chosen": root.name, "register": root.default_register}
    if json:
        emit_json(document)
    elif choice.root is not None:
        console().print(f"{document['chosen']}: a list is anchored in register {document['register']}", markup=False)
    return choice.root is not None


def read_root(name: str, registers: Collection[str], banks: Collection[HashAlgorithm], *, json: bool) -> None:
    """Print registers of a root of trust, by default all that have a hash algorithm. Raises UsageError."""
    with open_root(name) as root:
        there = dict.fromkeys(register.name for register in root.registers() if register.hash)
        values = root.read(tuple(registers) or tuple(there))
        counter = _counter(root)
        tell_caveat(root)
    if banks:
        values = {register: {b: v for b, v in of.items() if b in banks} for register, of in values.items()}
        if not any(values.values()):
            raise UsageError(
                f"{name} has no {', '.join(bank.name for bank in banks)} bank; leave out --bank to see all"
            )
    _show(values, counter, json=json)


def extend_root(name: str, register: str, digests: Mapping[HashAlgorithm, bytes], *, json: bool) -> None:
    """Extend a register of a root of trust, in all of its banks, and print its new value."""
    with open_root(name) as root:
        root.extend(register, digests)
        values = root.read([register])
        counter = _counter(root)
    _show(values, counter, json=json)
    tell_caveat(root)


def quote_root(
    name: str, nonce: bytes, registers: Collection[str], banks: Collection[HashAlgorithm], ak: Path | None
) -> tuple[dict[str, object], dict[str, bytes]]:
    """Have a root of trust quote: a JSON document, and the files it is written as."""
    with open_root(name) as root:
        prepare_quotes(root, ak, banks)
        made = root.quote(nonce, tuple(registers))
        tell_caveat(root)
    values = {key: {bank.name: value.hex() for bank, value in of.items()} for key, of in made.values.items()}
    beside = {part: data.hex() for part, data in made.beside.items()}
    document: dict[str, object] = {
        "kind": made.kind,
        "statement": made.statement.hex(),
        "beside": beside,
        "registers": values,
    }
    text = "".join(f"{key}:{bank} {value}\n" for key, of in values.items() for bank, value in of.items())
    return document, {"statement": made.statement, **made.beside, "registers.txt": text.encode()}


def prepare_quotes(root: RootOfTrust, key: Path | None, banks: Collection[HashAlgorithm]) -> None:
    """Tell a root of trust the key and the banks to quote with, and make the key where it is not there.

    Raises UsageError where one is given that this root of trust has no use for.
    """
    if isinstance(root, KeyedQuotes):
        root.use_banks(banks)
        if key is not None and root.use_key(key):
            said = f"made an attestation key; verifiers need {key / 'ak.pub'}"
            progress_console().print(said, soft_wrap=True, markup=False)
    elif key is not None or banks:
        option = "--bank" if banks else "--ak"
        raise UsageError(f"{root.name} quotes with its own key, in all its banks; leave out {option}")


def tell_caveat(root: RootOfTrust) -> None:
    """Say on standard error what everyone who uses this root of trust has to know."""
    if isinstance(root, HasCaveat):
        progress_console().print(root.caveat, markup=False, soft_wrap=True)


def _counter(root: RootOfTrust) -> dict[str, int]:
    return {"update_counter": root.update_counter()} if isinstance(root, CountsUpdates) else {}


def _show(values: Values, counter: Mapping[str, int], *, json: bool) -> None:
    if json:
        registers = {name: {bank.name: value.hex() for bank, value in of.items()} for name, of in values.items()}
        emit_json({"registers": registers, **counter})
        return
    out = console()
    for name, of in values.items():
        for bank, value in of.items():
            out.print(f"{name}:{bank.name} {value.hex()}", markup=False)
