"""From a driver's extends to the verdict, by the command line alone, for every kind of root of trust.

The guests' files and devices are simulated (guest_simulator, guest_devices); the TPM is swtpm.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.real.anchored import NONCE, Machine, judged, programs
from tests.real.commands import imarium
from tests.real.guest_simulator import guest
from tests.real.measured import Measured
from tests.unit import test_eventlog as cc
from tests.unit.builders import ng
from tests.unit.cca_builders import NOW as CERTIFIED
from tests.unit.guest_builders import aggregate_record
from tests.unit.snp_reports import MEASUREMENT
from tests.unit.tdx_builders import NOW

from imarium.formats.evidence import Evidence, TdxPart
from imarium.formats.tpm import parse_public
from imarium.hashes import SHA256, SHA384
from imarium.rot import EndorsementKind, Tpm, open_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.real.conftest import Swtpm


@pytest.fixture
def td(tmp_path: Path) -> Iterator[Machine]:
    with guest(tmp_path, "tdx_guest") as mount:
        files = f"registers={mount / 'measurements'},reports={mount / 'report'},ccel={tmp_path / 'ccel'}"
        yield Machine(tmp_path, f"tdx:{files}")


def tdx_trust(machine: Machine) -> list[object]:
    state = machine.path / "state"
    return ["--tdx-collateral", f"{state}.collateral", "--tdx-root", f"{state}.root", "--time", NOW]


def test_a_list_in_a_tds_rtmr_2_column_2(td: Machine) -> None:
    with open_root(td.rot) as root:
        aggregate = root.boot_aggregate(SHA384)
    td.anchor(aggregate_record("sha384", aggregate, 2))
    judged(td, tdx_trust(td), 2)
    assert td.verify(td.path / "evidence", *tdx_trust(td), "--column", "2=3").status == 1
    evidence, trust, other = td.attest(), tdx_trust(td), "11" * 48
    assert td.verify(evidence, *trust, "--tdx-mrtd", other, "--tdx-mrtd", "00" * 48).status == 0
    assert td.verify(evidence, *trust, "--tdx-mrtd", other).codes == ["measurement_unknown"]


@pytest.fixture
def engine(td: Machine) -> Iterator[Machine]:
    """An engine that anchors its list in the TD, its files mounted where the machine's list files are."""
    assert Path("/dev/fuse").exists(), "there is no /dev/fuse: modprobe fuse"
    mount = td.path / "lists"
    mount.mkdir()
    command = [sys.executable, "-m", "imarium", "engine", "--state", str(td.path / "engine"), "--mount", str(mount)]
    process = subprocess.Popen([*command, "--rot", td.rot], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("mounted at")
        yield td
    finally:
        process.terminate()
        process.wait(60)


def test_an_engines_list_in_a_td_is_of_column_2(engine: Machine) -> None:
    """The driver's boot_aggregate and extends, its quote, and the column of its default register."""
    measured = imarium("engine", "--state", engine.path / "engine", "--measure", "/bin/true", "--once")
    assert measured.status == 0, measured.error
    text = (engine.path / "lists" / "ascii_runtime_measurements").read_text().splitlines()
    assert [line.split()[0] for line in text] == ["2"] * len(text)
    assert len(text) >= 3
    done = engine.verify(engine.attest(), *tdx_trust(engine))
    assert (done.status, done.document["covered"], done.document["boot_aggregate"]) == (0, len(text), "compared")


def test_a_list_behind_what_firmware_extended(td: Machine) -> None:
    """Firmware and boot loader extend RTMR 0 to 2 and log it; the list goes on from where they ended."""
    events = {0: b"firmware", 1: b"loader", 2: b"kernel"}
    with open_root(td.rot) as root:
        for index, event in events.items():
            root.extend(f"rtmr{index}", {SHA384: SHA384.digest(event)})
        (td.path / "ccel").write_bytes(cc.header() + b"".join(cc.sha384_event(i + 1, e) for i, e in events.items()))
        aggregate = root.boot_aggregate(SHA384)
    td.anchor(aggregate_record("sha384", aggregate, 2))
    judged(td, tdx_trust(td), 2)
    shorter = Evidence.decode(td.attest().read_bytes())
    log = cc.header() + cc.sha384_event(1, b"firmware") + cc.sha384_event(2, b"loader")
    assert isinstance(shorter.root, TdxPart)
    (td.path / "cut").write_bytes(Evidence(TdxPart(shorter.root.quote, log), shorter.log).encode())
    assert td.verify(td.path / "cut", *tdx_trust(td)).codes == ["boot_aggregate_mismatch"]


def test_records_that_root_passes_off_as_firmwares_are_ruled_out_by_a_known_initial_value(td: Machine) -> None:
    """The event log of a register that root can extend tells what was extended, not by whom: docs/tdx.md says so."""
    with open_root(td.rot) as root:
        root.extend("rtmr2", {SHA384: SHA384.digest(b"kernel")})
        known = root.read(["rtmr2"])["rtmr2"][SHA384]
        aggregate = root.boot_aggregate(SHA384)
    hidden = [aggregate_record("sha384", aggregate, 2), *programs(2, "/bin/hidden")]
    td.anchor(*hidden)
    td.records.clear()
    with open_root(td.rot) as root:
        aggregate = root.boot_aggregate(SHA384)
    events = [b"kernel", *(record.data("little") for record in hidden)]
    (td.path / "ccel").write_bytes(cc.header() + b"".join(cc.sha384_event(3, event) for event in events))
    td.anchor(aggregate_record("sha384", aggregate, 2), *programs(2, "/bin/shown"))
    evidence = td.attest()
    assert td.verify(evidence, *tdx_trust(td)).status == 0
    told = td.verify(evidence, *tdx_trust(td), "--initial", f"2={known.hex()}")
    assert (told.status, told.codes) == (1, ["event_log_mismatch"])


def test_a_bridge_puts_a_kernels_list_into_an_rtmr(td: Machine) -> None:
    """All of a list whose columns say 10 and 11, in RTMR 3, which did not begin at zero."""
    with open_root(td.rot) as root:
        root.extend("rtmr3", {SHA384: bytes(48)})
    td.listed(ng(b"boot_aggregate"), *programs(11, "/bin/first", "/bin/second"))
    bridge = ("rot", "bridge", "--rot", f"{td.rot}:rtmr3", "--state", td.path / "bridge", "--source", td.path / "lists")
    for extended in (3, 0):
        done = imarium(*bridge, "--once", "--json")
        assert done.status == 0, done.error
        document = done.document
        assert (document["register"], document["extended"], document["records"]) == ("rtmr3:sha384", extended, 3)
    assert document["initial"] == SHA384.digest(bytes(96)).hex()
    trust = [*tdx_trust(td), "--column", "all=3", "--bridged", "--initial", f"3={document['initial']}"]
    good = td.verify(td.attest(), *trust)
    assert (good.status, good.document["covered"]) == (0, 3)
    assert td.verify(td.tampered(td.path / "evidence"), *trust).codes == ["record_altered"]
    assert set(td.verify(td.path / "evidence", *tdx_trust(td)).codes) == {"register_not_quoted"}
    with open_root(td.rot) as root:
        root.extend("rtmr3", {SHA384: bytes(48)})
    td.listed(*programs(10, "/bin/third"))
    assert imarium(*bridge, "--once").status == 1
    assert td.verify(td.attest(), *trust).codes == ["records_missing"]


@pytest.mark.parametrize(
    ("kind", "column", "option"), [("cca", 1, "--cca-platform-key"), ("virtcca", 10, "--virtcca-platform-key")]
)
def test_a_list_in_a_realms_rem_0(tmp_path: Path, kind: str, column: int, option: str) -> None:
    with guest(tmp_path, "arm_cca_guest") as mount:
        machine = Machine(tmp_path, f"{kind}:{mount / 'measurements'},reports={mount / 'report'}")
        with open_root(machine.rot) as root:
            aggregate = root.boot_aggregate(SHA256)
        assert aggregate == bytes(32), "the initial measurement as it is"
        machine.anchor(aggregate_record("sha256", aggregate, column))
        trust = [option, tmp_path / "state.platform"]
        judged(machine, trust, column)
        evidence, other = machine.attest(), "11" * 32
        assert machine.verify(evidence, *trust, "--cca-rim", other, "--cca-rim", "00" * 32).status == 0
        assert machine.verify(evidence, *trust, "--cca-rim", other).codes == ["measurement_unknown"]


def test_a_list_in_a_tpms_pcr_10(tmp_path: Path, swtpm: Swtpm) -> None:
    measured = Measured.start(swtpm)
    machine = Machine(tmp_path, f"tpm:{swtpm.tcti}")
    machine.anchor(aggregate_record("sha256", measured.aggregate(), 10))
    machine.attest()
    judged(machine, ["--ak", tmp_path / "store" / "ak" / "ak.pub"], 10)
    machine.rot = f"tpm:{swtpm.tcti},ak={tmp_path / 'store' / 'ak'}"
    again = machine.attest("--bank", "sha384", "--register", 14)
    assert machine.verify(again, "--ak", tmp_path / "store" / "ak" / "ak.pub", "--register", 14).status == 0


def test_a_list_in_a_software_root_says_that_it_proves_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path, f"software:{tmp_path / 'registers'}")
    machine.anchor(ng(b"boot_aggregate", 2), *programs(2, "/bin/first"))
    evidence = machine.attest()
    assert "prove nothing" in machine.told
    assert machine.verify(evidence, "--ak", evidence).status == 3
    key = tmp_path / "key"
    quoted = imarium("rot", "quote", "--rot", machine.rot, "--nonce", "00", "-o", tmp_path / "quote")
    assert quoted.status == 0
    assert "prove nothing" in quoted.error
    key.write_bytes((tmp_path / "quote" / "key").read_bytes())
    people = imarium("verify", evidence, "--nonce", NONCE, "--allow-software", key)
    assert people.out.splitlines()[1] == "a software root of trust proves nothing"
    done = machine.verify(evidence, "--allow-software", key)
    assert (done.status, done.document["covered"]) == (0, 2)


@dataclass
class SnpGuest:
    """A guest with an SVSM whose vTPM is a swtpm."""

    machine: Machine
    swtpm: Swtpm

    @property
    def state(self) -> Path:
        return self.machine.path / "state"

    @property
    def ak(self) -> Path:
        return self.machine.path / "store" / "ak" / "ak.pub"

    def trust(self, *more: object) -> list[object]:
        known = ["--snp-measurement", MEASUREMENT.hex(), "--time", int(CERTIFIED.timestamp())]
        return ["--ak", self.ak, "--snp-root", f"{self.state}.ark", *known, *more]


@pytest.fixture
def snp(tmp_path: Path, swtpm: Swtpm) -> Iterator[SnpGuest]:
    with Tpm(swtpm.tcti) as device:
        manifest = parse_public(device.endorsement_key(EndorsementKind.RSA_2048).public).area
    (tmp_path / "state.manifest").write_bytes(manifest)
    measured = Measured.start(swtpm)
    with guest(tmp_path, "sev_guest") as mount:
        machine = Machine(tmp_path, f"snp:{swtpm.tcti},reports={mount / 'report'}")
        machine.anchor(aggregate_record("sha256", measured.aggregate(), 10))
        yield SnpGuest(machine, swtpm)


def test_a_list_in_the_vtpm_of_an_svsm(snp: SnpGuest) -> None:
    snp.machine.attest()
    judged(snp.machine, snp.trust(), 10)


def test_what_vouches_for_a_vtpm(snp: SnpGuest) -> None:
    evidence = snp.machine.attest()
    verify, trust = snp.machine.verify, snp.trust
    assert verify(evidence, *trust("--snp-issuer", f"{snp.state}.ask")).status == 0
    assert verify(evidence, *trust("--snp-certificate", f"{snp.state}.vcek")).status == 0
    assert verify(evidence, "--ak", snp.ak).status == 2, "the key alone is not taken for kind snp"
    wrong: list[tuple[list[object], str]] = [
        (["--snp-certificate", f"{snp.state}.ask"], "certificate_invalid"),
        (["--snp-root", f"{snp.state}.ask"], "certificate_invalid"),
        (["--time", 0], "certificate_invalid"),
        (["--snp-ek-kind", "ecc"], "manifest_size_mismatch"),
        (["--snp-minimum-tcb", "3.0.9.0"], "tcb_too_old"),
        (["--snp-provider", "CN=cloud"], "csp_mismatch"),
        (["--snp-vmpl", 1], "vmpl_mismatch"),
    ]
    for more, code in wrong:
        assert code in verify(evidence, *trust(*more)).codes, more
    unknown = trust()
    unknown[unknown.index(MEASUREMENT.hex())] = "00" * 48
    assert verify(evidence, *unknown).codes == ["measurement_unknown"]
    (snp.machine.path / "state.bare").touch()
    evidence = snp.machine.attest()
    assert verify(evidence, *trust()).codes == ["certificate_missing"]
    given = ["--snp-certificate", f"{snp.state}.vcek", "--snp-issuer", f"{snp.state}.ask"]
    assert verify(evidence, *trust(*given)).status == 0


def test_a_report_by_a_providers_key(snp: SnpGuest) -> None:
    (snp.machine.path / "state.cloud").touch()
    evidence = snp.machine.attest()
    verify, trust = snp.machine.verify, snp.trust
    assert verify(evidence, *trust()).status == 0
    assert verify(evidence, *trust("--snp-provider", "CN=cloud")).status == 0
    assert verify(evidence, *trust("--snp-provider", "CN=other")).codes == ["csp_mismatch"]
    other = verify(evidence, *trust("--snp-certificate", f"{snp.state}.vcek"))
    assert "signing_key_mismatch" in other.codes
    (snp.machine.path / "state.cloud").unlink()
    chips = snp.machine.attest()
    assert "signing_key_mismatch" in verify(chips, *trust("--snp-certificate", f"{snp.state}.vlek")).codes


def test_a_key_of_another_tpm_does_not_borrow_the_report(snp: SnpGuest) -> None:
    """An attestation key under another endorsement key of the same TPM, and a report for none of the two."""
    with Tpm(snp.swtpm.tcti) as device:
        other = parse_public(device.endorsement_key(EndorsementKind.ECC_P256).public).area
    made = imarium("rot", "ak", snp.machine.path / "other", "--parent", "ecc", "--tcti", snp.swtpm.tcti)
    assert made.status == 0, made.error
    evidence = snp.machine.attest("--ak", snp.machine.path / "other")
    trust = ["--ak", snp.machine.path / "other" / "ak.pub", *snp.trust()[2:]]
    assert snp.machine.verify(evidence, *trust).codes == ["ak_not_of_vtpm"]
    (snp.machine.path / "state.manifest").write_bytes(other)
    evidence = snp.machine.attest("--ak", snp.machine.path / "other")
    assert snp.machine.verify(evidence, *trust, "--snp-ek-kind", "ecc").status == 0


def test_a_vtpms_key_is_enrolled_by_a_challenge(snp: SnpGuest) -> None:
    """The verifier knows no key beforehand: the report vouches for the one that opened the challenge."""
    path = snp.machine.path
    snp.machine.attest()  # makes the attestation key
    assert imarium("rot", "ek", "--key", "rsa", "-o", path / "ek", "--tcti", snp.swtpm.tcti).status == 0
    challenge = ("challenge", "--ak", snp.ak, "-o", path / "challenge", "--json")
    asked = imarium(*challenge, "--ek", path / "ek" / "ek.pub")
    assert asked.status == 0, asked.error
    nonce = asked.document["nonce"]
    evidence = snp.machine.attest("--challenge", path / "challenge", nonce=None)
    enrolled = snp.trust("--snp-ek", path / "ek" / "ek.pub")
    assert snp.machine.verify(evidence, *enrolled, nonce=nonce).status == 0
    assert imarium("rot", "ek", "--key", "ecc", "-o", path / "ecc", "--tcti", snp.swtpm.tcti).status == 0
    other = snp.trust("--snp-ek", path / "ecc" / "ek.pub")
    assert "ek_mismatch" in snp.machine.verify(evidence, *other, nonce=nonce).codes


def test_quotes_by_name_are_the_devices_own(td: Machine) -> None:
    output = td.path / "quote"
    nonce = bytes(64).hex()
    done = imarium("rot", "quote", "--rot", td.rot, "--nonce", nonce, "-o", output, "--json")
    assert done.status == 0, done.error
    assert set(done.document) == {"kind", "statement", "beside", "registers", "directory"}
    assert (output / "statement").read_bytes().hex() == done.document["statement"]
    assert (output / "registers.txt").read_text().startswith("rtmr0:sha384 ")
    for arguments, said in (
        (["--ak", td.path / "ak"], "quotes with its own key"),
        (["--bank", "sha384"], "leave out --bank"),
        (["--endorsement-auth", "x"], "--endorsement-auth is for the TPM"),
    ):
        refused = imarium("rot", "quote", "--rot", td.rot, "--nonce", nonce, "-o", output, *arguments)
        assert (refused.status, refused.out) == (2, "")
        assert said in refused.error
    short = imarium("rot", "quote", "--rot", td.rot, "--nonce", "00", "-o", output)
    assert "takes a nonce of 64 bytes" in short.error


def test_only_a_tpm_can_be_challenged(td: Machine) -> None:
    td.listed(ng(b"boot_aggregate", 2))
    td.attest()
    common = ("--store", td.path / "store", "--source", td.path / "lists", "-o", td.path / "x")
    challenged = imarium("attest", "--rot", td.rot, "--challenge", td.path / "ccel", *common)
    assert challenged.status == 2
    assert "a challenge is for a TPM" in challenged.error
    both = imarium("attest", "--rot", td.rot, "--challenge", td.path / "x", "--nonce", "00", *common)
    assert both.status == 2
