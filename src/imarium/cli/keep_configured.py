"""``imarium keep`` with a configuration, or as a service: what needs the service's libraries."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from imarium.cli.keep_api import api_server
from imarium.cli.keep_check import problems_around
from imarium.cli.keep_service import Host, MetricsFile
from imarium.cli.library_log import take_over
from imarium.cli.output import console, emit_json
from imarium.cli.service_log import ServiceLog
from imarium.custody import KILL_VARIABLE, Hook, Service, SourceConfig, Store, kill_at
from imarium.custody.config import ApiConfig, Problem, ServiceConfig, SourceEntry, load_config, read_config
from imarium.custody.machine import boot_id, machine_of, registers_of
from imarium.custody.metrics import write_metrics
from imarium.custody.retention import Retention, retain
from imarium.errors import ImariumError, MalformedInput, MissingComponent, UsageError
from imarium.securityfs import ImaDirectory

__all__ = ["check", "configured_sources", "go_on", "go_on_as_configured"]

_WORST_FIRST = (MalformedInput.exit_status, UsageError.exit_status, MissingComponent.exit_status)


def go_on(source: SourceConfig, tcti: str | None, api: Mapping[str, object], *, as_json: bool) -> int:
    """Keep one source until told to end, and answer as ``api`` says: keys of the configuration's table of this name.

    Raises UsageError, MissingComponent.
    """
    config = ApiConfig.model_validate(api)
    serve = partial(api_server, config, [source], [tcti]) if config.listen else None
    log = ServiceLog("json" if as_json else "text")
    take_over(log)
    Host([source], log, serve=serve).run()
    return 0


def go_on_as_configured(path: Path, *, as_json: bool) -> int:
    """Keep as a configuration says until told to end. Raises as :func:`read_config`."""
    config = read_config(path)
    sources = _sources(config)
    metrics = None
    if config.metrics.file is not None:
        metrics = MetricsFile(config.metrics.file, config.metrics.interval, write_metrics)
    tctis = [entry.tcti for entry in config.source]
    serve = partial(api_server, config.api, sources, tctis) if config.api.listen else None
    log = ServiceLog("json" if as_json else config.log.format, config.log.level)
    take_over(log)
    tidy = partial(_tidy, config.retention.wanted, sources, log)
    Host(sources, log, metrics=metrics, serve=serve, tidy=tidy).run()
    return 0


def configured_sources(path: Path) -> Sequence[SourceConfig]:
    """The sources of a configuration. Raises as :func:`read_config`."""
    return _sources(read_config(path))


def check(path: Path, *, as_json: bool) -> int:
    """Say everything that is wrong with a configuration, one line for each; the status of the worst.

    What it needs of this machine can only be looked for if its form is good.
    """
    config, found = load_config(path)
    problems = [*found, *(problems_around(config) if config is not None else ())]
    if as_json:
        emit_json({"configuration": str(path), "problems": [problem.to_document() for problem in problems]})
    else:
        _say(path, config, problems)
    statuses = {problem.status for problem in problems}
    return next((status for status in _WORST_FIRST if status in statuses), 0)


def _tidy(
    wanted: Retention, sources: Sequence[SourceConfig], log: ServiceLog, service: Service, ends: Callable[[], bool]
) -> None:
    """Do what is wanted with the logs that are over; what fails is said, and tried again the next time."""
    for source in sources:
        try:
            for done in retain(Store(source.store, patience=source.patience), wanted):
                log.say("info", "retained", source=source.name, **done.to_document())
                if ends():
                    return
            service.retained(source.name)
        except ImariumError as error:
            service.retained(source.name, str(error))
            log.say("error", "retention_failed", source=source.name, code=error.code, detail=str(error))


def _say(path: Path, config: ServiceConfig | None, problems: Sequence[Problem]) -> None:
    out = console()
    for problem in problems:
        out.print(f"{path}: {problem}", markup=False)
    if config is not None and not problems:
        names = ", ".join(entry.name for entry in config.source)
        out.print(f"{path}: good; sources: {names}", markup=False)


def _sources(config: ServiceConfig) -> tuple[SourceConfig, ...]:
    hook = kill_at(os.environ.get(KILL_VARIABLE))
    return tuple(_source(entry, hook) for entry in config.source)


def _source(entry: SourceEntry, hook: Hook) -> SourceConfig:
    lists = ImaDirectory(entry.directory, patience=entry.wait)
    return SourceConfig(
        name=entry.name,
        source=lists,
        store=entry.store,
        boot_id=boot_id(),
        registers=registers_of(lists.path, entry.tcti),
        machine=machine_of(lists.path),
        method=entry.method,
        schedule=entry.schedule,
        patience=entry.wait,
        hook=hook,
    )
