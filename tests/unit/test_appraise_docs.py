"""The pages explain each reason code, and no other: docs/appraisal.md, and those of guests' roots of trust."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
DOCUMENT = PROJECT / "docs" / "appraisal.md"
VERIFIER = PROJECT / "src" / "imarium" / "verifier"
BUILT = {"evidence_truncated", "evidence_trailing", "evidence_malformed"}
"""Codes that are put together: the fault of a MalformedEvidence."""
ELSEWHERE = ("cca", "certificates", "challenge", "cose", "snp", "tdx")
"""Modules whose codes other documents explain."""


def codes_of_the_source() -> set[str]:
    modules = [path for path in VERIFIER.glob("*.py") if not path.name.startswith(ELSEWHERE)]
    text = "".join(path.read_text() for path in modules)
    given = re.findall(r'Reason\(\s*"([a-z0-9_]+)"', text)
    parsed = re.findall(r'"((?:quote|signature|ak)_malformed)"', text)
    table = re.findall(r'ObjectAttributes\.\w+, "([a-z0-9_]+)"', text)
    chosen = re.findall(r'code, what = \(\s*"([a-z0-9_]+)"', text)
    constant = re.findall(r'^SIGNATURE_INVALID = "([a-z0-9_]+)"', text, re.MULTILINE)
    return {*given, *parsed, *table, *chosen, *constant, *BUILT}


def codes_of_the_steps() -> set[str]:
    text = DOCUMENT.read_text()
    steps = text[text.index("## The steps") : text.index("## What is tested")]
    rows = re.findall(r"^\| (`[^|]*) \|", steps, re.MULTILINE)
    return {code for row in rows for code in re.findall(r"`([a-z0-9_]+)`", row)} | {"template_digest_altered"}


def test_each_code_is_explained_and_no_other() -> None:
    assert len(codes_of_the_source()) > 40
    assert codes_of_the_steps() == codes_of_the_source()
    assert "`template_digest_altered` names" in DOCUMENT.read_text()


@pytest.mark.parametrize("name", ["cca", "snp"])
def test_a_root_of_trusts_page_explains_each_of_its_codes(name: str) -> None:
    source = (VERIFIER / f"{name}.py").read_text()
    made = set(re.findall(r'Reason\(\s*"(\w+)"', source))
    checks = (PROJECT / "docs" / f"{name}.md").read_text().partition("## The checks")[2]
    rows = [line.split("|") for line in checks.splitlines() if line.startswith("| ")]
    assert made == {code for row in rows if len(row) > 4 for code in re.findall(r"`(\w+)`", row[3])}
    assert made == set(re.findall(r"``([a-z]\w+_\w+)``", source.partition('"""')[2].partition('"""')[0]))
