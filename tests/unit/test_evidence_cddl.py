"""docs/evidence.cddl describes what is encoded: read here with just enough CDDL (RFC 8610) to hold evidence to it."""

import hashlib
import re
from pathlib import Path
from typing import Any

import cbor2
import pytest
from tests.unit.builders import BANKS, SIZES, binary, ng

from imarium.formats.evidence import Evidence, ListPart, MalformedEvidence, TpmPart
from imarium.formats.records import ListLayout
from imarium.formats.registers import PcrIndex
from imarium.formats.roots import ROOT_PARTS, CcaPart, RootPart, SnpPart, SoftwarePart, TdxPart, VirtccaPart
from imarium.hashes import by_name

CDDL = Path(__file__).parents[2] / "docs" / "evidence.cddl"
VALUES = {by_name(bank): {PcrIndex(pcr): bytes(SIZES[bank]) for pcr in (0, 10, 63)} for bank in BANKS}
SAMPLE = Evidence(TpmPart(b"quote", b"signature", b"ak", VALUES), ListPart(5, 1, ListLayout(), binary([ng(b"/x")])))


def rules() -> dict[str, str]:
    """The rules by name, without comments."""
    text = re.sub(r";[^\n]*", "", CDDL.read_text())
    found = re.findall(r"^([\w-]+) = (\{[^}]*\}|[^\n]+)", text, re.MULTILINE)
    return {name: " ".join(body.split()) for name, body in found}


RULES = rules()


def fits(value: Any, kind: str) -> bool:
    """Whether ``value`` is of a type of the rules."""
    kind = RULES.get(kind.strip(), kind.strip())
    if kind.startswith("{"):
        return fits_map(value, kind[1:-1].strip().rstrip(","))
    choices = kind.split(" / ")
    if len(choices) > 1:
        return any(fits(value, choice) for choice in choices)
    literal, size, pattern, bounds = (
        re.fullmatch(form, kind)
        for form in (
            r'"([^"]*)"',
            r"bstr(?: \.size \(?(\d+)(?:\.\.(\d+)\))?)?",
            r'tstr \.regexp "(.*)"',
            r"(\d+)(?:\.\.(\d+))?",
        )
    )
    if literal:
        return bool(value == literal[1])
    if size:
        least, most = int(size[1] or 0), int(size[2] or size[1] or 1 << 30)
        return isinstance(value, bytes) and least <= len(value) <= most
    if pattern:
        return isinstance(value, str) and re.fullmatch(pattern[1], value) is not None
    assert bounds, f"the rule {kind!r} is in no form this test knows"
    return isinstance(value, int) and int(bounds[1]) <= value <= int(bounds[2] or bounds[1])


def fits_map(value: Any, body: str) -> bool:
    if not isinstance(value, dict):
        return False
    if body.startswith("+ "):
        key, _, kind = body[2:].partition(" => ")
        return bool(value) and all(fits(name, key) and fits(member, kind) for name, member in value.items())
    members = dict(member.split(": ", 1) for member in body.split(", "))
    optional = {name[2:]: kind for name, kind in members.items() if name.startswith("? ")}
    needed = {name: kind for name, kind in members.items() if not name.startswith("? ")}
    if not needed.keys() <= value.keys() <= needed.keys() | optional.keys():
        return False
    return all(fits(value[name], kind) for name, kind in (needed | optional).items() if name in value)


SNP = SnpPart(SAMPLE.root, b"report", b"manifest", b"")
ROOTS: list[RootPart] = [
    SAMPLE.root,
    TdxPart(b"quote"),
    TdxPart(b"quote", b"log"),
    CcaPart(b"token"),
    VirtccaPart(b"token"),
    SNP,
    SoftwarePart(b"statement", b"signature", b"key"),
]


def sample(root: RootPart) -> Evidence[RootPart]:
    return Evidence(root, SAMPLE.log)


@pytest.mark.parametrize("root", ROOTS, ids=lambda root: root.kind)
def test_evidence_is_as_described_and_goes_both_ways(root: RootPart) -> None:
    data = sample(root).encode()
    assert fits(cbor2.loads(data), "evidence")
    assert Evidence.decode(data) == sample(root)


def test_every_kind_is_tried() -> None:
    assert {root.kind for root in ROOTS} == ROOT_PARTS.keys()


@pytest.mark.parametrize(
    ("root", "name", "value"),
    [
        (TdxPart(b""), "quote", bytes(65537)),
        (TdxPart(b""), "quote", "text"),
        (TdxPart(b""), "event_log", "text"),
        (TdxPart(b""), "event_log", bytes((16 << 20) + 1)),
        (TdxPart(b""), "values", {}),
        (CcaPart(b""), "token", bytes(16385)),
        (CcaPart(b""), "kind", "snp"),
        (SNP, "report", bytes(1185)),
        (SNP, "manifest", bytes(4097)),
        (SNP, "certificates", bytes(65537)),
        (SNP, "quote", bytes(4097)),
        (SNP, "values", {}),
        (SNP, "kind", "tpm"),
        (SNP, "more", b""),
        (VirtccaPart(b""), "key", b""),
        (SoftwarePart(b"", b"", b""), "statement", bytes(65537)),
        (SoftwarePart(b"", b"", b""), "signature", bytes(4097)),
        (SoftwarePart(b"", b"", b""), "key", 1),
        (SoftwarePart(b"", b"", b""), "kind", 1),
    ],
)
def test_parts_that_are_none_are_refused(root: RootPart, name: str, value: object) -> None:
    document = cbor2.loads(sample(root).encode())
    document["root"][name] = value
    assert not fits(document, "evidence")
    with pytest.raises(MalformedEvidence):
        Evidence.decode(cbor2.dumps(document, canonical=True))


TPM_EVIDENCE = "8e06d69d"


def test_tpm_evidence_has_the_encoding_it_always_had() -> None:
    assert hashlib.sha256(SAMPLE.encode()).hexdigest()[:8] == TPM_EVIDENCE


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("type", "other"),
        ("version", 2),
        ("root.kind", "tdx"),
        ("root.quote", bytes(4097)),
        ("root.ak", "text"),
        ("root.values", {}),
        ("root.values.sha1", {}),
        ("root.values.md5", {"10": bytes(20)}),
        ("root.values.sha1.64", bytes(20)),
        ("root.values.sha1.10", bytes(19)),
        ("list.first", -1),
        ("list.count", 1 << 62),
        ("list.digest", "md5"),
        ("list.byte_order", "middle"),
        ("list.records", ""),
        ("list.more", 1),
        ("more", 1),
    ],
)
def test_description_and_decoder_refuse_the_same(path: str, value: object) -> None:
    document = cbor2.loads(SAMPLE.encode())
    *parents, last = path.split(".")
    container = document
    for name in parents:
        container = container[name]
    container[last] = value
    assert not fits(document, "evidence")
    with pytest.raises(MalformedEvidence):
        Evidence.decode(cbor2.dumps(document, canonical=True))


def test_every_rule_is_used() -> None:
    for name in RULES.keys() - {"evidence"}:
        assert any(re.search(rf"\b{name}\b", body) for other, body in RULES.items() if other != name), name
