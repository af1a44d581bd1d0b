"""The policy language: what is taken, how it is shown, which rule decides, and how rules are added."""

import errno
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.policy_rules import CASES, FILES, SESSIONS, Case, run_session

from imarium.engine import (
    Access,
    Action,
    EventFacts,
    FileFacts,
    FileSystem,
    Hook,
    Policy,
    PolicyBusy,
    PolicyFile,
    PolicyRefused,
    Subject,
    builtin_policy,
    parse_rule,
)
from imarium.engine.policy_parse import parse_line
from imarium.errors import UsageError
from imarium.formats import IMA_PCR, PcrIndex

ROOT = Subject(0, 0, 0, 0, 0, 0, True, True)
USER = Subject(1000, 1000, 1000, 1000, 1000, 1000, False, False)
EXT4 = FileSystem(0xEF53, b"ext4", uuid=bytes(range(16)))
FILE = FileFacts(0, 0, EXT4)


def event(
    hook: Hook = Hook.FILE_CHECK,
    access: Access = Access.READ,
    subject: Subject = ROOT,
    file: FileFacts | None = FILE,
    data: bytes | None = None,
) -> EventFacts:
    return EventFacts(hook, access, subject, file, data)


def policy(*lines: bytes) -> Policy:
    return Policy(parse_rule(line) for line in lines)


@pytest.mark.parametrize(
    ("condition", "number"),
    [
        ("uid=", errno.ERANGE),
        ("fowner>", errno.ERANGE),
        ("fsmagic=0x", errno.ERANGE),
        ("pcr=", errno.EINVAL),
        ("pcr=-", errno.EINVAL),
        ("pcr=1\0", errno.EINVAL),
    ],
)
def test_numbers_of_any_length_are_refused_as_such(condition: str, number: int) -> None:
    """A file of rules may have them, longer than Python makes numbers of."""
    with pytest.raises(PolicyRefused) as caught:
        parse_rule(f"measure {condition}{'9' * 5000}".encode())
    assert caught.value.number == number
    assert len(str(caught.value)) < 200
    assert parse_rule(f"measure uid={'0' * 5000}7 pcr={'0' * 5000}9".encode()).text() == b"measure pcr=9 uid=7 "


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.line.decode("ascii", "replace")[:60])
def test_a_line_is_taken_or_refused(case: Case) -> None:
    try:
        rule = parse_line(case.line)
    except PolicyRefused as error:
        assert (error.number, case.text) == (case.errno, b"")
        assert "\n" not in str(error)
    else:
        assert case.errno == 0
        assert (b"" if rule is None else rule.text()) == case.text


def test_what_is_shown_is_taken_again() -> None:
    """But for numbers that come out negative and names that come out cut."""
    for case in CASES:
        if case.text and b"-" not in case.text.replace(b"-ng", b"") and len(case.text) < 80:
            assert parse_rule(case.text).text() == case.text


@given(st.lists(st.sampled_from([word for case in CASES for word in case.line.split()] + [b"\xff", b"=", b"uid="])))
def test_any_words_are_taken_or_refused(words: list[bytes]) -> None:
    try:
        parse_line(b" ".join(words))
    except PolicyRefused as error:
        assert error.number in {errno.EINVAL, errno.ERANGE}


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(data: bytes) -> None:
    before = PolicyFile(builtin_policy(["tcb"]))
    text = before.text()
    try:
        before.append(data.lstrip(b"/"))
    except PolicyRefused:
        assert before.text() == text


def test_unseen_conditions_say_so() -> None:
    with pytest.raises(PolicyRefused, match="security module"):
        parse_rule(b"measure obj_type=bin_t")
    with pytest.raises(PolicyRefused, match="cannot be seen from user space"):
        parse_rule(b"measure func=CREDS_CHECK")
    with pytest.raises(PolicyRefused, match="not about measuring"):
        parse_rule(b"appraise func=FILE_CHECK")


def test_the_first_rule_that_fits_decides() -> None:
    rules = policy(
        b"dont_measure fsmagic=0x1021994", b"measure uid=0 pcr=11 template=ima-ng", b"dont_measure", b"measure"
    )
    assert rules.match(event()) == Action(PcrIndex(11), "ima-ng")
    assert rules.match(event(subject=USER)) is None
    assert rules.match(event(file=FileFacts(0, 0, FileSystem(0x1021994, b"tmpfs")))) is None
    assert Policy().match(event()) is None


def test_register_0_is_a_register() -> None:
    assert policy(b"measure pcr=0").match(event()) == Action(PcrIndex(0))
    assert policy(b"measure").match(event()) == Action(IMA_PCR)


@pytest.mark.parametrize(
    ("line", "found", "fits"),
    [
        (b"measure mask=MAY_READ", event(access=Access.READ), True),
        (b"measure mask=MAY_READ", event(access=Access.READ | Access.WRITE), False),
        (b"measure mask=^MAY_READ", event(access=Access.READ | Access.WRITE), True),
        (b"measure mask=^MAY_READ", event(access=Access.WRITE), False),
        (b"measure mask=MAY_EXEC", event(Hook.BPRM_CHECK, Access.EXEC), True),
        (b"measure func=BPRM_CHECK", event(Hook.MMAP_CHECK, Access.EXEC), False),
        (b"measure fsname=ext4", event(), True),
        (b"measure fsname=ext", event(), False),
        (b"measure fs_subtype=x", event(), False),
        (b"measure fs_subtype=x", event(file=FileFacts(0, 0, FileSystem(1, b"fuse", b"x"))), True),
        (b"measure fsuuid=00010203-0405-0607-0809-0a0b0c0d0e0f", event(), True),
        (b"measure fsuuid=00010203-0405-0607-0809-0a0b0c0d0e00", event(), False),
        (b"measure uid>999", event(subject=USER), True),
        (b"measure uid>1000", event(subject=USER), False),
        (b"measure gid<1001", event(subject=USER), True),
        (b"measure fowner<1", event(), True),
        (b"measure fgroup>0", event(), False),
        (b"measure uid=4294967294", event(subject=Subject(4294967294, 0, 0, 0, 0, 0, False, False)), True),
        (b"measure euid=0", event(subject=Subject(0, 5, 5, 0, 5, 5, False, False)), False),
        (b"measure euid=0", event(subject=Subject(0, 5, 5, 0, 5, 5, True, False)), True),
        (b"measure euid=0", event(subject=Subject(5, 5, 0, 0, 5, 5, True, False)), True),
        (b"measure egid=0", event(subject=Subject(0, 5, 5, 0, 5, 5, True, False)), False),
        (b"measure egid=0", event(subject=Subject(0, 5, 5, 0, 5, 5, True, True)), True),
        (b"measure", event(Hook.CRITICAL_DATA, Access.NONE, file=None, data=b"a"), False),
        (b"measure func=CRITICAL_DATA", event(Hook.CRITICAL_DATA, Access.NONE, file=None, data=b"a"), True),
        (b"measure func=CRITICAL_DATA label=a|b", event(Hook.CRITICAL_DATA, Access.NONE, file=None, data=b"b"), True),
        (b"measure func=CRITICAL_DATA label=a|b", event(Hook.CRITICAL_DATA, Access.NONE, file=None, data=b"c"), False),
        (b"measure func=CRITICAL_DATA label=a", event(Hook.CRITICAL_DATA, Access.NONE, file=None), False),
        (b"measure func=CRITICAL_DATA gid=77", event(Hook.CRITICAL_DATA, Access.NONE, file=None, data=b"a"), True),
        (b"measure func=CRITICAL_DATA uid=77", event(Hook.CRITICAL_DATA, Access.NONE, file=None, data=b"a"), False),
        (b"measure func=KEY_CHECK keyrings=.ima", event(Hook.KEY_CHECK, Access.NONE, file=None, data=b".ima"), True),
        (b"measure func=KEY_CHECK keyrings=.ima", event(Hook.KEY_CHECK, Access.NONE, file=None, data=b".evm"), False),
        (b"measure func=POLICY_CHECK fsmagic=0x1", event(Hook.POLICY_CHECK, Access.NONE, file=None), True),
        (b"measure func=POLICY_CHECK fsmagic=0x1", event(Hook.POLICY_CHECK), False),
        (b"measure", event(Hook.POLICY_CHECK, Access.NONE, file=None), False),
        (b"measure func=KEXEC_CMDLINE", event(Hook.KEXEC_CMDLINE, Access.NONE, file=None), True),
        (b"measure func=KEXEC_CMDLINE fowner=0", event(Hook.KEXEC_CMDLINE, Access.NONE, file=None), False),
        (b"measure", event(Hook.MODULE_CHECK), True),
    ],
)
def test_a_rule_fits_an_event(line: bytes, found: EventFacts, fits: bool) -> None:
    assert (policy(line).match(found) is not None) is fits


def test_the_built_in_policies() -> None:
    tcb = builtin_policy(["critical_data", "tcb"])
    assert tcb.text().splitlines()[-1] == b"measure func=CRITICAL_DATA "
    assert len(tcb.rules) == 22
    assert tcb.match(event(subject=USER)) is None
    assert tcb.match(event()) == Action()
    assert tcb.match(event(Hook.BPRM_CHECK, Access.EXEC, USER)) == Action()
    assert not any(rule.asks_for_subject for rule in tcb.relevant(Hook.BPRM_CHECK, Access.EXEC))
    assert any(rule.asks_for_subject for rule in tcb.relevant(Hook.FILE_CHECK, Access.READ))
    assert tcb.relevant(Hook.FILE_CHECK, Access.WRITE) == ()
    assert tcb.relevant(Hook.KEY_CHECK, Access.NONE) == ()
    with pytest.raises(UsageError, match="appraise_tcb"):
        builtin_policy(["appraise_tcb"])


def test_sessions_of_writing(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    file = PolicyFile(builtin_policy(["tcb"]))
    expected = file.text()
    custom = False
    for session in SESSIONS:
        longer = len(str(tmp_path)) - 1
        ours = run_session(file, session, tmp_path)
        assert ours == [
            taken + longer if b"@" in data and taken > 0 else taken
            for taken, data in zip(session.results, session.writes, strict=True)
        ], session
        if session.added:
            expected = (expected if custom else b"") + session.added
            custom = True
        assert file.text() == expected, session


def test_one_writer_at_a_time() -> None:
    file = PolicyFile()
    update = file.begin()
    with pytest.raises(PolicyBusy):
        file.begin()
    with pytest.raises(PolicyBusy):
        file.append(b"measure\n")
    update.release()
    file.append(b"measure\n# and\nmeasure uid=1")
    assert file.text() == b"measure \nmeasure uid=1 \n"


def test_a_refused_append_changes_nothing_and_frees_the_file() -> None:
    file = PolicyFile(builtin_policy(["critical_data"]))
    with pytest.raises(PolicyRefused):
        file.append(b"measure\nnonsense\n")
    assert file.text() == b"measure func=CRITICAL_DATA \n"
    file.append(b"")
    assert file.text() == b"measure func=CRITICAL_DATA \n"
    file.append(b"measure\n")
    assert file.text() == b"measure \n"


def test_who_measures_the_policy_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, bytes]] = []
    file = PolicyFile(
        read=lambda path, content: told.append((path.name, content)),
        written=lambda data: told.append(("written", data)),
        loaded=lambda text: told.append(("loaded", text)),
    )
    rules = tmp_path / "rules"
    rules.write_bytes(b"measure\n")
    file.append(b"measure uid=1\nmeasure uid=2\n")
    file.append(str(rules).encode())
    with pytest.raises(PolicyRefused):
        file.append(b"nonsense\n")
    assert told == [
        ("written", b"measure uid=1\nmeasure uid=2\n"),
        ("written", b"measure uid=2\n"),
        ("loaded", b"measure uid=1 \nmeasure uid=2 \n"),
        ("rules", b"measure\n"),
        ("loaded", b"measure uid=1 \nmeasure uid=2 \nmeasure \n"),
        ("written", b"nonsense\n"),
    ]


def test_a_reader_sees_one_policy_or_the_other() -> None:
    """The policy is exchanged whole, whoever looks."""
    file = PolicyFile()
    seen: set[bytes] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.add(file.text())

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(50):
        file.append(b"measure uid=%d\nmeasure gid=%d\n" % (number, number))
    done.set()
    thread.join()
    assert all(text.count(b"uid") == text.count(b"gid") for text in seen)


def test_whoever_is_told_of_a_file_keeps_no_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at the file once more, which may be on a file system that waits for the writer."""
    rules = tmp_path / "rules"
    rules.write_bytes(b"measure func=BPRM_CHECK\n")
    monkeypatch.setattr("imarium.engine.policy_file._PATIENCE", 0.2)
    free = threading.Event()

    def wait(_path: Path, _content: bytes) -> None:
        free.wait(20)

    file = PolicyFile(read=wait)
    with pytest.raises(PolicyRefused) as caught:
        file.append(bytes(rules))
    free.set()
    assert caught.value.number == errno.ETIMEDOUT
    assert file.text() == b""
