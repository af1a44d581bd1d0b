"""Long measurement lists to time a replay on: records as a busy machine's kernel makes them."""

import hashlib
import struct
from pathlib import Path

__all__ = ["write_list"]

_NAME = struct.Struct("<I6sI")


def write_list(path: Path, records: int) -> dict[str, bytes]:
    """Write a binary list of ``records`` ima-ng records; the value of PCR 10 after them in each bank.

    Independent of imarium: the values are what its replay is held against.
    """
    values = {"sha1": bytes(20), "sha256": bytes(32)}
    with path.open("wb") as file:
        for number in range(records):
            digest = b"sha256:\0" + hashlib.sha256(number.to_bytes(8, "little")).digest()
            name = f"/usr/lib/modules/package-{number % 997:03}/library-{number}.so\0".encode()
            if number == 0:
                name = b"boot_aggregate\0"
            data = struct.pack("<I", len(digest)) + digest + struct.pack("<I", len(name)) + name
            template_digest = hashlib.sha1(data).digest()  # noqa: S324 - the list's format
            file.write(b"\x0a\0\0\0" + template_digest + _NAME.pack(6, b"ima-ng", len(data)) + data)
            values["sha1"] = hashlib.sha1(values["sha1"] + template_digest).digest()  # noqa: S324
            values["sha256"] = hashlib.sha256(values["sha256"] + hashlib.sha256(data).digest()).digest()
    return values
