"""Small files on the command line: replaced whole, and only by who has seen what is there."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imarium.cli.documents import naming, read_json, replace_json
from imarium.errors import MalformedInput, MissingComponent, RefusedOperation


def test_a_document_is_written_where_there_was_none(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    replace_json(path, None, {"records": 1})
    assert read_json(path) == {"records": 1}


def test_a_document_is_replaced_by_who_has_read_it(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"records": 1}')
    replace_json(path, {"records": 1}, {"records": 2})
    assert read_json(path) == {"records": 2}


@pytest.mark.parametrize("before", [None, {"records": 1}])
def test_a_newer_document_is_left_alone(tmp_path: Path, before: object) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"records": 5}')
    with pytest.raises(RefusedOperation, match="changed by someone else"):
        replace_json(path, before, {"records": 2})
    assert read_json(path) == {"records": 5}


def test_of_many_that_read_the_same_one_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "state.json"

    def replace(number: int) -> bool:
        try:
            replace_json(path, None, {"records": number})
        except RefusedOperation:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(replace, range(40)))
    assert done.count(True) == 1
    assert read_json(path) == {"records": done.index(True)}


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingComponent, match="nothere"):
        replace_json(tmp_path / "nothere" / "state.json", None, {})


@pytest.mark.parametrize(
    ("what", "said"), [("challenge", "sent: challenge: at byte 7: "), ("sent", "sent: at byte 7: ")]
)
def test_what_is_wrong_with_a_files_content_is_said_with_its_name_once(what: str, said: str) -> None:
    with pytest.raises(MalformedInput) as caught, naming(Path("sent")):
        raise MalformedInput(what, offset=7, expected="this", found="that")
    assert str(caught.value) == f"{said}expected this, found that"
    assert caught.value.what == what
