"""SNP reports made here, and the tables of certificates that hosts give with them."""

import struct
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

LEAF, OTHER = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
CHIP = bytes(range(1, 65))
MEASUREMENT = b"\x99" * 48
DATA = bytes(range(64))
TCB = struct.pack("<BB4xBB", 3, 0, 8, 0x73)


@dataclass
class Report:
    """A report made here; its parts can be changed before it is signed."""

    version: int = 3
    key: int = 0
    tcb: bytes = TCB
    family: int = 0x19
    chip: bytes = CHIP
    data: bytes = DATA
    policy: int = 0x30000
    vmpl: int = 0

    def bytes(self, signer: Any = LEAF, patch: dict[int, bytes] | None = None) -> bytes:
        body = bytearray(0x2A0)
        fields: dict[int, bytes] = {
            0x00: struct.pack("<IIQ", self.version, 4, self.policy),
            0x30: struct.pack("<II", self.vmpl, 1),
            0x38: self.tcb,
            0x40: struct.pack("<QI", 1, self.key << 2),
            0x50: self.data,
            0x90: MEASUREMENT,
            0x180: self.tcb,
            0x188: bytes([self.family, 1, 1]) if self.version >= 3 else b"",
            0x1A0: self.chip,
            0x1E0: self.tcb,
            0x1F0: self.tcb,
        }
        for at, value in [*fields.items(), *(patch or {}).items()]:
            body[at : at + len(value)] = value
        r, s = decode_dss_signature(signer.sign(bytes(body), ec.ECDSA(hashes.SHA384())))
        return bytes(body) + r.to_bytes(72, "little") + s.to_bytes(72, "little") + bytes(368)


def certificate_table(**entries: bytes) -> bytes:
    """A host's table, as a guest gets it: padded to a page."""
    names = {
        "vcek": "63da758d-e664-4564-adc5-f4b93be8accd",
        "vlek": "a8074bc2-a25a-483e-aae6-39c045a0b8a1",
        "ask": "4ab7b379-bbac-4fe4-a02f-05aef327c782",
        "ark": "c0b406a4-a803-4952-9743-3fb6014cd0ae",
    }
    place = 24 * (len(entries) + 1)
    head, body = b"", b""
    for name, content in entries.items():
        head += UUID(names[name]).bytes + struct.pack("<II", place + len(body), len(content))
        body += content
    table = head + bytes(24) + body
    return table + bytes(-len(table) % 4096)
