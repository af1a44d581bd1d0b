"""The custody API under requests made from its own description: whatever is asked, the answer is as described."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from tests.real.serving import Authority, served
from tests.unit.test_index import MADE, filled

from imarium.custody import Custody, Schedule, Service, SourceConfig, Store
from imarium.custody.indexing import write_index
from imarium.securityfs import ImaDirectory
from imarium.web import Endpoint, Holding, Limits, Tls, create_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from imarium.custody import KeepResult

EXAMPLES = 150
OPERATIONS = ("checkpoint", "drain", "log", "logs", "quote", "records", "status")


class Kept:
    """A service, as the API asks it."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> dict[str, object]:
        return self._service.status().to_document()

    def submit(self, name: str | None = None) -> Future[KeepResult]:
        return self._service.submit(name)


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[schemathesis.BaseSchema, requests.Session]]:
    """A running service with a kernel, two logs, and a root of trust that answers at once; and who may ask it."""
    place = tmp_path_factory.mktemp("api")
    write_index(filled(place / "store"))
    lists = place / "lists"
    lists.mkdir()
    (lists / "binary_runtime_measurements").write_bytes(b"".join(made.binary() for made in MADE[:50]))
    (lists / "runtime_measurements_count").write_bytes(b"50\n")
    source = ImaDirectory(lists)
    service = Service([SourceConfig("kernel", source, place / "store", "boot2", schedule=Schedule(interval=3600))])
    custody = Custody(place / "store")
    holding = Holding(
        "kernel",
        Store(place / "store"),
        whole=lambda known: custody.whole(source, boot_id="boot2", recheck=False, known=known),
        quote=lambda nonce, first, _view: nonce + first.to_bytes(8, "big") + secrets.token_bytes(8),
    )
    limits = Limits(wait=0.2, records=2000, made=200)
    app = create_app([holding], steward=Kept(service), limits=limits)
    authority = Authority.make(place, "authority")
    session = requests.Session()
    session.cert = tuple(map(str, authority.sign("client")))  # type: ignore[assignment]
    session.trust_env = False
    session.verify = str(authority.path)
    service.start()
    try:
        tls = Tls(*authority.sign("server"), authority.path)
        with served(app, [Endpoint.parse("tcp:127.0.0.1:0")], tls=tls, limits=limits) as (tcp,):
            url = f"https://127.0.0.1:{tcp.port}"
            found = schemathesis.openapi.from_dict(app.openapi())
            found.config.update(base_url=url)
            yield found, session
    finally:
        session.close()
        service.stop(10)


def operations(described: schemathesis.BaseSchema) -> list[schemathesis.APIOperation]:
    """What can be asked for."""
    found = [result.ok() for result in described.get_all_operations() if hasattr(result, "ok")]
    assert found
    return found


def operation_name(operation: schemathesis.APIOperation) -> str:
    """The name of the function that answers."""
    return str(operation.definition.raw["operationId"]).partition("_v1")[0]


@pytest.mark.parametrize("name", OPERATIONS)
def test_answers_are_as_described(
    schema: tuple[schemathesis.BaseSchema, requests.Session], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    described, session = schema
    (operation,) = [each for each in operations(described) if operation_name(each) == name]
    statuses: set[int] = set()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def run(case: schemathesis.Case) -> None:
        response = case.call(session=session, timeout=60, verify=session.verify)
        statuses.add(response.status_code)
        case.validate_response(response)

    with caplog.at_level(logging.WARNING):
        run()
    assert any(200 <= status < 300 for status in statuses), f"nothing was answered, but {statuses}"
    assert "Traceback" not in caplog.text


def test_every_operation_is_tried(schema: tuple[schemathesis.BaseSchema, requests.Session]) -> None:
    assert set(map(operation_name, operations(schema[0]))) == set(OPERATIONS)


def test_the_description_is_served_as_it_is(
    schema: tuple[schemathesis.BaseSchema, requests.Session],
) -> None:
    described, session = schema
    answer = session.get(f"{described.config.base_url}/v1/openapi.json", timeout=60)
    assert answer.json() == described.raw_schema
