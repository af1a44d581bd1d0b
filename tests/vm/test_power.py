"""Custody whose machine loses its power again and again while it drains: what left the kernel is in the store."""

import json
import random
import shlex
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.vm.guest_library import write_library
from vm.machine import Machine, Setup, run

from imarium.chain import replay
from imarium.custody import Event, Log

SESSION = Path(__file__).with_name("power_session.py")
POLICY = "ima_policy=tcb"
CUTS = (13, 12)
"""How many times the power of each of two machines is cut. They run side by side."""
LONGEST = 2.0
"""Seconds of draining before the power is cut, at most: several drains."""
NONCE = "5a" * 32


@dataclass(frozen=True)
class Lives:
    """What the lives of one machine left: ``share`` has a directory for each, all but the last were cut short."""

    share: Path
    cuts: int

    def told(self, life: int) -> tuple[list[bytes], int]:
        """What the kernel was asked to delete, in order, and how many times it is known to have done so."""
        place = self.share / str(life)
        asked = [path.read_bytes() for path in sorted(place.glob("*.asked"))]
        return asked, len(list(place.glob("*.deleted")))

    def first(self, life: int) -> dict[str, Any]:
        """What the first drain of a life said."""
        return dict(json.loads((self.share / str(life) / "first.json").read_text()))

    def log(self, number: int) -> Log:
        """A log as the life after its own found it: that life's service had run once."""
        return Log(self.share / str(number + 1) / "logs" / f"{number:04}")


def live(place: Path, cuts: int, setup: Setup, session: str, attest: str) -> Lives:
    """Let a machine live, and cut its power, so many times; then once more, to its end."""
    share, disk = place / "share", place / "disk"
    (place / "tpm").mkdir()
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    setup = replace(setup, disk=disk, share=share, tpm=place / "tpm")
    moments = random.Random(cuts)  # noqa: S311 - any moments will do
    for life in range(cuts):
        script = f"cp /shared/library.zip /run && {session} {life} cut"
        with Machine(replace(setup, command=("/bin/sh", "-c", script))) as machine:
            machine.wait_for("drains begin", 240)
            time.sleep(moments.uniform(0, LONGEST))
            machine.cut_power()
    script = f"{session} {cuts} end && {attest} && cp /mnt/store/ak/ak.pub /shared && umount /mnt"
    done = run(replace(setup, command=("/bin/sh", "-c", script)), 240)
    assert done.status == 0, done.console
    return Lives(share, cuts)


@pytest.fixture(scope="module")
def machines(
    staging_kernel: Path, guest_python: str, guest_imarium: str, tmp_path_factory: pytest.TempPathFactory
) -> list[Lives]:
    source = Path(shlex.split(guest_python)[1].removeprefix("PYTHONPATH="))
    session = f"{guest_python} {shlex.quote(str(SESSION))}".replace("PYTHONPATH=", "PYTHONPATH=/run/library.zip:")
    attest = f"{guest_imarium} attest --nonce {NONCE} --store /mnt/store -o /shared/evidence.cbor"
    setup = Setup(kernel=staging_kernel, command=(), append=POLICY)
    places = [tmp_path_factory.mktemp("power") for _ in CUTS]
    for place in places:
        (place / "share").mkdir()
        write_library(place / "share" / "library.zip", SESSION.read_text().partition("\nSHARED = ")[0], source)
    with ThreadPoolExecutor(len(places)) as pool:
        begun = [
            pool.submit(live, place, cuts, setup, session, attest) for place, cuts in zip(places, CUTS, strict=True)
        ]
        return [machine.result() for machine in begun]


def test_the_power_was_cut_during_drains(machines: list[Lives]) -> None:
    told = [lives.told(life) for lives in machines for life in range(lives.cuts)]
    asked, deleted = sum(len(chunks) for chunks, _ in told), sum(done for _, done in told)
    last = Counter(lives.log(life).journal.entries[-1].event.value for lives in machines for life in range(lives.cuts))
    print(f"{len(told)} cuts after {asked} deletions, {asked - deleted} of them not known to be done")
    print(f"the journals end with {dict(last)}")
    assert deleted > len(told) == 25


def test_every_record_that_was_deleted_from_the_kernel_is_in_the_store(machines: list[Lives]) -> None:
    for lives in machines:
        for life in range(lives.cuts):
            chunks, _ = lives.told(life)
            gone = b"".join(chunks)
            kept = b"".join(lives.log(life).blocks())
            assert kept.startswith(gone), f"life {life}: {len(gone)} bytes left the kernel, {len(kept)} are kept"


def test_each_log_checks_and_each_life_has_its_own(machines: list[Lives]) -> None:
    for lives in machines:
        for life in range(lives.cuts):
            log = lives.log(life)
            assert (log.number, log.meta.start) == (life, "reset")
            assert log.end_state() is not None
            result = replay(log.blocks(), log.layout)
            assert (result.records, result.bad_digests, len(result.boot_aggregates)) == (log.records, (), 1)
            assert {entry.event for entry in log.journal.entries} >= {Event.KEPT, Event.DELETED}


def test_each_new_life_is_proven_from_its_reset(machines: list[Lives]) -> None:
    for lives in machines:
        for life in range(lives.cuts + 1):
            first = lives.first(life)
            assert (first["log"], first["verdict"], first["registers"]) == (life, "proven", [10]), first


def test_the_verifier_passes_the_log_after_the_last_cut(machines: list[Lives]) -> None:
    for lives in machines:
        evidence, ak = lives.share / "evidence.cbor", lives.share / "ak.pub"
        command = [
            sys.executable,
            "-m",
            "imarium",
            "verify",
            str(evidence),
            "--ak",
            str(ak),
            "--nonce",
            NONCE,
            "--json",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        said = json.loads(done.stdout)
        assert (said["verdict"], said["begins"]) == ("pass", "boot_aggregate")
        assert said["covered"] > lives.first(lives.cuts)["total"]["records"]
