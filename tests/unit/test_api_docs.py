"""The API's documentation is of the API as it is."""

import json
import re
from pathlib import Path

from imarium.errors import ImariumError
from imarium.web import Limits, openapi_document
from imarium.web.problems import _CODES, _STATUSES

PROJECT = Path(__file__).resolve().parents[2]
PAGE = (PROJECT / "docs/api.md").read_text()


def test_openapi_json_is_current() -> None:
    kept = json.loads((PROJECT / "docs/openapi.json").read_text())
    assert kept == json.loads(json.dumps(openapi_document())), "run: python -m imarium.web > docs/openapi.json"


def test_every_path_is_on_the_page() -> None:
    for path in openapi_document()["paths"]:
        shown = path.replace("{log}", "N")
        assert f"{shown}" in PAGE, path


def test_every_code_is_on_the_page() -> None:
    sources = [path.read_text() for path in (PROJECT / "src/imarium/web").glob("*.py")]
    used = {code for text in sources for code in re.findall(r'HTTPStatus\.[A-Z_]+,\s*"([a-z_]+)"', text)}
    assert {"no_such_log", "too_large", "no_root"} <= used
    used |= set(_CODES.values()) | {kind.code for kind, _ in _STATUSES if kind.code != ImariumError.code}
    assert not {code for code in used if f"`{code}`" not in PAGE}


def test_the_limits_on_the_page_are_the_limits() -> None:
    limits = Limits()
    for text in (
        f"{limits.records:,} records as kept, {limits.made:,} of those that are made",
        f"{limits.connections} each",
        f"{limits.waiters}, for at most {limits.wait:g} s",
        f"{limits.quotes}; one is made at a time",
        f"{limits.replays}; one is replayed at a time",
        f"{limits.head >> 10} KiB, within {limits.head_seconds:g} s; else",
        f"{limits.body >> 10} KiB, within {limits.body_seconds:g} s",
        f"an idle connection | {limits.idle:g} s",
        f"takes nothing of its answer | {limits.stall:g} s",
    ):
        assert text in PAGE, text
