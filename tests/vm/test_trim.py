"""Deleting by number on a real kernel: kept and proved first; with ima_flush_htable it refuses, and it is staged."""

import json
from pathlib import Path
from typing import Any

import pytest
from vm.guest import Guest

from imarium.custody import Store
from imarium.formats.records import read_records

IMA = "/sys/kernel/security/ima"


def trimmed(guest: Guest, guest_imarium: str, share: Path, append: str) -> list[dict[str, Any]]:
    """Two runs with a program that is measured between them, and what the kernel has then."""
    keep = f"{guest_imarium} keep --once --method trim --json --store /run/store"
    script = (
        f"{keep} > /shared/first.json && cp /bin/true /opt/between && /opt/between && {keep} > /shared/second.json && "
        f"cat {IMA}/binary_runtime_measurements > /shared/pending && "
        f"cat {IMA}/binary_runtime_measurements_sha1_staged > /shared/staged && cp -r /run/store /shared/store"
    )
    done = guest(script, append=append, share=share)
    assert done.status == 0, done.console
    return [json.loads((share / f"{name}.json").read_text()) for name in ("first", "second")]


@pytest.mark.parametrize("flush", [False, True], ids=["trim", "refused"])
def test_records_are_trimmed(guest: Guest, guest_imarium: str, tmp_path: Path, flush: bool) -> None:
    append = "ima_policy=tcb ima_flush_htable" if flush else "ima_policy=tcb"
    results = trimmed(guest, guest_imarium, tmp_path, append)
    for result in results:
        assert (result["verdict"], result["registers"]) == ("proven", [10])
        assert result["freed"] == result["kept"]
        assert result["freed"]["records"] > 0
        assert result["method"] == ("prompt" if flush else "trim")
        assert ("ima_flush_htable" in result["method_reason"]) == flush
    assert (tmp_path / "staged").read_bytes() == b""
    log = Store(tmp_path / "store").log()
    names = [record.name for record in log.records_from(0)]
    assert names.count(b"/opt/between") == 1
    assert log.records == sum(result["kept"]["records"] for result in results)
    pending = [record.name for record in read_records([(tmp_path / "pending").read_bytes()], log.layout)]
    assert b"boot_aggregate" not in pending
    assert names[0] == b"boot_aggregate"
