"""Evidence from a real kernel with a TPM, appraised outside."""

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from vm.guest import Guest

from imarium.chain import replay
from imarium.formats.evidence import Evidence, TpmPart
from imarium.formats.records import ListLayout, Record, read_records
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.formats.tpm import Public, parse_public
from imarium.hashes import SHA1, SHA256, by_name
from imarium.verifier import TpmTrust, VerifierState, appraise

SESSION = Path(__file__).with_name("evidence_session.py")
POLICY = "ima_policy=tcb ima_policy=critical_data"
NONCES = [bytes([number]) * 32 for number in (1, 2, 3)]
LIST = "runtime_measurements"


@dataclass(frozen=True)
class Told:
    """What the guest left behind."""

    share: Path
    out: dict[str, Any]

    @property
    def ak(self) -> Public:
        return parse_public((self.share / "ak.pub").read_bytes())

    def evidence(self, number: int) -> bytes:
        return (self.share / f"evidence-{number}.cbor").read_bytes()


def tell(guest: Guest, guest_python: str, session: str, share: Path, kernel: Path | None = None) -> Told:
    nonces = " ".join(nonce.hex() for nonce in NONCES)
    command = f"{guest_python} {shlex.quote(str(SESSION))} {session} {nonces}"
    done = guest(command, append=POLICY, share=share, kernel=kernel, timeout=300)
    assert done.status == 0, done.console
    return Told(share, json.loads((share / "out.json").read_text()))


@pytest.fixture(scope="module")
def story(guest: Guest, guest_python: str, tmp_path_factory: pytest.TempPathFactory) -> Told:
    return tell(guest, guest_python, "story", tmp_path_factory.mktemp("story"))


def imarium(*arguments: object, status: int = 0) -> bytes:
    command = [sys.executable, "-m", "imarium", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == status, done.stderr.decode()
    return done.stdout


def records(evidence: Evidence) -> list[Record]:
    return list(read_records([evidence.log.records], evidence.log.layout, first=evidence.log.first))


def test_verify_passes_from_zero_and_goes_on_from_the_state(story: Told, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    share, first = story.share, story.out["first"]
    options = ("--ak", share / "ak.pub", "--state", state, "--json")
    one = json.loads(imarium("verify", share / "evidence-1.cbor", "--nonce", NONCES[0].hex(), *options))
    assert (one["verdict"], one["reasons"], one["begins"]) == ("pass", [], "boot_aggregate")
    assert one["covered"] == first > 50
    assert json.loads(state.read_text())["records"] == first
    two = json.loads(imarium("verify", share / "evidence-2.cbor", "--nonce", NONCES[1].hex(), *options))
    assert (two["verdict"], two["reasons"], two["begins"]) == ("pass", [], "boot_aggregate")
    evidence = Evidence.decode(story.evidence(2))
    assert evidence.log.first == first
    assert two["covered"] + two["unverified"] == evidence.log.count
    proved = [record.name for record in records(evidence)][: two["covered"]]
    assert [proved.count(b"/opt/imarium-test/" + name) for name in (b"three", b"four", b"five")] == [1, 1, 1]
    assert json.loads(state.read_text()) == two["state"]
    assert two["state"]["records"] == first + two["covered"]
    before = state.read_bytes()
    again = imarium("verify", share / "evidence-2.cbor", "--nonce", NONCES[0].hex(), *options, status=1)
    assert [reason["code"] for reason in json.loads(again)["reasons"]] == ["nonce_mismatch"]
    assert state.read_bytes() == before


def test_a_kept_log_is_proved_whether_drained_or_not(story: Told) -> None:
    assert [keep["status"] for keep in story.out["keep"]] == [0, 0, 0]
    names = [record.name for record in records(Evidence.decode(story.evidence(1)))]
    wanted = (b"one", b"two", b"not-kept-yet")
    assert [names.count(b"/opt/imarium-test/" + name) for name in wanted] == [1, 1, 1]
    assert names[0] == b"boot_aggregate"


def test_records_behind_the_quote_are_unverified(story: Told) -> None:
    result = appraise(story.evidence(3), nonce=NONCES[2], trust=[TpmTrust(story.ak)])
    assert result.reasons == ()
    listed = records(Evidence.decode(story.evidence(3)))
    late = [
        record.number
        for record in listed
        if record.name in {b"/opt/imarium-test/late-one", b"/opt/imarium-test/late-two"}
    ]
    assert len(late) == 2
    assert result.unverified >= 2
    assert result.covered <= min(late)
    assert result.covered + result.unverified == len(listed)


@pytest.mark.parametrize("bank", ["sha1", "sha256"])
def test_show_prints_what_the_kernel_prints(story: Told, bank: str) -> None:
    kernels = (story.share / f"ascii_{LIST}_{bank}").read_bytes()
    shown = imarium("show", "--to", "ascii", "--digest", bank, story.share / f"binary_{LIST}_{bank}")
    assert shown == kernels
    assert kernels.count(b"\n") > 50


@pytest.mark.parametrize("bank", ["sha1", "sha256"])
def test_the_kernels_list_leads_to_its_registers(story: Told, bank: str) -> None:
    values = json.loads((story.share / "registers.json").read_text())
    targets = {IMA_PCR: {by_name(name): bytes.fromhex(value) for name, value in values.items()}}
    data = (story.share / f"binary_{LIST}_{bank}").read_bytes()
    result = replay([data], ListLayout(by_name(bank)), targets=targets)
    assert result.bad_digests == ()
    assert result.matches.prefix == result.records
    assert result.unverified == 0


def test_the_exported_log_leads_to_what_the_kernel_shows(story: Told) -> None:
    shown = {by_name(bank): bytes.fromhex(value) for bank, value in story.out["exported"].items()}
    exported = [(story.share / "exported").read_bytes()]
    result = replay(exported, ListLayout(), targets={IMA_PCR: shown})
    assert set(shown) == {SHA1, SHA256}
    assert (result.matches.prefix, result.bad_digests) == (result.records, ())
    arguments = [f"--pcr=10:{bank.name}={value.hex()}" for bank, value in shown.items()]
    document = json.loads(imarium("replay", "--json", story.share / "exported", *arguments))
    assert document["match"]["10"] == dict.fromkeys(("sha1", "sha256"), result.records)


def test_boot_aggregate_is_the_hash_of_the_attested_registers(story: Told) -> None:
    evidence = Evidence.decode(story.evidence(1))
    first = records(evidence)[0]
    assert isinstance(evidence.root, TpmPart)
    values = evidence.root.values[SHA256]
    assert first.file_digest is not None
    assert first.file_digest.algorithm == "sha256"
    assert first.file_digest.digest == SHA256.digest(b"".join(values[PcrIndex(pcr)] for pcr in range(10)))
    assert any(values[PcrIndex(0)])


def state_of(story: Told) -> VerifierState:
    state = appraise(story.evidence(1), nonce=NONCES[0], trust=[TpmTrust(story.ak)]).state
    assert state is not None
    return state


@pytest.mark.parametrize("place", [0, 30, 60])
@pytest.mark.parametrize("number", [1, 2])
def test_a_changed_byte_names_its_record(story: Told, number: int, place: int) -> None:
    """In the name of a file, of evidence from record 0 and of evidence that goes on."""
    evidence = Evidence.decode(story.evidence(number))
    state = state_of(story) if number == 2 else None
    listed = [record for record in records(evidence) if record.name and record.name.startswith(b"/")]
    victim = listed[min(place, len(listed) // 2)]
    assert victim.name is not None
    position = victim.offset + victim.size - len(victim.data) + victim.data.rindex(victim.name) + 1
    data = evidence.log.records
    changed = replace(evidence.log, records=data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
    result = appraise(
        replace(evidence, log=changed).encode(), nonce=NONCES[number - 1], trust=[TpmTrust(story.ak)], state=state
    )
    assert [(reason.code, reason.record) for reason in result.reasons] == [("record_altered", victim.number)]


def test_a_record_taken_away_is_missed(story: Told) -> None:
    evidence = Evidence.decode(story.evidence(1))
    listed = records(evidence)
    victim = next(record for record in listed if record.name == b"/opt/imarium-test/one")
    data = evidence.log.records
    shorter = data[: victim.offset] + data[victim.offset + victim.size :]
    forged = replace(evidence, log=replace(evidence.log, records=shorter, count=len(listed) - 1))
    result = appraise(forged.encode(), nonce=NONCES[0], trust=[TpmTrust(story.ak)])
    assert [reason.code for reason in result.reasons] == ["records_missing"]


def test_a_kernel_that_began_late_says_so_and_passes(
    guest: Guest, guest_python: str, latesync_kernel: Path, tmp_path: Path
) -> None:
    told = tell(guest, guest_python, "late", tmp_path, latesync_kernel)
    result = appraise(told.evidence(1), nonce=NONCES[0], trust=[TpmTrust(told.ak)])
    assert result.reasons == ()
    assert result.begins == "boot_aggregate_late"
    assert result.state is not None
    assert result.state.log.begins == "boot_aggregate_late"
    printed = imarium("verify", tmp_path / "evidence-1.cbor", "--nonce", NONCES[0].hex(), "--ak", tmp_path / "ak.pub")
    assert b"files used before late_initcall_sync were not measured" in printed
