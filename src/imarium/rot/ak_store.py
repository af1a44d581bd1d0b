"""Where an attestation key is kept: a directory of small files, written whole or not at all.

``ak.pub`` is the TPM2B_PUBLIC. A key that is loaded when it is needed has ``ak.priv``, the TPM2B_PRIVATE that only
its TPM can open, and ``ak.parent``, the endorsement key it was made under. A key that stays in the TPM has
``ak.handle``, its persistent handle in hexadecimal.
"""

import contextlib
import enum
import errno
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from imarium import durable
from imarium.errors import MalformedInput, MissingComponent, RefusedOperation
from imarium.formats.tpm import parse_public

__all__ = ["EndorsementKind", "StoredKey", "holds_key", "load_key", "save_key"]

_MAX_FILE = 4096
_PERSISTENT = range(0x81000000, 0x82000000)


class EndorsementKind(enum.Enum):
    """The endorsement key an attestation key is a child of, by the TCG's default template."""

    ECC_P256 = "ecc-p256"
    RSA_2048 = "rsa-2048"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An attestation key: with ``private`` and ``parent``, or with ``handle``.

    ``public`` is a TPM2B_PUBLIC, ``private`` a TPM2B_PRIVATE.
    """

    public: bytes
    private: bytes | None = None
    parent: EndorsementKind = EndorsementKind.ECC_P256
    handle: int | None = None

    @property
    def name(self) -> bytes:
        """The key's Name. Raises MalformedInput if ``public`` is no key."""
        return parse_public(self.public).name


def holds_key(directory: Path) -> bool:
    """Whether there is a key in ``directory``."""
    return (directory / "ak.pub").is_file()


def save_key(directory: Path, key: StoredKey) -> None:
    """Makes ``directory`` with the key in it, mode 0700, files 0600, on stable storage when this returns.

    The directory appears with everything in it or not at all. Raises RefusedOperation if it exists and is not
    empty, and MissingComponent if its parent is missing or cannot be written to.
    """
    files = {"ak.pub": key.public}
    if key.handle is not None:
        files["ak.handle"] = f"{key.handle:#010x}\n".encode()
    if key.private is not None:
        files["ak.priv"] = key.private
        files["ak.parent"] = f"{key.parent.value}\n".encode()
    parent = directory.absolute().parent
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=parent))
        try:
            for name, content in files.items():
                _write(temporary / name, content)
            durable.sync_directory(temporary)
            _appear(temporary, directory)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        durable.sync_directory(parent)
    except OSError as error:
        raise MissingComponent(f"cannot write the key to {directory}: {error.strerror}") from error


def _appear(temporary: Path, directory: Path) -> None:
    """Renames over ``directory``, which the system allows only where it is absent or an empty directory."""
    try:
        temporary.rename(directory)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        raise RefusedOperation(f"{directory} is there already and not an empty directory; choose another") from error


def load_key(directory: Path) -> StoredKey:
    """The key in ``directory``. Raises MissingComponent if there is none, MalformedInput if it is not one."""
    public = _read(directory / "ak.pub")
    parse_public(public)
    handle = None
    if (directory / "ak.handle").exists():
        return StoredKey(public, handle=_parse_handle(_read(directory / "ak.handle")))
    private = _read(directory / "ak.priv")
    if len(private) < 2 or len(private) != 2 + int.from_bytes(private[:2], "big"):
        raise MalformedInput("TPM2B_PRIVATE", offset=0, expected="the size of the rest", found=private[:2].hex())
    text = _read(directory / "ak.parent").decode("ascii", "replace").strip()
    with contextlib.suppress(ValueError):
        return StoredKey(public, private, EndorsementKind(text), handle)
    raise MalformedInput("ak.parent", offset=0, expected="ecc-p256 or rsa-2048", found=repr(text))


def _parse_handle(content: bytes) -> int:
    text = content.decode("ascii", "replace").strip()
    with contextlib.suppress(ValueError):
        handle = int(text, 16)
        if handle in _PERSISTENT:
            return handle
    raise MalformedInput("ak.handle", offset=0, expected="a persistent handle, 0x81......", found=repr(text))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise MissingComponent(f"cannot read {path}: {error.strerror}; make a key with: imarium rot ak DIR") from error
    if len(content) > _MAX_FILE:
        raise MalformedInput(path.name, offset=_MAX_FILE, expected="the end", found="more")
    return content


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
