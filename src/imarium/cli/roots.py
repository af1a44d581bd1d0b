"""Roots of trust by name, for ``imarium rot``: what each driver has to say, and registers read and extended."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from imarium.cli.output import console, emit_json, progress_console
from imarium.errors import ImariumError, UsageError
from imarium.hashes import HashAlgorithm
from imarium.registers import discover
from imarium.rot import CountsUpdates, Driver, RootOfTrust, TpmRoot, Values, drivers, open_root

__all__ = ["extend_root", "list_roots", "read_root"]


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
    argument = {"tpm": tcti or "", "tsm": next(iter(discover()), "")}.get(driver.name, "")
    try:
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
    if isinstance(root, TpmRoot):
        found["unknown_banks"] = [f"tpm_alg_{identifier:x}" for identifier in root.device.unknown_banks()]
    return found


def read_root(name: str, registers: Collection[str], banks: Collection[HashAlgorithm], *, json: bool) -> None:
    """Print registers of a root of trust, by default all that have a hash algorithm. Raises UsageError."""
    with open_root(name) as root:
        there = dict.fromkeys(register.name for register in root.registers() if register.hash)
        values = root.read(tuple(registers) or tuple(there))
        counter = _counter(root)
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
    if root.kind == "software":
        progress_console().print("registers of the software root of trust prove nothing", markup=False)


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
