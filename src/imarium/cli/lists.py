"""Opening a measurement list named on the command line: a file, gzip or not, or standard input."""

import gzip
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Protocol, Self, cast

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from imarium import hashes
from imarium.cli.documents import naming
from imarium.cli.output import progress_console
from imarium.errors import MalformedInput, MalformedRecord, MissingComponent, UsageError
from imarium.formats.fields import ByteOrder
from imarium.formats.lists import ListForm, ListKind, detect_form, peek
from imarium.hashes import HashAlgorithm

__all__ = ["ByteOrderOption", "DigestOption", "FormOption", "ListArgument", "ListFile", "ListOptions"]

BLOCK = 1 << 16
HEAD = 1 << 16
LONG = 1 << 23
_GZIP_MAGIC = b"\x1f\x8b"
_SUFFIX = re.compile(r"_runtime_measurements_(?P<bank>[a-z0-9_-]+?)(?:_staged)?(?:\..*)?$")

ListArgument = Annotated[str, typer.Argument(metavar="LIST", help="Binary or ASCII list, gzip or not; - reads stdin.")]
FormOption = Annotated[
    str,
    typer.Option("--format", metavar="FORM", help="auto, binary, ascii or kexec (the buffer handed over at kexec)."),
]
DigestOption = Annotated[
    str | None,
    typer.Option("--digest", metavar="ALG", help="Algorithm of the template digests [default: told from LIST]."),
]
ByteOrderOption = Annotated[
    str | None, typer.Option("--byte-order", metavar="ORDER", help="little or big [default: told from LIST].")
]


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What the user says about a list; None leaves it to be told from the list's beginning."""

    kind: ListKind | None = None
    digest: HashAlgorithm | None = None
    byte_order: ByteOrder | None = None

    @classmethod
    def parse(cls, form: str, digest: str | None, byte_order: str | None) -> Self:
        """From option texts. Raises UsageError."""
        if form != "auto" and form not in {kind.value for kind in ListKind}:
            raise UsageError(f"--format {form}: choose auto, binary, ascii or kexec")
        order: ByteOrder | None
        match byte_order:
            case None | "little" | "big":
                order = byte_order
            case _:
                raise UsageError(f"--byte-order {byte_order}: choose little or big")
        return cls(None if form == "auto" else ListKind(form), hashes.by_name(digest) if digest else None, order)


class ListFile:
    """A list being read: its form, and its bytes in blocks, with a progress bar on a terminal when it is long.

    MalformedInput that leaves its context says which file it is about.
    """

    def __init__(self, path: str, options: ListOptions, *, quiet: bool = False) -> None:
        """Open ``path``. Raises MissingComponent, MalformedInput or UsageError; ``quiet`` leaves out the bar."""
        self._stack = ExitStack()
        with ExitStack() as stack:
            stack.enter_context(_naming(path))
            raw = stack.enter_context(_open(path))
            self._progress = _no_progress if quiet else _progress(stack, raw)
            head, blocks = peek(self._read(raw, path), HEAD)
            digest = options.digest or _digest_in_name(path)
            self.form: ListForm = detect_form(
                head, complete=len(head) < HEAD, kind=options.kind, digest=digest, byte_order=options.byte_order
            )
            self.blocks: Iterator[bytes] = blocks
            self._stack = stack.pop_all()

    def _read(self, raw: IO[bytes], path: str) -> Iterator[bytes]:
        source: _Readable = raw
        position = 0
        while True:
            try:
                if source is raw:
                    source = _opened(raw)
                block = source.read(BLOCK)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise MalformedInput(path, offset=position, expected="intact gzip data", found=str(error)) from error
            except OSError as error:
                raise MissingComponent(f"{path}: {error.strerror}; name a readable measurement list") from error
            if not block:
                return
            position += len(block)
            self._progress(raw)
            yield block

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """:func:`~imarium.cli.documents.naming`; where nothing of the list can be read, say what should have been there."""
    with naming(path):
        try:
            yield
        except MalformedRecord as error:
            if error.record == 0:
                error.args = (f"no measurement list, or damaged at its beginning: {error}",)
            raise


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Begun:
    """A stream of which the first bytes have been read to see what it is: a pipe cannot be sought in."""

    def __init__(self, head: bytes, raw: IO[bytes]) -> None:
        self._head = head
        self._raw = raw

    def read(self, size: int, /) -> bytes:
        head, self._head = self._head, b""
        return head or self._raw.read(size)


def _opened(raw: IO[bytes]) -> _Readable:
    head = raw.read(len(_GZIP_MAGIC))
    begun = _Begun(head, raw)
    return gzip.GzipFile(fileobj=cast(IO[bytes], begun)) if head == _GZIP_MAGIC else begun


def _open(path: str) -> IO[bytes]:
    if path == "-":
        if sys.stdin is None:
            raise MissingComponent("-: standard input is closed; name a measurement list")
        return sys.stdin.buffer
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise MissingComponent(f"{path}: {error.strerror}; name a readable measurement list") from error


def _digest_in_name(path: str) -> HashAlgorithm | None:
    """The bank that the kernel's own file names carry (``binary_runtime_measurements_sha256``)."""
    found = _SUFFIX.search(Path(path).name)
    try:
        return hashes.by_name(found["bank"]) if found else None
    except UsageError:
        return None


def _no_progress(_: IO[bytes]) -> None:
    pass


def _progress(stack: ExitStack, raw: IO[bytes]) -> Callable[[IO[bytes]], None]:
    """What advances the progress bar; nothing where standard error is no terminal or the size is unknown."""
    if not sys.stderr.isatty():
        return _no_progress
    size = os.fstat(raw.fileno()).st_size  # 0 for a pipe and for the kernel's own files, which cannot be sought in
    if size < LONG:
        return _no_progress
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    bar = stack.enter_context(Progress(*columns, console=progress_console(), transient=True))
    task = bar.add_task("reading", total=size)
    return lambda source: bar.update(task, completed=source.tell())
