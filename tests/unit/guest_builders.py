"""Guests made here: lists that IMA would have anchored in their registers, and what these guests would say of them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.unit import cca_builders, tdx_builders
from tests.unit.builders import Made, binary, naive_replay

from imarium.formats.evidence import Evidence, ListPart
from imarium.formats.records import ListLayout
from imarium.formats.roots import CcaPart, RootPart, SoftwarePart, TdxPart, VirtccaPart

NONCE = b"a nonce of the verifier's"
BOUND = hashlib.sha512(NONCE).digest()
MRTD, RTMR, REPORT_DATA = 184, 376, 568
"""Offsets in a quote of version 4."""


def aggregate_record(bank: str, digest: bytes, column: int) -> Made:
    return Made("ima-ng", (bank.encode() + b":\0" + digest, b"boot_aggregate\0"), column)


def extended(start: bytes, records: Sequence[Made], bank: str) -> bytes:
    """A register that every record went into."""
    into_one = [replace(record, pcr=1) for record in records]
    return naive_replay(into_one, bank, start={1: start})[-1][1]


def evidence(root: RootPart, records: Sequence[Made], *, first: int = 0) -> Evidence:
    return Evidence(root, ListPart(first, len(records) - first, ListLayout(), binary(records[first:])))


@dataclass
class Td:
    """A TD on a platform of our own. ``before`` are its RTMRs before IMA extends any."""

    platform: tdx_builders.Platform = field(default_factory=tdx_builders.Platform)
    before: dict[int, bytes] = field(default_factory=lambda: {n: bytes([n + 1]) * 48 for n in range(4)})
    mrtd: bytes = b"\x77" * 48

    @property
    def aggregate(self) -> bytes:
        return hashlib.sha384(self.mrtd + self.before[0] + self.before[1] + self.before[2]).digest()

    def after(self, records: Sequence[Made]) -> bytes:
        """RTMR[2] once all these records are extended into it."""
        return extended(self.before[2], records, "sha384")

    def quote(
        self, records: Sequence[Made], *, bound: bytes = BOUND, others: Mapping[int, bytes] | None = None
    ) -> bytes:
        """A quote once all these records are extended into RTMR[2]."""
        rtmrs = self.before | {2: self.after(records)} | dict(others or {})
        body = {MRTD: self.mrtd, REPORT_DATA: bound}
        body |= {RTMR + 48 * index: value for index, value in rtmrs.items()}
        return self.platform.quote(body=body)

    def part(self, records: Sequence[Made], **more: Any) -> TdxPart:
        return TdxPart(self.quote(records, **more))


def cca_part(
    maker: cca_builders.Maker, rems: Sequence[bytes], rim: bytes, *, kind: type[CcaPart] = VirtccaPart
) -> CcaPart:
    """A realm's token with these registers."""
    maker.realm |= {10: BOUND, 44238: rim, 44239: list(rems)}
    return kind(maker.token())


@dataclass
class SoftwareGuest:
    """A software root of trust with a key of its own."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def public(self) -> bytes:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(serialization.Encoding.DER, form)

    def part(self, registers: Mapping[str, bytes], nonce: bytes = NONCE) -> SoftwarePart:
        document = {"type": "imarium software quote 1: proves nothing", "nonce": nonce, "registers": dict(registers)}
        statement = cbor2.dumps(document, canonical=True)
        return SoftwarePart(statement, self.key.sign(statement, ec.ECDSA(hashes.SHA256())), self.public)
