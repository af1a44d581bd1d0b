"""The policy language beside the kernel's own: each case of ``tests/unit/policy_rules.py`` in both."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.policy_rules import CASES, FILES, SESSIONS, run_session
from vm.guest import Guest

from imarium.engine import (
    Access,
    EventFacts,
    Hook,
    PolicyBusy,
    PolicyFile,
    PolicyRefused,
    Subject,
    builtin_policy,
)
from imarium.engine.policy_parse import parse_line

SCRIPT = Path(__file__).with_name("policy_session.py")
PLACE = "/run/rules"
ROOT = Subject(0, 0, 0, 0, 0, 0, True, True)


@pytest.fixture(scope="module")
def kernel(guest: Guest, guest_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the kernel made of all cases, in one boot."""
    share = tmp_path_factory.mktemp("policy")
    cases = {
        "files": {name: content.hex() for name, content in FILES.items()},
        "sessions": [
            ([data.replace(b"@", PLACE.encode()).hex() for data in session.writes], session.offset)
            for session in SESSIONS
        ],
        "lines": [case.line.hex() for case in CASES],
    }
    (share / "cases.json").write_text(json.dumps(cases))
    done = guest(f"{guest_python} {SCRIPT}", append="ima_policy=tcb", share=share)
    assert done.status == 0, done.console
    return dict(json.loads((share / "out.json").read_text()))


@pytest.mark.parametrize("names", [["tcb"], ["critical_data"], ["tcb", "critical_data"]], ids="|".join)
def test_built_in_policies_are_the_kernels_byte_for_byte(guest: Guest, tmp_path: Path, names: list[str]) -> None:
    done = guest(
        "cat /sys/kernel/security/ima/policy > /shared/policy", append=f"ima_policy={'|'.join(names)}", share=tmp_path
    )
    assert done.status == 0, done.console
    assert (tmp_path / "policy").read_bytes() == builtin_policy(names).text()


def test_every_line_is_taken_refused_and_shown_as_by_the_kernel(kernel: dict[str, Any]) -> None:
    """Both columns are printed where they differ. What is not to be seen from here is refused here alone."""
    assert len(CASES) >= 60
    different = []
    for case, (number, shown) in zip(CASES, kernel["lines"], strict=True):
        theirs = (number, bytes.fromhex(shown).removesuffix(b"\n"))
        try:
            rule = parse_line(case.line)
            ours = (0, b"" if rule is None else rule.text())
        except PolicyRefused as error:
            ours = (error.number, b"")
        if case.kernel is None:
            if theirs != ours:
                different.append(f"{case.line!r}: kernel {theirs}, here {ours}")
        elif (theirs[0], ours[0]) != (case.kernel, case.errno):
            different.append(f"{case.line!r}: kernel {theirs}, here {ours}, not as expected")
    assert not different, "\n".join(different)


def test_the_tests_own_table_says_what_the_kernel_does(kernel: dict[str, Any]) -> None:
    for case, (number, shown) in zip(CASES, kernel["lines"], strict=True):
        assert number == (case.errno if case.kernel is None else case.kernel), case
        if case.kernel is None:
            assert bytes.fromhex(shown).removesuffix(b"\n") == case.text, case


class Recorder:
    """A policy file, and what of it the policy itself says to measure, once each, as (name, data)."""

    def __init__(self) -> None:
        self.measured: list[tuple[str, bytes]] = []
        self.file = PolicyFile(builtin_policy(["tcb"]), read=self._read, written=self._written, loaded=self._loaded)

    def _read(self, path: Path, content: bytes) -> None:
        self._record(f"{PLACE}/{path.name}", content, Hook.POLICY_CHECK)

    def _written(self, data: bytes) -> None:
        self._record("ima_policy_written", data, Hook.POLICY_CHECK)

    def _loaded(self, text: bytes) -> None:
        self._record("ima_policy_loaded", text, Hook.CRITICAL_DATA, b"ima_policy")

    def _record(self, name: str, data: bytes, hook: Hook, label: bytes | None = None) -> None:
        facts = EventFacts(hook, Access.NONE, ROOT, None, label)
        if self.file.policy.match(facts) is not None and (name, data) not in self.measured:
            self.measured.append((name, data))


def test_sessions_of_writing_end_as_in_the_kernel(kernel: dict[str, Any], tmp_path: Path) -> None:
    """Results of each write, the policy after each session, and what of it was measured, in order."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    recorder = Recorder()
    assert recorder.file.text().hex() == kernel["builtin"]
    for session, (results, text) in zip(SESSIONS, kernel["sessions"], strict=True):
        shorter = [len(str(tmp_path)) - len(PLACE) if b"@" in data else 0 for data in session.writes]
        ours = run_session(recorder.file, session, tmp_path)
        assert [taken - less if taken > 0 else taken for taken, less in zip(ours, shorter, strict=True)] == results
        assert recorder.file.text().hex() == text, session
    kernels = [line.split()[4:] for line in kernel["events"]]
    assert [name for name, _ in recorder.measured] == [words[0] for words in kernels]
    for (name, data), words in zip(recorder.measured, kernels, strict=True):
        assert name.startswith(PLACE) or words[1] == data.hex()


def test_the_file_is_open_for_one_writer(kernel: dict[str, Any]) -> None:
    assert kernel["busy"] == [PolicyBusy.number, 0, 13]
