"""The API beside the service: what of a configuration becomes a server, and how it asks the service."""

import grp
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from fastapi.responses import Response

from imarium.attester import make_evidence
from imarium.custody import Custody, KeepResult, Log, Service, SourceConfig, Store, Whole
from imarium.custody.config import ApiConfig
from imarium.custody.metrics import METRICS_TYPE, metrics_text
from imarium.errors import MissingComponent, UsageError
from imarium.rot import KeyedQuotes, default_root
from imarium.web import Endpoint, Holding, Server, Tls, create_app

__all__ = ["api_server", "endpoints", "tls"]

_MOST_PENDING = 1 << 26
"""Most bytes of the kernel's records that an answer holds in memory."""


def endpoints(config: ApiConfig) -> tuple[Endpoint, ...]:
    """The places to listen at. Raises UsageError, and MissingComponent for a group that is not there."""
    group = _group(config.group) if config.group else None
    found = map(Endpoint.parse, config.listen)
    return tuple(Endpoint(path=place.path, group=group) if place.path else place for place in found)


def tls(config: ApiConfig) -> Tls | None:
    """The files of TLS. Raises UsageError if some are named and some are not."""
    files = config.tls_files
    if files is None and (config.certificate or config.key or config.clients):
        raise UsageError("TLS needs certificate, key and clients, all three")
    return Tls(*files) if files else None


def api_server(
    config: ApiConfig, sources: Sequence[SourceConfig], tctis: Sequence[str | None], service: Service
) -> Server:
    """A server for the stores of ``sources``, whose TPMs are ``tctis``. Raises UsageError, MissingComponent."""
    places = endpoints(config)
    holdings = [_holding(config, source, tcti) for source, tcti in zip(sources, tctis, strict=True)]
    app = create_app(holdings, steward=_Steward(service))
    app.add_api_route("/metrics", _metrics(service), methods=["GET"], include_in_schema=False)
    return Server(app, places, tls=tls(config))


class _Steward:
    """The service as the API asks it."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> dict[str, object]:
        """Its status as a JSON document."""
        return self._service.status().to_document()

    def submit(self, name: str | None = None) -> Future[KeepResult]:
        """Ask for a drain of one source."""
        return self._service.submit(name)


def _holding(config: ApiConfig, source: SourceConfig, tcti: str | None) -> Holding:
    quote = partial(_evidence, tcti, config.ak or source.store / "ak") if config.quotes else None
    return Holding(source.name, Store(source.store, create=True), whole=partial(_whole, source), quote=quote)


def _whole(source: SourceConfig, known: Log | None) -> Whole:
    """What is kept and what the kernel has; not all of it is replayed for each who asks."""
    custody = Custody(source.store)
    return custody.whole(
        source.source,
        boot_id=source.boot_id,
        registers=source.registers,
        recheck=False,
        known=known,
        most=_MOST_PENDING,
    )


def _evidence(tcti: str | None, ak: Path, nonce: bytes, first: int, view: Callable[[], Whole]) -> bytes:
    with default_root(tcti) as root:
        if isinstance(root, KeyedQuotes):
            root.use_key(ak)
        return make_evidence(root, view, nonce=nonce, first=first).encode()


def _metrics(service: Service) -> Callable[[], Response]:
    def metrics() -> Response:
        return Response(metrics_text(service.status()), media_type=METRICS_TYPE)

    return metrics


def _group(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise MissingComponent(f"there is no group {name!r}; make it, or leave it out") from None
