"""What ``imarium verify`` is told to trust: a table of the options that each kind of root of trust has.

A kind is a dataclass whose fields are its options and whose ``trusted`` makes the verifier's terms of them. The command
that takes them names none: :func:`takes_trust` gives it all of their options.
"""

import inspect
from collections.abc import Callable, Collection
from dataclasses import fields
from typing import Any, Protocol

from imarium.cli.trust.cca import CcaOptions
from imarium.cli.trust.every_kind import EveryKind, moment, read_certificate, read_root, read_tpm_key
from imarium.cli.trust.snp import SnpOptions
from imarium.cli.trust.software import SoftwareOptions
from imarium.cli.trust.tdx import TdxOptions
from imarium.cli.trust.tpm import TpmOptions
from imarium.errors import UsageError
from imarium.verifier import SnpTrust, SoftwareTrust, TpmTrust, Trust

__all__ = ["moment", "read_certificate", "read_root", "read_tpm_key", "takes_trust"]


class _Options(Protocol):
    def trusted(self, every: EveryKind) -> Collection[Trust]: ...


_KINDS: tuple[Callable[..., _Options], ...] = (TpmOptions, TdxOptions, CcaOptions, SnpOptions, SoftwareOptions)
_PARAMETER = "trust"


def takes_trust(command: Callable[..., int]) -> Callable[..., int]:
    """The command with the options of every kind in place of its parameter ``trust``, which gets what they name."""

    def with_options(**given: Any) -> int:  # noqa: ANN401 - what Typer makes of the options
        every = _taken(EveryKind, given)
        kinds = [_taken(kind, given) for kind in _KINDS]
        return command(**given, trust=_trusted(every, kinds))

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        parameters += _options() if parameter.name == _PARAMETER else [parameter]
    with_options.__doc__ = command.__doc__
    with_options.__dict__["__signature__"] = inspect.Signature(parameters, return_annotation=int)
    return with_options


def _trusted(every: EveryKind, kinds: Collection[_Options]) -> list[Trust]:
    trust = [each for kind in kinds for each in kind.trusted(every)]
    if any(isinstance(each, SnpTrust) for each in trust):  # else leaving out the report would do
        trust = [each for each in trust if not isinstance(each, TpmTrust)]
    if not trust:
        raise UsageError(
            "name the attestation key you trust with --ak; the machine has it as ak.pub. For another root of trust "
            "than a TPM see --help"
        )
    _check_anchoring(every, trust)
    return trust


def _check_anchoring(every: EveryKind, trust: Collection[Trust]) -> None:
    """Raise UsageError for what is said of a list's registers where nothing is trusted that it could be about."""
    elsewhere = [each for each in trust if not isinstance(each, TpmTrust | SnpTrust)]
    if not elsewhere and (every.column or every.initial or every.bridged):
        raise UsageError(
            "--column, --initial and --bridged are not about a TPM; leave them out, or name a TDX or CCA anchor"
        )
    if every.initial and all(isinstance(each, SoftwareTrust) for each in elsewhere):
        raise UsageError("the registers of a software root start at zero; leave out --initial")


def _options() -> list[inspect.Parameter]:
    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [
        inspect.Parameter(field.name, keyword, default=field.default, annotation=field.type)
        for kind in (EveryKind, *_KINDS)
        for field in fields(kind)  # type: ignore[arg-type]
    ]


def _taken(kind: Callable[..., Any], given: dict[str, Any]) -> Any:  # noqa: ANN401 - one of the kinds
    return kind(**{field.name: given.pop(field.name) for field in fields(kind)})  # type: ignore[arg-type]
