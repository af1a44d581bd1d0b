"""One log over five kernels, each of which left its lists to the next in another state."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from vm.guest import Guest

from imarium import hashes
from imarium.chain import replay
from imarium.custody import Store
from imarium.engine import Measurement, MeasurementQueue
from imarium.engine.kexec import kexec_event, segment_size
from imarium.formats.records import ListLayout, read_records
from imarium.formats.registers import IMA_PCR

SESSION = Path(__file__).with_name("kexec_session.py")
POLICY = "ima_policy=tcb ima_policy=critical_data"
LEFT = ("staged", "kept", "deleted", "partly")
PROGRAMS = [*(f"before-{how}" for how in LEFT), "behind-staged", "behind-kept", "staged-by-other", "current"]


@pytest.fixture(scope="module")
def share(guest: Guest, guest_python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    share = tmp_path_factory.mktemp("kexec")
    done = guest(f"{guest_python} {shlex.quote(str(SESSION))}", append=POLICY, share=share, timeout=300)
    assert done.status == 0, done.console
    return share


def found(share: Path, kernel: int) -> dict[str, Any]:
    return dict(json.loads((share / f"{kernel}.json").read_text()))


@pytest.mark.parametrize("kernel", range(1, len(LEFT) + 1), ids=LEFT)
def test_the_next_kernels_drain_goes_on_with_the_log(share: Path, kernel: int) -> None:
    result = found(share, kernel)["result"]
    assert (result["log"], result["verdict"], result["registers"]) == (0, "proven", [10]), result


@pytest.mark.parametrize("kernel", range(1, len(LEFT) + 1), ids=LEFT)
def test_the_log_replays_to_the_register(share: Path, kernel: int) -> None:
    said = found(share, kernel)
    values = {hashes.by_name(name): bytes.fromhex(value) for name, value in said["registers"].items()}
    whole = replay([bytes.fromhex(said["whole"])], ListLayout(), targets={IMA_PCR: values})
    assert {bank.name for bank in values} == {"sha1", "sha256"}
    assert (whole.bad_digests, len(whole.boot_aggregates)) == ((), kernel + 1)
    assert whole.matches.prefix is not None
    assert whole.matches.prefix >= said["result"]["total"]["records"] > 50
    assert said["complete"]


def test_each_kernel_is_another(share: Path) -> None:
    assert len({found(share, kernel)["boot"] for kernel in range(1, len(LEFT) + 1)}) == len(LEFT)


def test_the_engine_words_a_kexec_as_the_kernel_does(share: Path) -> None:
    """Size, count and segment, of the first kernel's list: nothing was carried over to it or deleted from it."""
    records = list(read_records([bytes.fromhex(found(share, 1)["whole"])], ListLayout()))
    queue, segment, worded = MeasurementQueue(), 0, 0
    for record in records[: [record.name for record in records].index(b"kexec_execute") + 1]:
        if record.name == b"kexec_load":
            segment = segment_size(queue)
        if record.name in {b"kexec_load", b"kexec_execute"}:
            assert record.fields[2] == kexec_event(queue, segment)
            worded += 1
        queue.add(Measurement(record.pcr, record.template, record.data, record.is_violation))
    assert worded >= 2


def test_no_record_is_lost_or_doubled(share: Path) -> None:
    store = Store(share / "store")
    assert store.numbers == (0,)
    kept = [record.name or b"" for record in read_records(store.log().blocks(), ListLayout())]
    assert [kept.count(f"/opt/imarium-test/{name}".encode()) for name in PROGRAMS] == [1] * len(PROGRAMS)
