"""Verifiers of a machine with a real TPM, served by ``imarium keep --listen``: over restarts, reboots and months."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from tests.real.measured import MIXED, NONCE, Measured, programs
from tests.real.serving import UnixClient
from tests.unit.builders import binary
from tests.waiting import PATIENCE, until

from imarium.chain import ChainState, replay
from imarium.formats.records import ListLayout, read_records
from imarium.formats.tpm import Public, parse_public
from imarium.hashes import SHA1, SHA256
from imarium.verifier import Result, TpmTrust, VerifierState, appraise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.real.conftest import Swtpm
    from tests.unit.builders import Made

JSON = "application/json"
LAYOUT = ListLayout()
BANKS = (SHA1, SHA256)


@dataclass
class Machine:
    """A machine whose kernel's files are plain ones, and its service."""

    measured: Measured
    place: Path

    @property
    def store(self) -> Path:
        return self.place / "store"

    @property
    def ak(self) -> Public:
        return parse_public((self.store / "ak" / "ak.pub").read_bytes())

    def boot(self) -> None:
        self.measured.boot()
        self.show()

    def measure(self, records: Sequence[Made]) -> None:
        self.measured.measure(records)
        self.show()

    def show(self) -> None:
        """Write the kernel's files."""
        lists = self.place / "lists"
        lists.mkdir(exist_ok=True)
        for name, data in {
            "binary_runtime_measurements": binary(self.measured.records),
            "runtime_measurements_count": b"%d\n" % len(self.measured.records),
        }.items():
            (lists / ".new").write_bytes(data)
            (lists / ".new").rename(lists / name)

    def imarium(self, *arguments: object) -> str:
        command = [sys.executable, "-m", "imarium", *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    @contextmanager
    def service(self) -> Iterator[UnixClient]:
        """``imarium keep``, until the block ends; a client of it."""
        socket = self.place / "socket"
        options = ["--source", self.place / "lists", "--store", self.store, "--tcti", self.measured.swtpm.tcti]
        listen = ["--listen", f"unix:{socket}", "--quotes", "--interval", 3600]
        command = [sys.executable, "-m", "imarium", "keep", *map(str, [*options, *listen])]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                until(lambda: self._answers(process, socket))
                yield UnixClient(socket)
            finally:
                process.terminate()
                _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors, errors

    def _answers(self, process: subprocess.Popen[str], socket: Path) -> bool:
        assert process.poll() is None, process.stderr and process.stderr.read()
        try:
            return UnixClient(socket).ask("GET", "/v1/logs/newest")[0] == 200
        except (FileNotFoundError, ConnectionRefusedError):
            return False  # it does not listen yet


@pytest.fixture
def machine(swtpm: Swtpm, tmp_path: Path) -> Machine:
    started = Machine(Measured.start(swtpm), tmp_path)
    started.boot()
    started.measure(MIXED)
    return started


def quote(client: UnixClient, first: int) -> bytes:
    status, body = client.ask(
        "POST", "/v1/quote", json.dumps({"nonce": NONCE.hex(), "from": first}).encode(), content_type=JSON
    )
    assert status == 200, body
    return body


def drain(client: UnixClient) -> None:
    status, body = client.ask("POST", "/v1/drain")
    assert (status, json.loads(body)["verdict"]) == (200, "proven"), body


def judged(machine: Machine, evidence: bytes, state: VerifierState | None = None) -> Result:
    result = appraise(evidence, nonce=NONCE, trust=[TpmTrust(machine.ak)], state=state)
    assert result.reasons == ()
    return result


def test_one_call_gives_a_verifier_what_it_needs(machine: Machine) -> None:
    with machine.service() as client:
        first = judged(machine, quote(client, 0))
        assert (first.covered, first.unverified) == (len(MIXED) + 1, 0)
        machine.measure(programs("/new/1", "/new/2"))  # which the kernel has, and the store has not
        second = judged(machine, quote(client, first.covered), first.state)
        assert (second.covered, second.unverified) == (2, 0)
        drain(client)
        third = judged(machine, quote(client, 0))
        assert third.state is not None
        assert second.state is not None
        assert (third.covered, third.state.chain) == (len(MIXED) + 3, second.state.chain)


def test_a_service_that_is_started_again_goes_on_for_its_verifiers(machine: Machine) -> None:
    with machine.service() as client:
        state = judged(machine, quote(client, 0)).state
    machine.measure(programs("/while/no/service/ran"))
    with machine.service() as client:
        assert state is not None
        result = judged(machine, quote(client, state.chain.records), state)
        assert (result.covered, result.unverified) == (1, 0)


def test_a_verifier_starts_at_a_checkpoint(machine: Machine) -> None:
    with machine.service() as client:
        document = json.loads(client.ask("GET", "/v1/logs/newest/checkpoint?at=5")[1])
        state = judged(machine, quote(client, 0)).state
        assert state is not None
        begun = replace(state, chain=ChainState.from_document(document))
        assert judged(machine, quote(client, 5), begun).covered == len(MIXED) + 1 - 5
        document["registers"]["10"]["sha256"] = "00" * 32
        lied = replace(state, chain=ChainState.from_document(document))
        result = appraise(quote(client, 5), nonce=NONCE, trust=[TpmTrust(machine.ak)], state=lied)
        assert not result.passed


def test_a_verifier_that_starts_at_zero_after_months(machine: Machine) -> None:
    """Three lives of the registers, of which two are over and compressed."""
    states = []
    for life in range(3):
        if life:
            machine.measured.reset()
            machine.boot()
            machine.measure(programs(*(f"/life/{life}/{number}" for number in range(20 * life))))
        with machine.service() as client:
            drain(client)
            state = judged(machine, quote(client, 0)).state
            assert state is not None
            states.append(state.chain)
    done = json.loads(machine.imarium("log", "retain", "--store", machine.store, "--json"))
    assert [(one["log"], one["action"]) for one in done["logs"]] == [(0, "compressed"), (1, "compressed")]
    machine.imarium("log", "check", "--store", machine.store)
    with machine.service() as client:
        logs = json.loads(client.ask("GET", "/v1/logs")[1])["logs"]
        assert [(log["log"], log["closed"]) for log in logs] == [(0, True), (1, True), (2, False)]
        for log, proved in zip(logs, states, strict=True):
            data = client.ask("GET", f"/v1/logs/{log['log']}/records")[1]
            found = replay([data], LAYOUT, BANKS).state
            assert found.records == log["records"] == proved.records
            assert all(found.values[pcr] == values for pcr, values in proved.values.items())
            other = client.ask("GET", f"/v1/logs/{log['log']}/records?bank=sha256")[1]
            column = ListLayout(SHA256)
            assert replay([other], column, BANKS).state == found
            assert [r.data for r in read_records([other], column)] == [r.data for r in read_records([data], LAYOUT)]
        assert judged(machine, quote(client, 0)).covered == logs[-1]["records"]


def test_what_someone_changed_in_the_store_does_not_pass(machine: Machine) -> None:
    with machine.service() as client:
        judged(machine, quote(client, 0))
    path = machine.store / "logs" / "0000" / "list"
    data = bytearray(path.read_bytes())
    at = data.index(b"/usr/bin/true")
    data[at : at + 13] = b"/usr/bin/evil"
    path.write_bytes(data)
    found = subprocess.run(
        [sys.executable, "-m", "imarium", "log", "check", "--store", machine.store, "--json"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 1
    assert [finding["record"] for finding in json.loads(found.stdout)["findings"]] == [2]
    with machine.service() as client:
        status, body = client.ask("POST", "/v1/quote", json.dumps({"nonce": NONCE.hex()}).encode(), content_type=JSON)
        if status == 200:
            assert not appraise(body, nonce=NONCE, trust=[TpmTrust(machine.ak)]).passed
        else:
            assert status in {409, 503}
