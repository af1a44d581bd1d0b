"""Small files named on the command line: JSON documents and texts."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from imarium import durable
from imarium.errors import MalformedInput, MissingComponent, RefusedOperation

__all__ = [
    "naming",
    "read_bytes",
    "read_json",
    "read_text",
    "replace_json",
    "write_atomically",
    "write_files",
    "write_json",
]

MAX_DOCUMENT = 1 << 24
"""Largest document read whole, in bytes."""


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """What a parser finds wrong with a file's content is said with the file's name before it."""
    try:
        yield
    except MalformedInput as error:
        if error.what != str(path):
            error.args = (f"{path}: {error}",)
        raise


def read_bytes(path: Path, limit: int = MAX_DOCUMENT) -> bytes:
    """All of a file of at most ``limit`` bytes. Raises MissingComponent or MalformedInput."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise MissingComponent(f"{path}: {error.strerror}; name a file that can be read") from error
    if len(data) > limit:
        raise MalformedInput(str(path), offset=limit, expected=f"at most {limit} bytes", found="more")
    return data


def read_text(path: Path) -> str:
    """A text file. Raises MissingComponent or MalformedInput."""
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedInput(str(path), offset=error.start, expected="UTF-8 text", found="other bytes") from error


def read_json(path: Path) -> object:
    """A JSON document. Raises MissingComponent or MalformedInput."""
    try:
        document: object = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise MalformedInput(str(path), offset=error.pos, expected="a JSON document", found=error.msg) from error
    except (RecursionError, ValueError) as error:
        raise MalformedInput(str(path), offset=0, expected="a flat JSON document", found=str(error)[:80]) from error
    return document


def write_json(path: Path, document: object) -> None:
    """Write a JSON document so that a crash leaves the old file or the new one."""
    write_atomically(path, (json.dumps(document, indent=2) + "\n").encode())


def replace_json(path: Path, before: object | None, document: object) -> None:
    """Write a JSON document in place of ``before``, which was read there; None if there was nothing.

    Raises RefusedOperation, and writes nothing, if something else is there by now: so of two processes that read the
    same document one replaces it, whatever the order. Raises MissingComponent, MalformedInput.
    """
    with _directory_locked(path.parent):
        now = read_json(path) if durable.is_there(path) else None
        if now != before:
            raise RefusedOperation(f"{path} was changed by someone else meanwhile; run this again")
        write_json(path, document)


@contextmanager
def _directory_locked(directory: Path) -> Iterator[None]:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise MissingComponent(f"{directory}: {error.strerror}; name a directory that you may use") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file's content so that a crash leaves the old one or the new one. Raises MissingComponent."""
    durable.replace_file(path, data)


def write_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Replace files of a directory, which is made where it is not there. Raises MissingComponent."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MissingComponent(f"{directory}: cannot be made: {error.strerror}; name another place") from error
    for name, content in files.items():
        write_atomically(directory / name, content)
