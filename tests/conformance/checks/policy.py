"""The policy file: who may open it, what a write does, and what it then shows. Each check leaves its rules behind."""

import os
from functools import partial
from typing import Any

from tests.conformance.bench import RD, RW, WR, Bench, attempt, drain, in_process, opened, opens, outcome, read
from tests.conformance.checks.opening import drop_sys_admin
from tests.conformance.registry import Checks

CHECKS = Checks()
check = CHECKS

MODES = {"read": RD, "write": WR, "both": RW}


def _new(bench: Bench, number: int = 0) -> bytes:
    """A rule that is about nobody's files."""
    owner = 100_000 + sum(bench.name.encode()) * 10 + number
    return b"measure func=FILE_CHECK mask=MAY_READ fowner=%d\n" % owner


def _shows(bench: Bench, *texts: bytes) -> list[bool]:
    """Whether the policy has each rule."""
    content = read(bench.root / "policy")
    return [text.strip() in content for text in texts]


def _writes(bench: Bench, *texts: bytes) -> list[Any]:
    """The outcome of each write through one descriptor."""
    with opened(bench.root / "policy", WR) as descriptor:
        return [outcome(os.write, descriptor, text) for text in texts]


@check
def policy_opened(bench: Bench) -> Any:
    return {name: opens(bench.root / "policy", mode) for name, mode in MODES.items()}


@check
def policy_opened_without_cap_sys_admin(bench: Bench) -> Any:
    def look() -> str:
        drop_sys_admin()
        return " ".join(opens(bench.root / "policy", mode) for mode in MODES.values())

    return in_process(look).split()


def _twice(bench: Bench, first: int) -> Any:
    path = bench.root / "policy"
    with opened(path, first):
        return [[opens(path, second), in_process(partial(opens, path, second))] for second in MODES.values()]


CHECKS.add("policy_opened_while_read", _twice, RD)
CHECKS.add("policy_opened_while_written", _twice, WR)


@check
def policy_takes_no_lock_of_the_lists(bench: Bench) -> Any:
    with opened(bench.staged, WR):
        inside = opens(bench.root / "policy", RD)
    with opened(bench.root / "policy", RD):
        return [inside, opens(bench.staged, WR)]


@check
def policy_with_a_rule_more(bench: Bench) -> Any:
    with opened(bench.root / "policy", WR) as descriptor:
        taken = attempt(os.write, descriptor, _new(bench))
    return [taken == len(_new(bench)), _shows(bench, _new(bench))]


@check
def policy_as_shown(bench: Bench) -> Any:
    """How a rule is written out."""
    rule = b"measure  func=FILE_CHECK   mask=MAY_READ uid=0 fowner=99999 pcr=11\n"
    result = _writes(bench, rule)
    lines = [line for line in read(bench.root / "policy").splitlines(keepends=True) if b"99999" in line]
    return [result, [line.decode() for line in lines]]


@check
def policy_with_rules_in_one_write(bench: Bench) -> Any:
    rules = [_new(bench, number) for number in range(3)]
    return [_writes(bench, b"".join(rules)), _shows(bench, *rules)]


@check
def policy_with_rules_in_several_writes(bench: Bench) -> Any:
    rules = [_new(bench, number) for number in range(3)]
    return [_writes(bench, *rules), _shows(bench, *rules)]


@check
def policy_without_newline(bench: Bench) -> Any:
    return [_writes(bench, _new(bench).strip()), _shows(bench, _new(bench))]


@check
def policy_with_comments_and_blank_lines(bench: Bench) -> Any:
    texts = (b"# nothing\n", b"\n", b"   \n", b"# one\n" + _new(bench) + b"\n")
    return [_writes(bench, *texts), _shows(bench, _new(bench), b"# one")]


@check
def policy_malformed(bench: Bench) -> Any:
    before = read(bench.root / "policy")
    texts = (
        b"nonsense\n",
        b"measure func=NOTHING\n",
        b"measure uid=x\n",
        b"x" * 300 + b"\n",
        b"\0",
        b"measure pcr=99\n",
    )
    results = [_writes(bench, text)[0] for text in texts]
    return [results, read(bench.root / "policy") == before]


@check
def policy_malformed_after_a_good_rule(bench: Bench) -> Any:
    """In one write, and in a second one: does the good rule stay?"""
    one, two, three = (_new(bench, number) for number in range(3))
    together = _writes(bench, one + b"nonsense\n")
    apart = _writes(bench, two, b"nonsense\n", three)
    return [together, apart, _shows(bench, one, two, three)]


@check
def policy_after_a_malformed_one(bench: Bench) -> Any:
    _writes(bench, b"nonsense\n")
    return [_writes(bench, _new(bench)), _shows(bench, _new(bench))]


@check
def policy_before_it_is_closed(bench: Bench) -> Any:
    """The file cannot be read while it is open, so its effect is looked at: none is to be seen from outside."""
    descriptor = os.open(bench.root / "policy", WR)
    os.write(descriptor, _new(bench))
    during = opens(bench.root / "policy", RD)
    os.close(descriptor)
    return [during, _shows(bench, _new(bench))]


@check
def policy_opened_for_write_and_left_empty(bench: Bench) -> Any:
    before = read(bench.root / "policy")
    return [
        opens(bench.root / "policy", WR),
        opens(bench.root / "policy", WR | os.O_TRUNC),
        read(bench.root / "policy") == before,
    ]


@check
def policy_written_at_an_offset(bench: Bench) -> Any:
    with opened(bench.root / "policy", WR) as descriptor:
        return [attempt(os.pwrite, descriptor, _new(bench), 5), attempt(os.lseek, descriptor, 0, os.SEEK_CUR)]


@check
def policy_of_more_than_a_page(bench: Bench) -> Any:
    """write(2) takes what fits on a page."""
    comment = b"#".ljust(5000, b"x") + b"\n"
    with opened(bench.root / "policy", WR) as descriptor:
        return attempt(os.write, descriptor, comment)


@check
def policy_from_a_file(bench: Bench) -> Any:
    """A path instead of rules."""
    path = bench.make(content=_new(bench, 1) + _new(bench, 2))
    missing = _writes(bench, b"/run/imarium-conformance/none\n")
    return [missing, _writes(bench, f"{path}\n".encode()), _shows(bench, _new(bench, 1), _new(bench, 2))]


@check
def policy_read_in_parts(bench: Bench) -> Any:
    whole = read(bench.root / "policy")
    with opened(bench.root / "policy", RD) as descriptor:
        parts = drain(descriptor, 7) == whole
        return [parts, attempt(os.lseek, descriptor, 3, os.SEEK_SET), os.read(descriptor, 5) == whole[3:8]]


@check
def policy_seek_from_its_end(bench: Bench) -> Any:
    with opened(bench.root / "policy", RD) as descriptor:
        return attempt(os.lseek, descriptor, 0, os.SEEK_END)


@check
def policy_written_by_one_that_may_not_read(bench: Bench) -> Any:
    with opened(bench.root / "policy", WR) as descriptor:
        return [outcome(os.read, descriptor, 10), os.fstat(descriptor).st_size]
