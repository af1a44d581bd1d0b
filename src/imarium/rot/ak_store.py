"""Where an attestation key is kept: a directory of small files, written whole or not at all.

``ak.pub`` is the TPM2B_PUBLIC. A key that is loaded when it is needed has ``ak.priv``, the TPM2B_PRIVATE that only
its TPM can open, and ``ak.parent``, the endorsement key it was made under. A key that stays in the TPM has
``ak.handle``, its persistent handle in hexadecimal.
"""

import contextlib
import enum
import errno
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
    """Whether there is a key in ``directory``. Raises MissingComponent if it cannot be told."""
    return durable.is_there(directory / "ak.pub")


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
    with durable.storage_errors(directory):
        hidden = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.absolute().parent))
        try:
            for name, content in files.items():
                durable.append(hidden / name, content)
                durable.sync_file(hidden / name)
            _appear(hidden, directory)
        except BaseException:
            shutil.rmtree(hidden, ignore_errors=True)
            raise


def _appear(hidden: Path, directory: Path) -> None:
    """Renames over ``directory``, which the system allows only where it is absent or an empty directory."""
    try:
        durable.publish_directory(hidden, directory)
    except MissingComponent as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            advice = "is there already and not an empty directory; choose another"
            raise RefusedOperation(f"{directory} {advice}") from cause
        raise


def load_key(directory: Path) -> StoredKey:
    """The key in ``directory``. Raises MissingComponent if there is none, MalformedInput if it is not one."""
    public = _read(directory / "ak.pub")
    parse_public(public)
    if durable.is_there(directory / "ak.handle"):
        return StoredKey(public, handle=_parse_handle(_read(directory / "ak.handle")))
    private = _read(directory / "ak.priv")
    if len(private) < 2 or len(private) != 2 + int.from_bytes(private[:2], "big"):
        raise MalformedInput("TPM2B_PRIVATE", offset=0, expected="the size of the rest", found=private[:2].hex())
    text = _read(directory / "ak.parent").decode("ascii", "replace").strip()
    with contextlib.suppress(ValueError):
        return StoredKey(public, private, EndorsementKind(text))
    raise MalformedInput("ak.parent", offset=0, expected="ecc-p256 or rsa-2048", found=repr(text))


def _parse_handle(content: bytes) -> int:
    text = content.decode("ascii", "replace").strip()
    with contextlib.suppress(ValueError):
        handle = int(text, 16)
        if handle in _PERSISTENT:
            return handle
    raise MalformedInput("ak.handle", offset=0, expected="a persistent handle, 0x81......", found=repr(text))


def _read(path: Path) -> bytes:
    if not durable.is_there(path):
        raise MissingComponent(f"{path} is not there; make a key with: imarium rot ak DIR")
    content = durable.read_at(path, 0, _MAX_FILE + 1)
    if len(content) > _MAX_FILE:
        raise MalformedInput(path.name, offset=_MAX_FILE, expected="the end", found="more")
    return content
