"""Registers that imarium keeps itself, with quotes signed by a key beside them: for tests, and worth nothing.

Whoever can read the file has the key, and whoever can write it sets the registers. Quotes have the kind ``software``,
and say themselves that they prove nothing.
"""

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from imarium import durable
from imarium.errors import MalformedInput, MissingComponent, RefusedOperation, UsageError
from imarium.formats.software import MAX_NONCE, SoftwareStatement
from imarium.registers import FileRegisters, MemoryRegisters
from imarium.rot.options import split_options
from imarium.rot.protocol import NativeQuote
from imarium.rot.register_root import RegisterRoot

__all__ = ["SoftwareRoot", "software_root"]

_MAX_KEY = 4096


class SoftwareRoot(RegisterRoot):
    """Registers in memory, or in the file ``path``, made with all zero where it is not there.

    The registers are those of a TDX guest. The key of a file is in the file ``path`` with ``.key`` behind it.
    """

    name = "software"
    kind = "software"
    caveat = "registers of the software root of trust prove nothing: they are for tests"

    def __init__(self, path: Path | None = None, default_register: str = "rtmr2") -> None:
        registers = MemoryRegisters() if path is None else FileRegisters(path)
        self._path = registers.path if isinstance(registers, FileRegisters) else None
        self._key: ec.EllipticCurvePrivateKey | None = None
        super().__init__(registers, default_register)

    @property
    def identity(self) -> str:
        """Of the file; of this very object where the registers are in memory."""
        return super().identity if self._path else f"software-{os.getpid()}-{id(self):x}"

    def init(self) -> None:
        """Make the file where it is not there. Raises MissingComponent, MalformedInput."""
        if self._path is not None and not durable.is_there(self._path):
            with contextlib.suppress(RefusedOperation):  # another process was first
                FileRegisters.create(self._path)
        super().init()

    def quote(self, nonce: bytes, registers: Collection[str] = ()) -> NativeQuote:
        """ECDSA P-256 with SHA-256 over a :class:`~imarium.formats.software.SoftwareStatement`.

        All registers are in it. ``beside`` has ``signature`` and ``key``, a SubjectPublicKeyInfo, both in DER. Raises
        UsageError for a nonce of more than 64 bytes or a register that is not there.
        """
        if not 0 < len(nonce) <= MAX_NONCE:
            raise UsageError(f"a nonce has 1 to {MAX_NONCE} bytes, not {len(nonce)}")
        self.read(registers)
        values = self.read({register.name for register in self.registers() if register.hash})
        statement = SoftwareStatement(nonce, values).encode()
        key = self._signing_key()
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        signature = key.sign(statement, ec.ECDSA(hashes.SHA256()))
        return NativeQuote(self.kind, statement, {"signature": signature, "key": public}, values)

    def _signing_key(self) -> ec.EllipticCurvePrivateKey:
        if self._key is None:
            self._key = ec.generate_private_key(ec.SECP256R1()) if self._path is None else _stored_key(self._path)
        return self._key


def _stored_key(registers: Path) -> ec.EllipticCurvePrivateKey:
    """The key beside the registers, made at its first use. Two who make it at once end with the same one."""
    path = registers.with_name(f"{registers.name}.key")
    if not durable.is_there(path):
        made = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        with durable.storage_errors(path):
            durable.append(beside, made)
            durable.sync_file(beside)
            with contextlib.suppress(FileExistsError):
                os.link(beside, path)
            beside.unlink()
            durable.sync_directory(path.parent)
    try:
        with path.open("rb") as file:
            key = serialization.load_pem_private_key(file.read(_MAX_KEY), None)
    except OSError as error:
        raise MissingComponent(f"{path}: {error.strerror}; run as the owner of the registers") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise MalformedInput(str(path), offset=0, expected="an EC P-256 key in PEM", found="something else") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MalformedInput(str(path), offset=0, expected="an EC P-256 key in PEM", found="another key")
    return key


def software_root(argument: str) -> SoftwareRoot:
    """``[PATH][,register=NAME]``. Raises UsageError."""
    path, options = split_options("software", argument, ("register",))
    return SoftwareRoot(Path(path) if path else None, options.get("register", "rtmr2"))
