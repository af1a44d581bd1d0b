"""The engine with a real TPM: its lives, its update counter, and a TPM that breaks off."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.real.conftest import Swtpm, start_swtpm

from imarium.engine import Engine, builtin_policy
from imarium.formats import encode_record
from imarium.hashes import SHA1
from imarium.rot import RootOfTrust, open_root

POLICY = builtin_policy(["tcb", "critical_data"])


@pytest.fixture
def with_banks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Swtpm]]:
    """Starts a TPM that has just these banks."""
    started = []

    def start(banks: str) -> Swtpm:
        setup = shutil.which("swtpm_setup")
        assert setup is not None, "swtpm_setup is missing: apt install swtpm-tools"
        state = tmp_path_factory.mktemp("swtpm")
        command = [setup, "--tpm2", "--tpmstate", str(state), "--pcr-banks", banks, "--overwrite"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        simulator, running = start_swtpm(state)
        started.append(simulator)
        return running

    yield start
    for simulator in started:
        simulator.stop()


def listed(*lists) -> bytes:
    return b"".join(encode_record(m.record(0, SHA1)) for records in lists for m in records)


def pcrread(swtpm: Swtpm, place: Path) -> Path:
    program = shutil.which("tpm2_pcrread")
    assert program is not None, "tpm2_pcrread is missing: apt install tpm2-tools"
    done = subprocess.run([program, "-T", swtpm.tcti], check=True, capture_output=True, timeout=60)
    path = place / "pcrs"
    path.write_bytes(done.stdout)
    return path


def extend(swtpm: Swtpm, pcr: int, banks: str) -> None:
    sizes = {"sha1": 20, "sha256": 32}
    digests = ",".join(f"{bank}={'ab' * sizes[bank]}" for bank in banks.split(","))
    subprocess.run(["tpm2_pcrextend", "-T", swtpm.tcti, f"{pcr}:{digests}"], check=True, timeout=60)


def replayed(data: bytes, pcrs: Path, place: Path) -> tuple[int, dict]:
    path = place / "list"
    path.write_bytes(data)
    command = [sys.executable, "-m", "imarium", "replay", str(path), "--pcrs", str(pcrs), "--digest", "sha1", "--json"]
    done = subprocess.run(command, check=False, capture_output=True, timeout=60)
    assert done.stderr == b""
    return done.returncode, json.loads(done.stdout)


def test_ten_lives_with_staging_and_deletion_replay_to_the_registers_each_time(swtpm, tmp_path):
    rng = random.Random(10)  # noqa: S311 - the same commands each time
    deleted, buffer, made = b"", None, 0
    with open_root(f"tpm:{swtpm.tcti}") as root:
        for life in range(11):
            with Engine(tmp_path / "engine", roots=[root], policy=POLICY, restore=buffer) as engine:
                for _ in range(rng.randrange(5, 40)):
                    action = rng.randrange(6)
                    if action == 0 and engine.queue.current and not engine.queue.staged:
                        engine.queue.stage_all()
                    elif action == 1 and engine.queue.staged:
                        deleted += listed(engine.queue.staged)
                        engine.queue.delete_staged()
                    elif action == 2 and not engine.queue.staged and engine.queue.current:
                        count = rng.randrange(1, len(engine.queue.current) + 1)
                        first = engine.queue.current.first
                        deleted += listed([engine.queue.current[n] for n in range(first, first + count)])
                        engine.queue.delete(count)
                    else:
                        made += engine.measure_critical_data(b"test", b"life-%d" % life, b"%d" % rng.randrange(50))
                for moment in range(2):
                    whole = deleted + listed(engine.queue.staged, engine.queue.current)
                    status, found = replayed(whole, pcrread(swtpm, tmp_path), tmp_path)
                    assert (status, found["unverified"]) == (0, 0), (life, moment, found["match"])
                    assert found["records"] == engine.status().registers[0].records
                    assert all(interval["verdict"] == "exact" for interval in found["counters"])
                    buffer = tmp_path / f"buffer-{life}"
                    if moment == 0:
                        engine.suspend_to(buffer)
            names = [each["name"] for each in found["boot_aggregates"]]
            assert names == ["boot_aggregate"] * (life + 1)
    assert made > 50


@pytest.mark.parametrize("banks", ["sha256", "sha1,sha256"])
def test_the_counter_explains_the_records_and_names_the_interval_of_a_missing_one(with_banks, tmp_path, banks):
    swtpm = with_banks(banks)
    with open_root(f"tpm:{swtpm.tcti}") as root, Engine(tmp_path / "e", roots=[root], policy=POLICY) as engine:
        kept = b""
        for interval in range(4):
            for number in range(3 + interval):
                engine.measure_critical_data(b"test", b"%d-%d" % (interval, number), b"data")
            engine.queue.stage_all()
            kept += listed(engine.queue.staged)
            engine.queue.delete_staged()
        pcrs = pcrread(swtpm, tmp_path)
        per_record = len(banks.split(","))

        status, found = replayed(kept, pcrs, tmp_path)
        assert status == 0
        assert [i["extends"] for i in found["counters"]] == [4, 5, 6, 7]
        assert all(i["updates"] == i["extends"] * per_record and i["verdict"] == "exact" for i in found["counters"])

        records = kept.split(b"\x0a\0\0\0")[1:]
        missing = next(n for n, record in enumerate(records) if b"2-1" in record)
        without = b"".join(b"\x0a\0\0\0" + record for n, record in enumerate(records) if n != missing)
        status, found = replayed(without, pcrs, tmp_path)
        assert status == 1
        verdicts = [(i["verdict"], i["missing"]) for i in found["counters"]]
        exact = ("exact", {"least": 0, "most": 0})
        assert verdicts == [exact, exact, ("missing", {"least": 1, "most": 1}), exact]
        assert found["counters"][2]["first"] < missing <= found["counters"][2]["last"]

        extend(swtpm, 12, banks)
        engine.measure_critical_data(b"test", b"last", b"data")
        engine.queue.stage_all()
        kept += listed(engine.queue.staged)
        pcrs = pcrread(swtpm, tmp_path)
        status, found = replayed(kept, pcrs, tmp_path)
        assert (status, found["counters"][-1]["verdict"]) == (0, "other_registers")
        without = b"".join(
            b"\x0a\0\0\0" + record for n, record in enumerate(kept.split(b"\x0a\0\0\0")[1:]) if n != missing
        )
        status, found = replayed(without, pcrs, tmp_path)
        assert status == 1
        assert [i["verdict"] for i in found["counters"]] == [
            "exact",
            "exact",
            "missing_or_other",
            "exact",
            "missing_or_other",
        ]


def test_a_tpm_that_is_gone_is_audited_and_what_was_measured_stays_in_the_list(tmp_path, tmp_path_factory, caplog):
    simulator, swtpm = start_swtpm(tmp_path_factory.mktemp("swtpm"))
    try:
        with open_root(f"tpm:{swtpm.tcti}") as root, Engine(tmp_path / "e", roots=[root], policy=POLICY) as engine:
            simulator.stop()
            assert engine.measure_critical_data(b"test", b"one", b"data")
            assert engine.measure_critical_data(b"test", b"two", b"data")
            audited = [record.getMessage() for record in caplog.records if record.name == "imarium.engine.audit"]
            assert len(audited) == 1
            assert audited[0].startswith("op=add_template_measure cause=tpm_error(")
            (register,) = engine.status().registers
            assert (register.records, register.waiting) == (5, 2)
    finally:
        simulator.stop()


def test_each_record_is_extended_in_every_bank_of_every_root_and_by_its_register(swtpm, tmp_path):
    with open_root(f"tpm:{swtpm.tcti}") as tpm, open_root("software:") as software:
        roots: list[RootOfTrust] = [tpm, software]
        with Engine(tmp_path / "e", roots=roots) as engine:
            engine.policy.append(b"measure func=CRITICAL_DATA label=eleven pcr=11\nmeasure func=CRITICAL_DATA\n")
            for number in range(10):
                engine.measure_critical_data(b"eleven" if number % 2 else b"other", b"%d" % number, b"data")
            data = listed(engine.queue.current)
            status, found = replayed(data, pcrread(swtpm, tmp_path), tmp_path)
            assert (status, found["unverified"]) == (0, 0)
            assert set(found["match"]) == {"10", "11"}
            assert set(found["match"]["10"]) == {"sha1", "sha256", "sha384", "sha512"}
            registers = {(each.root, each.register): each.records for each in engine.status().registers}
            assert registers[("tpm", "11")] == 5
            assert registers[("software", "rtmr2")] == registers[("tpm", "10")] + 5
