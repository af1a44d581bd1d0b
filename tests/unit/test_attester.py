"""Making evidence, without a device: only what a verifier takes."""

from collections.abc import Iterator

import pytest
from tests.unit.custody_kernel import LAYOUT, record, records

from imarium.attester import evidence as attester
from imarium.errors import RefusedOperation
from imarium.formats.records import ListLayout


class View:
    """A log of three records."""

    layout: ListLayout = LAYOUT

    def blocks(self) -> Iterator[bytes]:
        return iter([records("boot_aggregate", "a", "b")])


def test_records_that_no_verifier_takes_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    room = len(records("a", "b"))
    monkeypatch.setattr(attester, "MAX_EVIDENCE", room + attester._BESIDE)
    part, _ = attester._records(View(), 1)
    assert (part.first, part.count, part.records) == (1, 2, records("a", "b"))
    monkeypatch.setattr(attester, "MAX_EVIDENCE", room + attester._BESIDE - 1)
    with pytest.raises(RefusedOperation, match=r"from number 1 on .* --from N"):
        attester._records(View(), 1)
    part, _ = attester._records(View(), 2)
    assert part.records == record("b")
