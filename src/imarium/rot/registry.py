"""Which roots of trust there are, in order of priority, and which one is used.

Drivers of third parties are entry points of the group ``imarium.rot``, each a :class:`Driver`; they come after the
project's own. A name is ``DRIVER`` or ``DRIVER:ARGUMENT``, the argument being the driver's own.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from imarium.errors import ImariumError, MissingComponent, RefusedOperation, UsageError
from imarium.rot.cca import cca_root, virtcca_root
from imarium.rot.protocol import HasCaveat, RootOfTrust
from imarium.rot.snp import snp_root
from imarium.rot.software import software_root
from imarium.rot.tdx import tdx_root
from imarium.rot.tpm_root import TpmRoot, tpm_root
from imarium.rot.tsm import first_device, tsm_root

__all__ = ["BUILTIN", "GROUP", "Choice", "Driver", "choose_root", "default_root", "drivers", "open_root"]

GROUP = "imarium.rot"
_LOG = logging.getLogger("imarium.rot")
_FAULTS = (
    *(ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError),
    *(LookupError, ArithmeticError, AssertionError, RuntimeError, OSError),
)
"""What a driver of somebody else's may raise: one that is broken must not take the others with it."""


@dataclass(frozen=True, slots=True)
class Driver:
    """A kind of root of trust.

    ``make`` makes one from the argument in its name, which may be empty, without touching the device; it raises
    UsageError for an argument it does not understand. ``automatic`` ones are tried where none is named. ``present``
    gives the argument that a driver needs to be looked for with, where it does not find its device without one.
    ``by_tcti`` says that the argument begins with the name of a TPM, as tpm2-tools have it.
    """

    name: str
    summary: str
    make: Callable[[str], RootOfTrust]
    automatic: bool = True
    present: Callable[[], str] = str
    by_tcti: bool = False


BUILTIN: tuple[Driver, ...] = (
    Driver("tpm", "TPM 2.0", tpm_root, by_tcti=True),
    Driver("tdx", "Intel TDX", tdx_root),
    Driver("virtcca", "Huawei VirtCCA", virtcca_root),
    Driver("cca", "Arm CCA", cca_root),
    Driver("snp", "AMD SEV-SNP with the vTPM of an SVSM", snp_root, by_tcti=True),
    Driver(
        "tsm", "the registers of any tsm-mr device, without quotes", tsm_root, automatic=False, present=first_device
    ),
    Driver("software", "registers of imarium's own, which prove nothing", software_root, automatic=False),
)
"""The project's own drivers, in order of priority."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen: ``root``, open, or None, which is bypass.

    In bypass records are kept and nothing is extended; ``bypass`` says why. ``refused`` has the drivers that were
    tried before and the reason of each.
    """

    root: RootOfTrust | None
    bypass: str | None
    refused: tuple[tuple[str, str], ...] = ()


def drivers() -> tuple[Driver, ...]:
    """Every driver, in order of priority. One of a third party that cannot be loaded says why when it is used."""
    found = {driver.name: driver for driver in BUILTIN}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if point.name in found:
            _LOG.warning("root of trust %s of %s is ignored: the name is taken", point.name, point.value)
        else:
            found[point.name] = _load(point)
    return tuple(found.values())


def open_root(name: str, among: Sequence[Driver] | None = None) -> RootOfTrust:
    """The root of trust of this name, open. Raises UsageError for an unknown one, and what its driver raises.

    What a third party's driver raises against the rules is MissingComponent.
    """
    driver, argument = _find(name, drivers() if among is None else among)
    if driver in BUILTIN:
        return _opened(driver, argument)
    try:
        return _opened(driver, argument)
    except _FAULTS as error:
        raise MissingComponent(
            f"the driver {driver.name} broke: {type(error).__name__}: {error}; mend its package"
        ) from error


def default_root(tcti: str | None = None) -> RootOfTrust:
    """The root of trust that is used where none is named: the TPM, open. ``tcti`` names another than this machine's.

    Raises UsageError, MissingComponent.
    """
    root = TpmRoot(tcti)
    root.init()
    return root


def choose_root(name: str | None = None, among: Sequence[Driver] | None = None) -> Choice:
    """The root of trust to anchor a list in, open; never an error. Bypass is logged as a warning, and so is a caveat.

    With no name, the first automatic driver that opens and can extend its default register. With the name of a
    driver, that one or none. With another, none.
    """
    known = drivers() if among is None else among
    tried = [driver.name for driver in known if driver.automatic] if name is None else [name]
    refused: list[tuple[str, str]] = []
    for driver in tried:
        try:
            root = _open_to_anchor(driver, known)
        except ImariumError as error:
            refused.append((driver, str(error)))
            continue
        if isinstance(root, HasCaveat):
            _LOG.warning("%s: %s", root.name, root.caveat)
        return Choice(root, None, tuple(refused))
    if name is None:
        listed = "; ".join(f"{driver}: {reason}" for driver, reason in refused) or "there are no drivers"
        why = f"no root of trust opens ({listed})"
    else:
        why = refused[0][1]
    _LOG.warning("BYPASS: records are kept, NOTHING IS ANCHORED: %s", why)
    return Choice(None, why, tuple(refused))


def _opened(driver: Driver, argument: str) -> RootOfTrust:
    root = driver.make(argument)
    try:
        root.init()
    except ImariumError:
        root.close()
        raise
    return root


def _open_to_anchor(name: str, among: Sequence[Driver]) -> RootOfTrust:
    """As :func:`open_root`. Raises RefusedOperation for one that cannot extend its default register."""
    root = open_root(name, among)
    with ExitStack() as stack:
        stack.callback(root.close)
        of_default = [register for register in root.registers() if register.name == root.default_register]
        if not of_default or not all(register.extensible for register in of_default):
            what = f"{root.name} cannot extend its default register {root.default_register!r}"
            raise RefusedOperation(f"{what}; name another register or device")
        stack.pop_all()
    return root


def _find(name: str, among: Sequence[Driver]) -> tuple[Driver, str]:
    wanted, _, argument = name.partition(":")
    if "\0" in argument:
        raise UsageError(f"the name of a root of trust {wanted!r} has a NUL in it; leave it out")
    for driver in among:
        if driver.name == wanted:
            return driver, argument
    known = ", ".join(driver.name for driver in among)
    raise UsageError(f"unknown root of trust {wanted!r}; known are {known}")


def _load(point: EntryPoint) -> Driver:
    try:
        driver = point.load()
    except _FAULTS as error:
        return _broken(point, f"{type(error).__name__}: {error}")
    if not isinstance(driver, Driver) or driver.name != point.name:
        return _broken(point, f"it is no imarium.rot.Driver called {point.name}")
    return driver


def _broken(point: EntryPoint, reason: str) -> Driver:
    def refuse(_argument: str) -> RootOfTrust:
        raise MissingComponent(f"the driver {point.name} ({point.value}) cannot be loaded: {reason}; mend its package")

    return Driver(point.name, f"a driver that cannot be loaded: {point.value}", refuse)
