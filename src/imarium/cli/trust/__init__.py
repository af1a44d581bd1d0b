"""What ``imarium verify`` is told to trust: a table of the options that each kind of root of trust has.

A kind is a dataclass whose fields are its options and whose ``trusted`` makes the verifier's terms of them. The command
that takes them names none: :func:`takes_trust` gives it all of their options.
"""

import inspect
from collections.abc import Callable, Collection
from dataclasses import fields
from typing import Any, Protocol

from imarium.cli.trust.cca import CcaOptions
from imarium.cli.trust.common import Common, moment, read_certificate, read_tpm_key
from imarium.cli.trust.snp import SnpOptions
from imarium.cli.trust.software import SoftwareOptions
from imarium.cli.trust.tdx import TdxOptions
from imarium.cli.trust.tpm import TpmOptions
from imarium.errors import UsageError
from imarium.verifier import SnpTrust, TpmTrust, Trust

__all__ = ["moment", "read_certificate", "read_tpm_key", "takes_trust"]


class _Options(Protocol):
    def trusted(self, common: Common) -> Collection[Trust]: ...


_KINDS: tuple[Callable[..., _Options], ...] = (TpmOptions, TdxOptions, CcaOptions, SnpOptions, SoftwareOptions)
_PARAMETER = "trust"


def takes_trust(command: Callable[..., int]) -> Callable[..., int]:
    """The command with the options of every kind in place of its parameter ``trust``, which gets what they name."""

    def with_options(**given: Any) -> int:  # noqa: ANN401 - what Typer makes of the options
        common = _taken(Common, given)
        kinds = [_taken(kind, given) for kind in _KINDS]
        return command(**given, trust=_trusted(common, kinds))

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        parameters += _options() if parameter.name == _PARAMETER else [parameter]
    with_options.__doc__ = command.__doc__
    with_options.__dict__["__signature__"] = inspect.Signature(parameters, return_annotation=int)
    return with_options


def _trusted(common: Common, kinds: Collection[_Options]) -> list[Trust]:
    trust = [each for kind in kinds for each in kind.trusted(common)]
    if any(isinstance(each, SnpTrust) for each in trust):  # else leaving out the report would do
        trust = [each for each in trust if not isinstance(each, TpmTrust)]
    if not trust:
        raise UsageError(
            "name the attestation key you trust with --ak; the machine has it as ak.pub. For another root of trust "
            "than a TPM see --help"
        )
    return trust


def _options() -> list[inspect.Parameter]:
    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [
        inspect.Parameter(field.name, keyword, default=field.default, annotation=field.type)
        for kind in (Common, *_KINDS)
        for field in fields(kind)  # type: ignore[arg-type]
    ]


def _taken(kind: Callable[..., Any], given: dict[str, Any]) -> Any:  # noqa: ANN401 - one of the kinds
    return kind(**{field.name: given.pop(field.name) for field in fields(kind)})  # type: ignore[arg-type]
