"""The TPM as a root of trust, on swtpm: one started by the test, and one that the driver starts itself."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.real.conftest import Swtpm
from tests.waiting import until

from imarium.errors import DeviceError, MissingComponent, RefusedOperation, UsageError
from imarium.formats.registers import PcrIndex
from imarium.formats.tpm import SignatureScheme, parse_attest
from imarium.hashes import SHA1, SHA256, SHA384, SHA512, SM3
from imarium.rot import Anchor, Anchors, CountsUpdates, KeyKind, RootOfTrust, Tpm, TpmRoot, save_key
from imarium.rot import swtpm as swtpm_module
from imarium.rot.anchors import DigestOf
from imarium.rot.peer import listeners
from imarium.rot.software import SoftwareRoot
from imarium.rot.swtpm import OwnSwtpm
from imarium.rot.tpm_root import tpm_root

BANKS = (SHA1, SHA256, SHA384, SHA512)


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_pcrs_have_names_banks_and_flags(shared_swtpm: Swtpm) -> None:
    with TpmRoot(shared_swtpm.tcti) as tpm:
        rot: RootOfTrust = tpm
        assert (rot.name, rot.kind, rot.default_register, rot.banks()) == ("tpm", "tpm", "10", BANKS)
        registers = rot.registers()
        assert len(registers) == 24 * 4
        assert {"10:sha256", "0:sha1", "23:sha512"} <= {register.key for register in registers}
        assert all(register.extensible for register in registers)


def test_an_extend_goes_into_every_bank_or_is_refused(shared_swtpm: Swtpm) -> None:
    with TpmRoot(shared_swtpm.tcti) as tpm:
        before = tpm.read(["10"])["10"]
        counted = tpm.update_counter()
        digests = {bank: bank.digest(b"event") for bank in BANKS}
        tpm.extend("10", digests)
        after = tpm.read(["10"])["10"]
        assert after == {bank: bank.digest(before[bank] + digests[bank]) for bank in BANKS}
        assert isinstance(tpm, CountsUpdates)
        assert tpm.update_counter() == counted + 4
        with pytest.raises(UsageError, match="sha512 has none"):
            tpm.extend("10", {bank: digests[bank] for bank in BANKS[:3]})
        for name in ("32", "rtmr2", "010", "-1", ""):
            with pytest.raises(UsageError, match="is no PCR"):
                tpm.read([name])
        assert tpm.read(["10"])["10"] == after


def test_boot_aggregate_is_the_kernels(swtpm: Swtpm) -> None:
    with TpmRoot(swtpm.tcti) as tpm:
        for pcr in range(10):
            tpm.extend(str(pcr), {bank: bank.digest(bytes([pcr])) for bank in BANKS})
        values = tpm.read([str(pcr) for pcr in range(10)])
        for bank, count in ((SHA1, 8), (SHA256, 10), (SHA384, 10)):
            expected = bank.digest(b"".join(values[str(pcr)][bank] for pcr in range(count)))
            assert tpm.boot_aggregate(bank) == expected
        assert tpm.boot_aggregate(SM3) == tpm.boot_aggregate(SHA256)


def test_a_quote_is_the_tpms_own_bytes(shared_swtpm: Swtpm, tmp_path: Path) -> None:
    with Tpm(shared_swtpm.tcti) as device:
        save_key(tmp_path / "ak", device.create_ak(KeyKind(SignatureScheme.ECDSA)))
    with tpm_root(f"{shared_swtpm.tcti},ak={tmp_path / 'ak'}") as tpm:
        made = tpm.quote(b"nonce", ["0", "10"])
        attest = parse_attest(made.statement)
        assert attest.extra_data == b"nonce"
        assert attest.quote is not None
        assert attest.quote.selection[SHA256] == (PcrIndex(0), PcrIndex(10))
        assert set(made.beside) == {"signature", "ak"}
        read = tpm.read(["0", "10"])
        assert made.values == {pcr: {bank: of[bank] for bank in (SHA1, SHA256)} for pcr, of in read.items()}
        tpm.use_banks([SHA384])
        assert tpm.quote(b"nonce", ["0", "10"]).values == {pcr: {SHA384: of[SHA384]} for pcr, of in read.items()}
    with TpmRoot(shared_swtpm.tcti) as tpm, pytest.raises(RefusedOperation, match="imarium rot ak"):
        tpm.quote(b"nonce")


def test_a_tpm_of_ones_own_keeps_its_state_and_ends(tmp_path: Path) -> None:
    resets = []
    ak = tmp_path / "ak"
    for _ in range(2):
        root = tpm_root(f"swtpm:{tmp_path / 'state'}")
        with root:
            if not ak.exists():
                save_key(ak, root.device.create_ak(KeyKind(SignatureScheme.ECDSA)))
            assert root.banks()
            with pytest.raises(MissingComponent, match="another process"), tpm_root(f"swtpm:{tmp_path / 'state'}"):
                pass
        with tpm_root(f"swtpm:{tmp_path / 'state'},ak={ak}") as again:
            attest = parse_attest(again.quote(b"n").statement)
            resets.append(attest.clock_info.reset_count)
    assert resets[1] > resets[0]
    with pytest.raises(UsageError, match="tpm:swtpm:DIR"):
        tpm_root("swtpm:")


def test_it_ends_with_its_owner_also_when_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from imarium.rot.tpm_root import tpm_root\n"
        "root = tpm_root('swtpm:' + sys.argv[1]); root.init()\n"
        "print(root._swtpm.pid, flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert not gone(pid)
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    until(lambda: gone(pid))
    own = OwnSwtpm(tmp_path)
    try:
        assert own.start() == own.start()
    finally:
        own.stop()
        own.stop()


def test_where_a_tpm_of_ones_own_is_reached_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with tpm_root(f"swtpm:{tmp_path / 'state'}") as root:
        _, found, tcti = caplog.messages[-1].partition("--tcti ")
        assert found
        with TpmRoot(tcti) as same:
            same.extend("10", {bank: bytes(bank.size) for bank in same.banks()})
            assert same.read(["10"]) == root.read(["10"])


def digest_of(record: int) -> DigestOf:
    return lambda bank: bank.digest(bytes([record]))


def test_a_list_is_anchored_in_a_tpm_and_beside_it_also_when_the_tpm_dies(tmp_path: Path) -> None:
    own = OwnSwtpm(tmp_path / "tpm")
    tpm = TpmRoot(swtpm=own)
    software = SoftwareRoot()
    anchors = Anchors([Anchor(tpm), Anchor(software)], tmp_path / "state", life="1")

    def feed(*records: int) -> None:
        for record in records:
            with anchors.ordered() as extending:
                extending.extend(record, digest_of(record))

    feed(0, 1)
    value = tpm.read(["10"])["10"]
    for bank in BANKS:
        first = bank.digest(bytes(bank.size) + bank.digest(b"\0"))
        assert value[bank] == bank.digest(first + bank.digest(b"\1"))
    own.stop()
    feed(2, 3)
    lagging, ahead = anchors.status()
    assert (ahead.position, ahead.error) == (4, None)
    assert lagging.error is not None
    assert (lagging.position, lagging.error.record) == (2, 2)
    assert lagging.error.name.startswith("tpm_error(")
    assert lagging.error.name[10:-1].isdigit()
    with pytest.raises(DeviceError):
        tpm.read(["10"])


def test_who_listens_is_seen_also_when_it_closes_another_file_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    readlink = os.readlink

    def closed_meanwhile(path: str) -> str:
        found = readlink(path)
        if "pipe" in found or "null" in found:
            raise FileNotFoundError(path)
        return found

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        monkeypatch.setattr(os, "readlink", closed_meanwhile)
        assert listeners(f"swtpm:port={listening.getsockname()[1]}") == (os.getpid(),)


def test_a_port_that_another_has_taken_is_not_its_own(
    swtpm: Swtpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the choice of a port and its use another can come, who answers there as well as a simulator does."""
    choose, chosen = swtpm_module._two_ports, [swtpm.port, swtpm.port - 1]
    monkeypatch.setattr(swtpm_module, "_two_ports", lambda: chosen.pop() if chosen else choose())
    own = OwnSwtpm(tmp_path / "state")
    try:
        tcti = own.start()
        assert tcti != swtpm.tcti
        assert listeners(tcti) == (own.pid,)
    finally:
        own.stop()
    assert not chosen
