"""No code but drivers, formats and appraisers knows which device anchors a list: names of devices in the source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from imarium.cli.trust import _KINDS
from imarium.formats.roots import ROOT_PARTS
from imarium.verifier.kinds import KINDS

SOURCE = Path(__file__).parents[2] / "src" / "imarium"
DEVICES = {"tpm", "tpm2", "swtpm", "tdx", "cca", "virtcca", "snp", "svsm"}

PLACES = {
    "rot/": "the drivers and their table",
    "formats/": "what devices write, byte for byte",
    "verifier/kinds.py": "the table of appraisers",
    "verifier/__init__.py": "exports what is trusted of each kind",
    "verifier/state.py": "states of before kinds had names are a TPM's",
    "cli/trust/": "the table of what verify is told to trust",
    "cli/rot.py": "the TPM is the default of rot read, extend and quote",
    "cli/tpm_keys.py": "a TPM's keys",
    "cli/challenge.py": "a challenge is to a TPM's keys",
    "cli/demo.py": "the demonstration's machine has a TPM simulator",
    "cli/demo_story.py": "it starts one",
    "custody/machine.py": "the kernel shows the PCRs of the TPM that it extends itself",
    "chain/counters.py": "PCRs that a TPM's update counter does not count",
}
"""Where a device may be named, and why."""

APPRAISERS = {
    "root_tpm": ("quote", "signatures", "damage", "challenge", "pcr_aggregate"),
    "root_tdx": ("tdx", "tdx_chain", "tdx_collateral"),
    "root_cca": ("cca", "cose", "certificates"),
    "root_snp": ("snp",),
    "root_software": (),
}
"""The appraisers that the table names, and the modules that are theirs."""


def words(identifier: str) -> set[str]:
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", identifier)
    return {word.lower() for word in re.split(r"[^A-Za-z0-9]+", apart)}


def named(path: Path) -> Iterator[str]:
    """Identifiers and imports with a device's name in them, and strings that are one. Texts for people may name any."""
    for node in ast.walk(ast.parse(path.read_text())):
        given = [getattr(node, field, None) for field in ("id", "attr", "name", "arg", "module", "asname")]
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in DEVICES:
            yield f"{node.value!r} in line {node.lineno}"
        for identifier in given:
            if isinstance(identifier, str) and words(identifier) & DEVICES:
                yield f"{identifier} in line {getattr(node, 'lineno', 0)}"


def is_allowed(place: str) -> bool:
    appraisers = {f"verifier/{name}.py" for root, own in APPRAISERS.items() for name in (root, *own)}
    return place in appraisers or any(place == known or place.startswith(known) for known in PLACES)


def test_nothing_else_names_a_device() -> None:
    found = {
        path.relative_to(SOURCE).as_posix(): names
        for path in SOURCE.rglob("*.py")
        if not is_allowed(path.relative_to(SOURCE).as_posix()) and (names := list(named(path)))
    }
    assert found == {}


def test_every_exception_is_still_one() -> None:
    """A place that names no device any more leaves the list."""
    for place in PLACES:
        modules = [SOURCE / place] if place.endswith(".py") else list((SOURCE / place).rglob("*.py"))
        assert any(list(named(module)) for module in modules), place


def test_the_table_names_the_appraisers() -> None:
    tree = ast.parse((SOURCE / "verifier" / "kinds.py").read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    prefix = "imarium.verifier."
    assert {name.removeprefix(prefix) for name in imported if name.startswith(f"{prefix}root_")} == set(APPRAISERS)


def test_every_kind_can_be_trusted_from_the_command_line() -> None:
    assert set(KINDS) == set(ROOT_PARTS.values())
    made = {name for kind in _KINDS for name in re.findall(r"\w+Trust", str(kind.trusted.__annotations__["return"]))}  # type: ignore[attr-defined]
    made |= {"VirtccaTrust"} if "CcaTrust" in made else set()  # which is a CcaTrust
    assert made == {kind.trust.__name__ for kind in KINDS.values()}


def test_the_scan_finds_names() -> None:
    assert words("SnpTrust") == {"snp", "trust"}
    assert words("tdx_trust") == {"tdx", "trust"}
    assert words("TPMRoot") == {"tpm", "root"}
    assert "tpm" not in words("attempt")
