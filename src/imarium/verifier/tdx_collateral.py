"""What Intel says of the platform that made a quote: step 10 of :mod:`imarium.verifier.tdx`.

This is the only module that touches dcap-qvl. The library is imported when collateral is checked; it is given the
quote, the collateral and the time, and asks nobody else.
"""

import importlib
from dataclasses import dataclass
from functools import cache
from types import ModuleType

from imarium.errors import MissingComponent
from imarium.verifier.reason import Reason

__all__ = ["MAX_COLLATERAL_SIZE", "TcbStatus", "check_collateral"]

MAX_COLLATERAL_SIZE = 4 << 20
"""Characters. Collateral has some 20 KB, most of it a revocation list."""


@dataclass(frozen=True, slots=True)
class TcbStatus:
    """What Intel's collateral says of a platform and its quoting enclave: a TCB status, and security advisories."""

    status: str
    advisories: tuple[str, ...]


@cache
def _library() -> ModuleType:
    try:
        return importlib.import_module("dcap_qvl")
    except ImportError as error:
        install = "pip install 'imarium[tdx]'"
        raise MissingComponent(f"checking a TDX quote's collateral needs dcap-qvl ({error}): {install}") from error


def check_collateral(quote: bytes, collateral: str, *, now: int, root_ca: bytes | None) -> TcbStatus | Reason:
    """The status of the platform that made ``quote``, or why there is none.

    ``quote`` is without padding. ``collateral`` is JSON, as dcap-qvl writes it: certificate chains and JSON documents
    as text, revocation lists and signatures in hexadecimal. ``now`` is in seconds of Unix time. ``root_ca`` is a
    certificate in DER; None is Intel's production root. Raises MissingComponent without dcap-qvl.
    """
    library = _library()
    if len(collateral) > MAX_COLLATERAL_SIZE:
        detail = f"the collateral has {len(collateral)} characters, more than {MAX_COLLATERAL_SIZE}"
        return Reason("collateral_malformed", detail)
    try:
        parsed = library.QuoteCollateralV3.from_json(collateral)
    except ValueError as error:
        return Reason("collateral_malformed", f"the collateral cannot be read: {_line(error)}")
    try:
        if root_ca is None:
            report = library.verify(quote, parsed, now)
        else:
            report = library.verify_with_root_ca(quote, parsed, root_ca, now)
    except ValueError as error:
        return Reason("collateral_refused", f"quote and collateral do not verify: {_line(error)}")
    return TcbStatus(str(report.status), tuple(str(advisory) for advisory in report.advisory_ids))


def _line(error: Exception) -> str:
    """The error's text on one line."""
    return " ".join(str(error).split())
