"""Owners of measurement registers, and their registers, as the command line names them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imarium.cli.roots import tell_caveat
from imarium.errors import MissingComponent, UsageError
from imarium.registers import FileRegisters, Provider, Register, TsmRegisters, discover, find_register
from imarium.rot import drivers, open_register, open_root
from imarium.rot.root_registers import registers_of

__all__ = ["named_anchor", "named_provider", "named_register"]

_PROVIDERS = ("tsm", "file")


def named_provider(name: str | None) -> Provider:
    """``tsm:DEVICE``, ``tsm:DIR``, ``file:PATH`` or a root of trust; where None, the one device that has registers.

    A root of trust stays open until the process ends. Raises UsageError, MissingComponent, and what its driver raises.
    """
    if name is None:
        devices = discover()
        if len(devices) != 1:
            found = f"several have: {', '.join(devices)}" if devices else "none has"
            raise MissingComponent(f"of this machine's devices {found} measurement registers; give --provider")
        return TsmRegisters(devices[0])
    kind, _, place = name.partition(":")
    if kind == "file" and place:
        return FileRegisters(Path(place))
    if kind == "tsm" and place:
        return TsmRegisters(Path(place) if "/" in place else place)
    if kind not in _PROVIDERS and any(driver.name == kind for driver in drivers()):
        root = open_root(name)
        tell_caveat(root)
        return registers_of(root)
    raise UsageError(f"{name!r} is not a provider; give tsm:DEVICE, tsm:DIR, file:PATH or a root of trust")


def named_register(name: str) -> tuple[Provider, Register]:
    """A provider and one of its registers: ``tsm:DEVICE:REGISTER``, where REGISTER is ``NAME`` or ``NAME:HASH``.

    The register can be left out where only one is extensible. Raises UsageError, MissingComponent, MalformedInput.
    """
    kind, _, rest = name.partition(":")
    place, _, register = rest.partition(":")
    provider = named_provider(f"{kind}:{place}")
    if register:
        return provider, find_register(provider, register)
    extensible = [each for each in provider.registers() if each.extensible]
    if len(extensible) != 1:
        found = ", ".join(each.key for each in extensible) or "none"
        raise UsageError(f"{name} names no register; add :REGISTER, one of those that can be extended: {found}")
    return provider, extensible[0]


@contextmanager
def named_anchor(name: str) -> Iterator[tuple[Provider, Register]]:
    """A register of a provider, as :func:`named_register` names it, or of a root of trust: ``NAME[:REGISTER]``.

    Raises UsageError, MissingComponent, MalformedInput, and what a root of trust raises.
    """
    kind, _, rest = name.partition(":")
    if kind in _PROVIDERS and "," not in rest:
        yield named_register(name)
        return
    root, register = open_register(name)
    with root:
        tell_caveat(root)
        yield registers_of(root), register
