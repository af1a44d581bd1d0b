"""Evidence by roots of trust that are no TPM: from the driver's quote to the verdict."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.builders import Made, binary, ng
from tests.unit.guest_builders import BOUND, NONCE, Td, aggregate_record
from tests.unit.tdx_builders import NOW

from imarium.attester import make_evidence
from imarium.errors import UsageError
from imarium.formats.records import ListLayout
from imarium.formats.roots import SoftwarePart
from imarium.formats.tdx import RtmrIndex
from imarium.hashes import SHA384, HashAlgorithm
from imarium.registers import MemoryRegisters, RegisterFailed
from imarium.rot import Anchor, Anchors
from imarium.rot.protocol import NativeQuote, RootOfTrust
from imarium.rot.software import SoftwareRoot
from imarium.rot.tdx import TdxRoot
from imarium.verifier import SoftwareTrust, TdxTrust, appraise


@dataclass
class View:
    records: list[Made]

    @property
    def layout(self) -> ListLayout:
        return ListLayout()

    def blocks(self) -> Iterator[bytes]:
        yield binary(self.records)


def anchor(rot: Any, records: list[Made]) -> None:
    for record in records:
        rot.extend("rtmr2", {SHA384: record.true_digest("sha384", "little")})


def test_a_software_root(tmp_path: Path) -> None:
    log = [ng(b"boot_aggregate", 2), ng(b"/a", 2), ng(b"/b", 2)]
    with SoftwareRoot(tmp_path / "registers") as rot:
        rot.init()
        anchor(rot, log[:2])
        given = make_evidence(rot, lambda: View(log), nonce=NONCE)
        later = make_evidence(rot, lambda: View(log), nonce=NONCE, first=2)
    assert isinstance(given.root, SoftwarePart)
    trust = [SoftwareTrust(given.root.key)]
    result = appraise(given.encode(), nonce=NONCE, trust=trust)
    assert (result.reasons, result.covered, result.unverified) == ((), 2, 1)
    assert appraise(later.encode(), nonce=NONCE, trust=trust, state=result.state).reasons == ()
    assert [reason.code for reason in appraise(given.encode(), nonce=b"other", trust=trust).reasons] == [
        "nonce_mismatch"
    ]


def test_a_td(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The driver's own boot_aggregate and extends, and a quote of the values that its registers then have."""
    td = Td()
    provider = MemoryRegisters()
    with TdxRoot(provider, reports=tmp_path, ccel=tmp_path / "absent") as rot:
        rot.init()
        names = ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")
        before = {name: of[SHA384] for name, of in rot.read(names).items()}
        td.mrtd, td.before = before["mrtd"], {index: before[f"rtmr{index}"] for index in range(4)}
        log = [aggregate_record("sha384", rot.boot_aggregate(SHA384), 2), ng(b"/a", 2), ng(b"/b", 2)]
        anchor(rot, log)
        asked: list[bytes] = []

        def quote(nonce: bytes, registers: list[str]) -> NativeQuote:
            assert registers == ["rtmr2"]
            asked.append(nonce)
            assert rot.read(("rtmr2",))["rtmr2"][SHA384] == td.after(log)
            return NativeQuote("tdx", td.quote(log, bound=nonce))

        monkeypatch.setattr(rot, "quote", quote)
        given = make_evidence(rot, lambda: View(log), nonce=NONCE)
    assert asked == [BOUND] == [hashlib.sha512(NONCE).digest()]
    trust = TdxTrust(td.platform.collateral(), NOW, td.platform.root_der, initial={RtmrIndex(2): td.before[2]})
    result = appraise(given.encode(), nonce=NONCE, trust=[trust])
    assert (result.reasons, result.covered) == ((), 3)


def test_a_kind_that_evidence_has_not() -> None:
    with pytest.raises(UsageError, match="of kind tpm, tdx, cca, virtcca, snp, software, not tsm"):
        make_evidence(cast("RootOfTrust", SimpleNamespace(kind="tsm")), lambda: View([]), nonce=NONCE)


class Failing(SoftwareRoot):
    """Stops extending when told to, while the other roots go on."""

    broken = False

    def extend(self, register: str, digests: Mapping[HashAlgorithm, bytes]) -> None:
        if self.broken:
            raise RegisterFailed("the device failed; read the register")
        super().extend(register, digests)


def test_verification_shows_from_which_record_on_a_root_lags(tmp_path: Path) -> None:
    """Two roots of one list, one of which fails for good at record 3: each proves as many records as it has."""
    log = [ng(b"boot_aggregate", 2), *(ng(b"/%d" % number, 2) for number in range(5))]
    lagging, ahead = Failing(tmp_path / "one"), SoftwareRoot(tmp_path / "two")
    anchors = Anchors([Anchor(lagging), Anchor(ahead)], tmp_path / "state", life="1")
    for number, record in enumerate(log):
        lagging.broken = number >= 3
        with anchors.ordered() as extending:
            extending.extend(number, lambda bank, record=record: record.true_digest(bank.name, "little"))  # type: ignore[misc]
    first, second = anchors.status()
    assert first.error is not None
    assert (first.position, first.error.record, first.error.name) == (3, 3, "software_error(5)")
    assert (second.position, second.error) == (6, None)
    for status, root in ((first, lagging), (second, ahead)):
        given = make_evidence(root, lambda: View(log), nonce=NONCE)
        assert isinstance(given.root, SoftwarePart)
        result = appraise(given.encode(), nonce=NONCE, trust=[SoftwareTrust(given.root.key)])
        assert (result.reasons, result.covered, result.unverified) == ((), status.position, 6 - status.position)
    anchors.close()
