"""Files measured by the kernel and by the engine: the same story gives the same records, step by step."""

import json
from pathlib import Path

import pytest
from vm.guest import Guest

SCRIPT = Path(__file__).with_name("files_session.py")
Told = list[tuple[str, list[list[str]]]]

DIFFERENT = {
    "a program beside a writer": "the kernel has refused to execute it before it would measure it",
    "read directly": "the kernel cannot read such a file and records a digest of zeros",
}
"""Steps after which the engine has other records, and why."""


def told_by(guest: Guest, guest_python: str, share: Path, who: str) -> Told:
    disk = share / "disk"
    with disk.open("wb") as image:
        image.truncate(64 << 20)
    done = guest(f"{guest_python} {SCRIPT} {who}", share=share, disk=disk)
    assert done.status == 0, done.console
    return [(name, records) for name, records in json.loads((share / "out.json").read_text())]


@pytest.fixture(scope="module")
def kernel(guest: Guest, guest_python: str, tmp_path_factory: pytest.TempPathFactory) -> Told:
    return told_by(guest, guest_python, tmp_path_factory.mktemp("kernel"), "kernel")


@pytest.fixture(scope="module")
def engine(guest: Guest, guest_python: str, tmp_path_factory: pytest.TempPathFactory) -> Told:
    return told_by(guest, guest_python, tmp_path_factory.mktemp("engine"), "engine")


def test_the_records_are_the_kernels(kernel: Told, engine: Told) -> None:
    """Names, registers, templates, digests, signatures and violations. Both columns are printed where they differ."""
    assert [name for name, _ in kernel] == [name for name, _ in engine]
    different = [
        f"{name}:\n  kernel {theirs}\n  engine {ours}"
        for (name, theirs), (_, ours) in zip(kernel, engine, strict=True)
        if theirs != ours and name not in DIFFERENT
    ]
    assert not different, "\n".join(different)


def test_the_story_has_something_of_everything(kernel: Told) -> None:
    records = [record for _, records in kernel for record in records]
    assert len(kernel) > 60
    assert sum(record[3] == "violation" for record in records) >= 8
    assert {record[1] for record in records} == {"10", "11"}
    templates = {"ima-sig", "ima", "ima-ng", "ima-ngv2", "ima-sigv2", "ima-modsig", "evm-sig"}
    assert {record[2] for record in records} == templates


def test_where_the_engine_differs_it_says_more(kernel: Told, engine: Told) -> None:
    theirs, ours = dict(kernel), dict(engine)
    assert theirs["a program beside a writer"] == []
    assert [record[3] for record in ours["a program beside a writer"]] == ["violation"]
    assert [set(record[4][-64:]) for record in theirs["read directly"]] == [{"0"}]
    assert [len(set(record[4][-64:])) > 1 for record in ours["read directly"]] == [True]
