"""The statement of a software root of trust: its register values, signed by a key of its own.

    {"type": "imarium software quote 1: proves nothing", "nonce": bytes, "registers": {"NAME:BANK": value}}

Deterministic CBOR. The signature is ECDSA with SHA-256 over the statement's bytes, in DER; the key is on P-256, as a
SubjectPublicKeyInfo in DER. Whoever can read the key's file can sign anything: such a statement is for tests.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from imarium.formats.members import (
    bank_named,
    decode_document,
    describe,
    encode_document,
    malformed,
    map_of,
    sized_bytes,
)
from imarium.hashes import HashAlgorithm

__all__ = ["MAX_NONCE", "MAX_STATEMENT", "SOFTWARE_QUOTE_TYPE", "SoftwareStatement"]

SOFTWARE_QUOTE_TYPE = "imarium software quote 1: proves nothing"

MAX_STATEMENT = 1 << 16
"""Largest statement accepted, in bytes."""

MAX_NONCE = 64
"""Largest nonce in a statement, in bytes."""


@dataclass(frozen=True, slots=True)
class SoftwareStatement:
    """What a software root of trust states: over ``nonce``, these values of its registers, by name and bank."""

    nonce: bytes
    registers: Mapping[str, Mapping[HashAlgorithm, bytes]]

    def encode(self) -> bytes:
        """The statement, as it is signed."""
        named = {f"{name}:{bank.name}": value for name, of in self.registers.items() for bank, value in of.items()}
        return encode_document({"type": SOFTWARE_QUOTE_TYPE, "nonce": self.nonce, "registers": named})

    @classmethod
    def decode(cls, data: bytes) -> "SoftwareStatement":
        """The statement in ``data``, to its last byte. Raises MalformedEvidence."""
        if len(data) > MAX_STATEMENT:
            raise malformed(f"a statement of at most {MAX_STATEMENT} bytes", f"{len(data)} bytes")
        document = map_of(decode_document(data), "statement", {"type", "nonce", "registers"})
        if document["type"] != SOFTWARE_QUOTE_TYPE:
            raise malformed(repr(SOFTWARE_QUOTE_TYPE), describe(document["type"]))
        statement = cls(sized_bytes(document, "nonce", MAX_NONCE), _registers(document["registers"]))
        if statement.encode() != data:
            raise malformed("deterministic CBOR (RFC 8949, section 4.2.1)", "another encoding of the same content")
        return statement


def _registers(document: object) -> dict[str, dict[HashAlgorithm, bytes]]:
    if not isinstance(document, dict) or not document:
        raise malformed("registers to be a map of values", describe(document))
    registers: dict[str, dict[HashAlgorithm, bytes]] = {}
    for key, value in document.items():
        if not isinstance(key, str) or key.count(":") != 1:
            raise malformed("a register's name and bank", describe(key))
        name, _, algorithm = key.partition(":")
        bank = bank_named(algorithm)
        if not isinstance(value, bytes) or len(value) != bank.size:
            raise malformed(f"a register value of {bank.size} bytes", describe(value))
        registers.setdefault(name, {})[bank] = value
    return registers
