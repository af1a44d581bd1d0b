"""What a configuration needs of this machine: looked for without changing anything."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from imarium.cli.keep_api import endpoints, tls
from imarium.custody import Store
from imarium.custody.config import ApiConfig, Problem, ServiceConfig, SourceEntry
from imarium.custody.source import choose_method
from imarium.errors import ImariumError, MissingComponent, UsageError
from imarium.securityfs import ImaDirectory, ListBusy

__all__ = ["problems_around"]


def problems_around(config: ServiceConfig) -> Iterator[Problem]:
    """Everything that is missing or in the way, in the order of the configuration."""
    for number, entry in enumerate(config.source):
        yield from _found(f"source.{number}.directory", partial(_check_lists, entry))
        yield from _found(f"source.{number}.store", partial(_check_store, entry.store))
    yield from _found("api", partial(_check_api, config.api))
    if config.metrics.file is not None:
        yield from _found("metrics.file", partial(_check_writable, config.metrics.file.parent))


def _found(key: str, look: Callable[[], None]) -> Iterator[Problem]:
    try:
        look()
    except ImariumError as error:
        status = error.exit_status if error.exit_status > 1 else MissingComponent.exit_status
        yield Problem(key, str(error), status)


def _check_lists(entry: SourceEntry) -> None:
    lists = ImaDirectory(entry.directory, patience=0.0)
    try:
        choose_method(lists, entry.method)
        with lists.snapshot() as found:
            next(found.current(), b"")
    except ListBusy:
        pass  # someone keeps them, likely the service itself


def _check_store(path: Path) -> None:
    if Store.is_begun(path):
        Store(path)
    _check_writable(next(place for place in (path, *path.parents) if place.exists()))


def _check_api(config: ApiConfig) -> None:
    places, files = endpoints(config), tls(config)
    if files is not None:
        files.context()
    for place in places:
        if place.path is not None:
            _check_writable(place.path.parent)
        elif files is None:
            raise UsageError(f"{place}: TCP needs certificate, key and clients; without them use a unix socket")


def _check_writable(place: Path) -> None:
    if not place.is_dir():
        raise MissingComponent(f"{place}: no such directory; make it")
    if not os.access(place, os.W_OK | os.X_OK):
        raise MissingComponent(f"{place}: may not be written to; give access")
