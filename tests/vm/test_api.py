"""The custody API on a real kernel whose policy measures what root reads: verifiers do not feed the list they read."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="module")
def out(session_with_a_disk: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return session_with_a_disk("api")


def test_verifiers_who_read_add_nothing_to_the_list(out: dict[str, Any]) -> None:
    assert out["readers"] == {"added": 0, "violations": 0}


def test_a_program_that_runs_is_news_for_who_waits(out: dict[str, Any]) -> None:
    news = out["news"]
    assert news["seen"]
    assert news["next"] > news["before"]


def test_what_was_served_is_what_is_kept(out: dict[str, Any]) -> None:
    assert out["same"] is True
