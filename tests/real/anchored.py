"""A machine whose list is anchored in a root of trust, and what a verifier makes of it: by the command line alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.real.commands import Done, imarium
from tests.unit.builders import Made, binary, ng

from imarium.rot import open_root

NONCE = bytes(range(20)).hex()


@dataclass
class Machine:
    """A list, a store, and the name of the root of trust that the list is anchored in."""

    path: Path
    rot: str
    records: list[Made] = field(default_factory=list)

    def anchor(self, *records: Made, register: str = "") -> None:
        """Add records to the list and extend them through the driver, as a kernel or an engine does."""
        with open_root(self.rot) as root:
            for record in records:
                digests = {bank: record.true_digest(bank.name, "little") for bank in root.banks()}
                root.extend(register or root.default_register, digests)
        self.listed(*records)

    def listed(self, *records: Made) -> None:
        """Add records to the list only."""
        self.records += records
        lists = self.path / "lists"
        lists.mkdir(exist_ok=True)
        (lists / "binary_runtime_measurements").write_bytes(binary(self.records))

    def attest(self, *more: object, nonce: str | None = NONCE) -> Path:
        place, output = self.path / "store", self.path / "evidence"
        common = ("--store", place, "--source", self.path / "lists")
        kept = imarium("keep", "--once", "--method", "follow", *common)
        assert kept.status == 0, kept.error
        over = [] if nonce is None else ["--nonce", nonce]
        made = imarium("attest", "--rot", self.rot, *over, "-o", output, "--json", *common, *more)
        assert made.status == 0, made.error
        self.told = made.error
        return output

    def verify(self, evidence: Path, *trust: object, nonce: str = NONCE) -> Done:
        return imarium("verify", evidence, "--nonce", nonce, "--json", *trust)

    def tampered(self, evidence: Path) -> Path:
        """The same with one letter of a name changed."""
        data = evidence.read_bytes()
        assert data.count(b"/bin/second") == 1
        other = self.path / "tampered"
        other.write_bytes(data.replace(b"/bin/second", b"/bin/sECond"))
        return other


def programs(column: int, *names: str) -> list[Made]:
    return [ng(name.encode(), column) for name in names]


def judged(machine: Machine, trust: list[object], column: int, *, register: str = "") -> None:
    """Two programs run, evidence is made and appraised; then a third, from a state on; then someone tampers."""
    machine.anchor(*programs(column, "/bin/first", "/bin/second"), register=register)
    machine.listed(*programs(column, "/bin/after"))
    state = machine.path / "state.json"
    evidence = machine.attest()
    good = machine.verify(evidence, *trust, "--state", state)
    assert (good.status, good.document["verdict"]) == (0, "pass"), good.out + good.error
    assert (good.document["covered"], good.document["unverified"]) == (3, 1)
    assert machine.verify(evidence, *trust, nonce="00").codes.count("nonce_mismatch") >= 1
    bad = machine.verify(machine.tampered(evidence), *trust)
    assert (bad.status, bad.codes) == (1, ["record_altered"])
    stranger = machine.path / "stranger"
    assert imarium("rot", "quote", "--rot", "software", "--nonce", "00", "-o", stranger).status == 0
    untrusted = imarium("verify", evidence, "--nonce", NONCE, "--allow-software", stranger / "key", "--json")
    assert untrusted.status in (1, 2)
    assert set(untrusted.codes) <= {"anchor_missing", "software_key_mismatch"}
    later = machine.verify(machine.attest("--from", 3), *trust, "--state", state)
    assert (later.status, later.document["covered"], later.document["unverified"]) == (0, 0, 1)
