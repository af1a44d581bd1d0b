"""A machine to attest without a kernel: a list in memory, its records extended into a real TPM."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.unit.builders import Made, binary, ng

from imarium.formats.evidence import Evidence, ListPart, TpmPart
from imarium.formats.fields import FieldDigest
from imarium.formats.records import ListLayout, read_records
from imarium.formats.registers import PcrIndex
from imarium.formats.tpm import Public, SignatureScheme, parse_public
from imarium.hashes import SHA1, SHA256, HashAlgorithm, by_name
from imarium.rot import KeyKind, StoredKey, Tpm
from imarium.verifier import Result, VerifierState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.real.conftest import Swtpm

NONCE = bytes(range(32))
ECDSA = KeyKind(SignatureScheme.ECDSA)
QUOTED = tuple(PcrIndex(pcr) for pcr in range(12))
BANKS = (SHA1, SHA256)


def signed(name: bytes, pcr: int = 10) -> Made:
    return Made("ima-sig", (b"sha256:\0" + SHA256.digest(name), name + b"\0", b"\x03\x02\x04" + bytes(9)), pcr)


def legacy(name: bytes, pcr: int = 10) -> Made:
    return Made("ima", (SHA1.digest(name), name), pcr)


def buffer(name: bytes, content: bytes, pcr: int = 10) -> Made:
    return Made("ima-buf", (b"sha256:\0" + SHA256.digest(content), name + b"\0", content), pcr)


def boot_aggregate(value: bytes, *, name: bytes = b"boot_aggregate", bank: HashAlgorithm = SHA256) -> Made:
    return Made("ima-ng", (f"{bank.name}:\0".encode() + value, name + b"\0"))


def programs(*names: str, pcr: int = 10) -> list[Made]:
    return [ng(name.encode(), pcr) for name in names]


MIXED = [
    signed(b"/init"),
    ng(b"/usr/bin/true"),
    legacy(b"/bin/sh"),
    ng(b"/etc/hosts", 11),
    buffer(b"kernel_version", b"7.3.4"),
    ng(b"/var/log/wtmp", violation=True),
    ng(b"/usr/bin/env"),
    signed(b"/usr/lib/libc.so.6", 11),
    ng(b"/a\nb \xff".replace(b" ", b"_")),
    ng(b"/usr/bin/sort"),
    ng(b"/usr/bin/last"),
]
"""Several templates, two registers and a violation."""

LATER = programs("/later/1", "/later/2")
OTHER_PCR = PcrIndex(11)


@dataclass
class Measured:
    """The TPM and the list so far."""

    swtpm: Swtpm
    key: StoredKey
    records: list[Made] = field(default_factory=list)

    @classmethod
    def start(cls, swtpm: Swtpm, kind: KeyKind = ECDSA) -> Measured:
        """A machine whose firmware has extended PCR 0 to 9."""
        with Tpm(swtpm.tcti) as tpm:
            for pcr in range(10):
                tpm.extend(PcrIndex(pcr), {bank: bank.digest(b"firmware %d" % pcr) for bank in tpm.banks()})
            return cls(swtpm, tpm.create_ak(kind))

    @property
    def ak(self) -> Public:
        return parse_public(self.key.public)

    def aggregate(self, bank: HashAlgorithm = SHA256) -> bytes:
        """The hash boot_aggregate is."""
        pcrs = QUOTED[:8] if bank == SHA1 else QUOTED[:10]
        with Tpm(self.swtpm.tcti) as tpm:
            values = tpm.read(pcrs, [bank])[bank]
        return bank.digest(b"".join(values[pcr] for pcr in pcrs))

    def boot(self, name: bytes = b"boot_aggregate") -> None:
        """The kernel's first record."""
        self.measure([boot_aggregate(self.aggregate(), name=name)])

    def measure(self, records: Sequence[Made]) -> None:
        """Adds records to the list and extends them, as the kernel does."""
        with Tpm(self.swtpm.tcti) as tpm:
            for made in records:
                digests = {
                    bank: b"\xff" * bank.size if made.violation else made.true_digest(bank.name, "little")
                    for bank in tpm.banks()
                }
                tpm.extend(PcrIndex(made.pcr), digests)
        self.records += records

    def attest(
        self,
        *,
        first: int = 0,
        later: Sequence[Made] = (),
        key: StoredKey | None = None,
        banks: Sequence[HashAlgorithm] = BANKS,
        quoted: Sequence[PcrIndex] = QUOTED,
        column: HashAlgorithm = SHA1,
        nonce: bytes = NONCE,
    ) -> Evidence:
        """Evidence; ``later`` are records that are in the list and were not yet extended."""
        with Tpm(self.swtpm.tcti, key or self.key) as tpm:
            quote = tpm.quote(nonce, dict.fromkeys(banks, tuple(quoted)))
        listed = [*self.records[first:], *later]
        part = ListPart(first, len(listed), ListLayout(column), binary(listed, column.name))
        return Evidence(TpmPart(quote.attest, quote.signature, quote.ak, quote.values), part)

    def reset(self) -> None:
        """Turns the machine off and on: the TPM's reset count rises, its registers begin anew, the list is gone."""
        for program, *arguments in (
            ("swtpm_ioctl", "--tcp", f"127.0.0.1:{self.swtpm.port + 1}", "-i"),
            ("tpm2_startup", "-T", self.swtpm.tcti, "-c"),
        ):
            found = shutil.which(program)
            assert found is not None, f"{program} is missing: apt install swtpm-tools tpm2-tools"
            subprocess.run([found, *arguments], check=True)
        self.records.clear()


def first_digest(evidence: Evidence) -> FieldDigest:
    """The digest in the list's first record."""
    digest = next(read_records([evidence.log.records], evidence.log.layout)).file_digest
    assert digest is not None
    return digest


def bank(name: str) -> HashAlgorithm:
    """A bank by name."""
    return by_name(name)


def codes(result: Result) -> list[str]:
    """Of the reasons of a result that holds together, in order."""
    assert all(reason.detail and "\n" not in reason.detail for reason in result.reasons)
    assert result.passed is not bool(result.reasons)
    assert (result.state is None) is bool(result.reasons)
    return [reason.code for reason in result.reasons]


def stored(state: VerifierState | None) -> VerifierState:
    """The state after a trip through its file."""
    assert state is not None
    return VerifierState.from_document(json.loads(json.dumps(state.to_document())))
