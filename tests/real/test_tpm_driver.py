"""The TPM driver on swtpm: registers, banks, the update counter, and the same as tpm2-tools sees."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imarium.errors import DeviceError, MissingComponent, UsageError
from imarium.formats.registers import PcrIndex
from imarium.formats.tpm import SignatureScheme
from imarium.hashes import SHA1, SHA256, SHA384, SHA512, SM3, HashAlgorithm
from imarium.rot import KeyKind, PcrDevice, Tpm
from imarium.rot.tss import Tss

if TYPE_CHECKING:
    from tests.real.conftest import Swtpm

ALL = tuple(PcrIndex(index) for index in range(24))
DIGESTS = {bank: bank.digest(b"event") for bank in (SHA1, SHA256, SHA384, SHA512)}


@pytest.fixture
def tpm(shared_swtpm: Swtpm) -> Iterator[Tpm]:
    with Tpm(shared_swtpm.tcti) as opened:
        yield opened


def test_the_driver_is_a_root_of_trust(tpm: Tpm) -> None:
    rot: PcrDevice = tpm
    assert (tpm.name, tpm.default_register) == ("tpm", 10)
    assert rot.banks() == (SHA1, SHA256, SHA384, SHA512)
    assert tpm.unknown_banks() == ()


def test_registers_start_as_the_pc_client_profile_says(tpm: Tpm) -> None:
    values = tpm.read([PcrIndex(15), PcrIndex(17), PcrIndex(22)])
    for bank in tpm.banks():
        assert values[bank] == {15: bytes(bank.size), 17: b"\xff" * bank.size, 22: b"\xff" * bank.size}


def test_extend_hashes_the_old_value_and_the_digest(tpm: Tpm) -> None:
    register = PcrIndex(10)
    before = tpm.read([register])
    tpm.extend(register, DIGESTS)
    after = tpm.read([register])
    for bank in tpm.banks():
        assert after[bank][register] == bank.digest(before[bank][register] + DIGESTS[bank])


def test_a_bank_that_is_not_named_stays(tpm: Tpm) -> None:
    before = tpm.read([PcrIndex(11)])
    tpm.extend(PcrIndex(11), {SHA256: DIGESTS[SHA256]})
    after = tpm.read([PcrIndex(11)])
    assert after[SHA256] != before[SHA256]
    assert after[SHA1] == before[SHA1]


def test_the_counter_rises_by_the_number_of_banks_and_not_for_pcr_16_and_23(tpm: Tpm) -> None:
    start = tpm.update_counter()
    tpm.extend(PcrIndex(10), DIGESTS)
    assert tpm.update_counter() == start + 4
    tpm.extend(PcrIndex(10), {SHA1: DIGESTS[SHA1]})
    assert tpm.update_counter() == start + 5
    for index in (16, 23):
        tpm.extend(PcrIndex(index), DIGESTS)
    assert tpm.update_counter() == start + 5
    tpm.read(ALL)
    assert tpm.update_counter() == start + 5


def test_what_makes_no_sense_is_refused_before_the_tpm_sees_it(tpm: Tpm) -> None:
    start = tpm.update_counter()
    with pytest.raises(UsageError, match="no sm3 bank; it has sha1, sha256"):
        tpm.read([PcrIndex(10)], [SM3])
    with pytest.raises(UsageError, match="no sm3 bank"):
        tpm.extend(PcrIndex(10), {**DIGESTS, SM3: bytes(32)})
    with pytest.raises(UsageError, match="has 32 bytes, not 20"):
        tpm.extend(PcrIndex(10), {SHA256: bytes(20)})
    with pytest.raises(UsageError, match="nothing to extend"):
        tpm.extend(PcrIndex(10), {})
    for index in (24, 31, 32, -1, 0x81010001):
        with pytest.raises(UsageError, match=f"no PCR {index}"):
            tpm.extend(PcrIndex(index), DIGESTS)
        with pytest.raises(UsageError, match=f"no PCR {index}"):
            tpm.read([PcrIndex(index)])
    assert tpm.update_counter() == start


def test_an_error_of_the_tpm_has_its_name_and_number(tpm: Tpm) -> None:
    with pytest.raises(DeviceError, match=r"TPM2_PCR_Extend of PCR 18: .*locality.* \(0x907\)"):
        tpm.extend(PcrIndex(18), DIGESTS)


def test_values_are_of_one_moment_while_registers_change(tpm: Tpm, monkeypatch: pytest.MonkeyPatch) -> None:
    """PCR 0 and 14 are extended between the commands of a read, and are always seen after as many extends."""
    first, last = PcrIndex(0), PcrIndex(14)
    known = {index: [tpm.read([index])[SHA256][index]] for index in (first, last)}
    plain = tpm._read_part
    pending = 0

    def disturbing(wanted: list[tuple[HashAlgorithm, PcrIndex]]) -> object:
        nonlocal pending
        result = plain(wanted)
        if pending:
            pending -= 1
            for index, values in known.items():
                tpm.extend(index, {SHA256: DIGESTS[SHA256]})
                values.append(SHA256.digest(values[-1] + DIGESTS[SHA256]))
        return result

    monkeypatch.setattr(tpm, "_read_part", disturbing)
    for disturbances in range(12):
        pending = disturbances
        values = tpm.read(ALL)[SHA256]
        assert known[first].index(values[first]) == known[last].index(values[last])
    assert len(known[first]) == 1 + sum(range(12))


def test_a_tpm_that_never_rests_ends_in_a_clear_error(tpm: Tpm, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tpm._read_part

    def disturbing(wanted: list[tuple[HashAlgorithm, PcrIndex]]) -> object:
        result = plain(wanted)
        tpm.extend(PcrIndex(10), {SHA1: DIGESTS[SHA1]})
        return result

    monkeypatch.setattr(tpm, "_read_part", disturbing)
    with pytest.raises(DeviceError, match="PCRs changed during each of"):
        tpm.read(ALL)


def test_tpm2_pcrread_shows_the_same_values(shared_swtpm: Swtpm) -> None:
    program = shutil.which("tpm2_pcrread")
    assert program is not None, "tpm2_pcrread is missing: apt install tpm2-tools"
    with Tpm(shared_swtpm.tcti) as tpm:
        tpm.extend(PcrIndex(7), DIGESTS)
        ours = tpm.read(ALL)
    finished = subprocess.run([program, "-T", shared_swtpm.tcti], check=True, capture_output=True, text=True)
    theirs: dict[str, dict[int, bytes]] = {}
    bank = ""
    for line in finished.stdout.splitlines():
        if found := re.fullmatch(r"\s*(\d+)\s*: 0x([0-9A-F]+)", line):
            theirs[bank][int(found[1])] = bytes.fromhex(found[2])
        else:
            bank = line.strip().rstrip(":")
            theirs[bank] = {}
    assert theirs == {bank.name: values for bank, values in ours.items()}


def test_no_tpm_is_a_missing_component(tmp_path: Path) -> None:
    with pytest.raises(MissingComponent, match="no TPM answers at swtpm:host="):
        Tpm("swtpm:host=127.0.0.1,port=1")
    with pytest.raises(MissingComponent, match="there is no "):
        Tpm(f"device:{tmp_path / 'tpm'}")
    with pytest.raises(UsageError, match="unknown TCTI"):
        Tpm("nonsense")


def test_a_closed_tpm_says_so(shared_swtpm: Swtpm) -> None:
    tpm = Tpm(shared_swtpm.tcti)
    tpm.close()
    tpm.close()
    with pytest.raises(UsageError, match="closed"):
        tpm.banks()


def test_the_tss_writes_nothing_to_standard_error(shared_swtpm: Swtpm) -> None:
    script = (
        "import sys\nfrom imarium.errors import ImariumError\nfrom imarium.rot import Tpm\n"
        "from imarium.hashes import SHA1\n"
        "for tcti in ('swtpm:host=127.0.0.1,port=1', sys.argv[1]):\n"
        "    try:\n        Tpm(tcti).extend(18, {SHA1: bytes(20)})\n"
        "    except ImariumError as error:\n        print(error)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script, shared_swtpm.tcti], check=True, capture_output=True, text=True
    )
    assert finished.stderr == ""
    assert len(finished.stdout.splitlines()) == 2


def test_a_tpm_that_goes_away_is_a_device_error_that_names_the_command(swtpm: Swtpm) -> None:
    with Tpm(swtpm.tcti) as tpm:
        key = tpm.create_ak(KeyKind(SignatureScheme.ECDSA))
    selection = {SHA256: (PcrIndex(10),)}
    with pytest.raises(DeviceError, match=r"^TPM2_PCR_Read: tcti:IO failure"), Tpm(swtpm.tcti, key) as tpm:
        tpm.quote(b"nonce", selection)
        control(swtpm, "-s")
        tpm.update_counter()
    with pytest.raises(MissingComponent, match="no TPM answers"):
        Tpm(swtpm.tcti)


def test_a_bank_that_is_not_allocated_is_not_there(swtpm: Swtpm) -> None:
    program = shutil.which("tpm2_pcrallocate")
    assert program is not None, "tpm2_pcrallocate is missing: apt install tpm2-tools"
    banks = "sha1:none+sha256:all+sha384:none+sha512:none"
    subprocess.run([program, "-T", swtpm.tcti, banks], check=True, capture_output=True)
    control(swtpm, "-i")
    subprocess.run(["tpm2_startup", "-T", swtpm.tcti, "-c"], check=True)
    with Tpm(swtpm.tcti) as tpm:
        assert tpm.banks() == (SHA256,)
        assert set(tpm.read([PcrIndex(10)])) == {SHA256}
        start = tpm.update_counter()
        tpm.extend(PcrIndex(10), {SHA256: DIGESTS[SHA256]})
        assert tpm.update_counter() == start + 1
        with pytest.raises(UsageError, match="no sha1 bank; it has sha256"):
            tpm.extend(PcrIndex(10), {SHA1: DIGESTS[SHA1]})


def test_a_bank_of_an_unknown_algorithm_is_reported(tpm: Tpm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tss, "allocated_pcrs", lambda _: {0x0B: frozenset(range(24)), 0x7B: frozenset(range(24))})
    assert tpm.banks() == (SHA256,)
    assert tpm.unknown_banks() == (0x7B,)
    assert set(tpm.read([PcrIndex(10)])) == {SHA256}


def control(running: Swtpm, command: str) -> None:
    program = shutil.which("swtpm_ioctl")
    assert program is not None, "swtpm_ioctl is missing: apt install swtpm-tools"
    subprocess.run([program, "--tcp", f"127.0.0.1:{running.port + 1}", command], check=True)
