"""``imarium keep``: take custody of the kernel's measurement list."""

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from imarium.cli.keep_options import (
    CONFIGURATION,
    AtRecords,
    Check,
    ClientAuthorities,
    Configuration,
    Interval,
    Listen,
    Method,
    Once,
    Quotes,
    SourceTcti,
    TlsCertificate,
    TlsKey,
    Wait,
)
from imarium.cli.options import Json, SourceDirectory, StoreDirectory, chosen_tcti
from imarium.cli.output import console, emit_json, progress_console
from imarium.custody import (
    KILL_VARIABLE,
    KeepResult,
    Schedule,
    SourceConfig,
    WantedMethod,
    default_store,
    kill_at,
    no_registers,
)
from imarium.custody.machine import boot_id, machine_of, registers_of
from imarium.errors import ImariumError, MissingComponent, UsageError
from imarium.securityfs import ImaDirectory

__all__ = ["keep", "keep_once"]

_METHODS: dict[str, WantedMethod] = {"auto": "auto", "prompt": "prompt", "trim": "trim", "follow": "follow"}
_LOCK_PATIENCE = 2.0
_INTERVAL, _RECORDS, _WAIT = 60.0, 1000, 5.0
_NAME_IT = "; if a TPM has them, name it with --tcti, or tcti in a configuration"


def keep(
    source: SourceDirectory = None,
    store: StoreDirectory = None,
    method: Method = None,
    once: Once = False,
    interval: Interval = None,
    at_records: AtRecords = None,
    wait: Wait = None,
    config: Configuration = None,
    check: Check = False,
    tcti: SourceTcti = None,
    listen: Listen = None,
    tls_cert: TlsCertificate = None,
    tls_key: TlsKey = None,
    client_ca: ClientAuthorities = None,
    quotes: Quotes = False,
    as_json: Json = False,
) -> int:
    """Take custody of the kernel's measurement list: keep it, prove it, and free the kernel's memory.

    Nothing is deleted from the kernel before it is on stable storage and checked: replay has to reach the registers,
    where they can be read. Where none can, and none ever proved this log, the other checks decide, and the verdict is
    unproven. If registers are not reached, or proved the log before and cannot be read now, everything is kept, nothing
    is deleted, and the exit status is 1; so it stays where records are missing, until a restart resets the registers.

    Without --once it goes on until SIGTERM or SIGINT, then drains once more and ends with status 0. It says what it
    does on standard error, errors too, and goes on by itself when their cause is gone. With --json that is one JSON
    object a line. With --listen it answers verifiers over HTTP: records, registers, evidence.
    """
    api = _api(listen, tls_cert, tls_key, client_ca, quotes)
    alone = (source, store, method, interval, at_records, wait, tcti, api or None)
    if (config or check) and any(option is not None for option in alone):
        raise UsageError("--config and --check go with --once and --json only: say the rest in the configuration")
    if check:
        return int(_service_part().check(config or CONFIGURATION, as_json=as_json))
    if config is not None and not once:
        return int(_service_part().go_on_as_configured(config, as_json=as_json))
    if config is not None:
        return keep_once(_service_part().configured_sources(config), as_json=as_json)
    if (method or "auto") not in _METHODS:
        raise UsageError(f"unknown method {method!r}; choose {', '.join(_METHODS)}")
    tcti = chosen_tcti(tcti)
    lists = ImaDirectory(source, patience=_WAIT if wait is None else wait)
    kept = SourceConfig(
        name=str(lists.path),
        source=lists,
        store=store or default_store(),
        boot_id=boot_id(),
        registers=registers_of(lists.path, tcti),
        machine=machine_of(lists.path),
        method=_METHODS[method or "auto"],
        schedule=Schedule(interval=interval or _INTERVAL, records=at_records or _RECORDS),
        patience=_LOCK_PATIENCE,
        hook=kill_at(os.environ.get(KILL_VARIABLE)),
    )
    if once:
        if api:
            raise UsageError("--once answers nobody; leave out --listen and what goes with it")
        return keep_once([kept], as_json=as_json)
    return int(_service_part().go_on(kept, tcti, api, as_json=as_json))


def _api(
    listen: Sequence[str] | None, certificate: Path | None, key: Path | None, clients: Path | None, quotes: bool
) -> dict[str, object]:
    """The options about answering verifiers, by the configuration's names; empty if there are none.

    Raises UsageError for some that mean nothing without --listen.
    """
    files = {"certificate": certificate, "key": key, "clients": clients}
    named: dict[str, object] = {name: path.absolute() for name, path in files.items() if path is not None}
    if quotes:
        named["quotes"] = True
    if named and not listen:
        raise UsageError("--tls-cert, --tls-key, --client-ca and --quotes go with --listen")
    return {"listen": tuple(listen), **named} if listen else {}


def _service_part() -> Any:  # noqa: ANN401 - a module
    """What needs the service's libraries. Raises MissingComponent where they are not installed."""
    try:
        return import_module("imarium.cli.keep_configured")
    except ImportError as error:
        raise MissingComponent(f"{error.name} is not installed: pip install 'imarium[service]'") from error


def keep_once(sources: Sequence[SourceConfig], *, as_json: bool) -> int:
    """Drain each source once and say what was done; the worst exit status.

    One that fails hinders no other. Raises the first one's error behind that.
    """
    results: dict[str, KeepResult] = {}
    errors: list[ImariumError] = []
    for source in sources:
        try:
            results[source.name] = source.keeper().once(source.method)
        except ImariumError as error:
            errors.append(error)
    if results:
        _say(results, sources, as_json=as_json)
    for further in errors[1:]:
        progress_console().print(f"imarium: {further}", soft_wrap=True, markup=False)
    if errors:
        raise errors[0]
    return int(any(result.verdict == "refused" for result in results.values()))


def _say(results: Mapping[str, KeepResult], sources: Sequence[SourceConfig], *, as_json: bool) -> None:
    """Say what was done. Of several sources each is named."""
    unnamed = {source.name for source in sources if source.machine is None and source.registers is no_registers}
    if as_json:
        documents = [result.to_document() for result in results.values()]
        emit_json(documents[0] if len(sources) == 1 else dict(zip(results, documents, strict=True)))
    for name, result in results.items():
        if not as_json:
            advice = _NAME_IT if name in unnamed and result.verdict == "unproven" else ""
            _show(result, name if len(sources) > 1 else "", advice)
        if result.verdict == "refused":
            progress_console().print(
                f"imarium: nothing was deleted from the kernel: {result.reason}", soft_wrap=True, markup=False
            )


def _show(result: KeepResult, name: str, advice: str) -> None:
    out = console()
    if name:
        out.print(f"source   {name}", markup=False)
    out.print(f"method   {result.method}: {result.method_reason}", markup=False)
    if result.log is not None:
        out.print(f"kept     {_amount(result.kept_records, result.kept_bytes)}")
        out.print(f"freed    {_amount(result.freed_records, result.freed_bytes)} in the kernel")
        out.print(f"log      {result.log:04}: {_amount(result.records, result.bytes)} in all")
    else:
        out.print("kept     nothing: the kernel's list is empty and no log was begun")
    out.print(f"verdict  {result.verdict}: {result.reason}{advice}", markup=False)
    if result.machine:
        out.print(f"machine  {result.machine}", markup=False)
    if result.gap is not None:
        out.print(f"gap      {result.gap.reason}", markup=False)


def _amount(records: int, size: int) -> str:
    return f"{records} record{'' if records == 1 else 's'}, {size} bytes"
