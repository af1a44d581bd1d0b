"""Seeds for the fuzz targets: ``python tests/fuzz/seeds.py DIRECTORY`` fills one corpus directory per target."""

import json
import sys
from pathlib import Path

import cbor2

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT), str(PROJECT / "src")]

from tests.unit import test_eventlog as cc  # noqa: E402
from tests.unit.builders import BANKS, TEMPLATES, Made, ascii_line, binary, kexec, ng  # noqa: E402
from tests.unit.cca_builders import Maker  # noqa: E402
from tests.unit.snp_builders import ecc_ek, ek  # noqa: E402
from tests.unit.snp_reports import Report, certificate_table  # noqa: E402
from tests.vectors import VECTORS  # noqa: E402

from imarium.chain import ChainState  # noqa: E402 - found by the line above
from imarium.custody import LogMeta  # noqa: E402
from imarium.custody.index import IndexHeader  # noqa: E402
from imarium.custody.marks import Mark  # noqa: E402
from imarium.custody.packed import pack  # noqa: E402
from imarium.engine import BUILTIN_POLICIES  # noqa: E402
from imarium.formats.evidence import Evidence, ListPart, TpmPart  # noqa: E402
from imarium.formats.records import ListLayout  # noqa: E402
from imarium.formats.registers import PcrIndex  # noqa: E402
from imarium.formats.software import SoftwareStatement  # noqa: E402
from imarium.formats.tpm import Credential, selection_bytes  # noqa: E402
from imarium.hashes import SHA1, SHA256, SHA384  # noqa: E402

QUOTE = bytes.fromhex("ff54434780180000000440000000") + bytes(25) + bytes.fromhex("00000001000b03000400") + b"\x00\x20"
SIGNATURE = bytes.fromhex("0014000b0100") + bytes(256)
KEY_AREA = bytes.fromhex("0001000b000500720000001000140" + "00b080000000000" + "0100") + b"\xff" * 256

POLICY = b"""\
measure func=FILE_CHECK mask=^MAY_READ uid>1000 euid<5 gid=3 egid=4 fowner=0 fgroup>7 pcr=11 template=ima-sigv2
dont_measure fsmagic=0x1021994 fsname=tmpfs fs_subtype=x fsuuid=6dbf6e6f-1d1d-4b1b-9c1b-6dbf6e6f1d1d
measure func=CRITICAL_DATA label=selinux|kernel_info pcr=0
measure func=KEY_CHECK keyrings=.ima|.evm template=ima-buf # with a comment
measure func=BPRM_CHECK digest_type=verity template=ima-ngv2
"""


def _records() -> list[Made]:
    raw = {
        "d": bytes(20),
        "n": b"boot_aggregate\0",
        "n-ng": b"/usr/bin/x\0",
        "d-ngv2": b"verity:sha256:\0" + bytes(32),
        "xattrnames": b"security.ima\0",
        "iuid": bytes(4),
        "igid": bytes(4),
        "imode": b"\xa4\x81",
    }
    made = [
        Made(name, tuple(raw.get(f, b"sha1:\0" + bytes(20) if f.startswith("d-") else b"\3\2") for f in fields))
        for name, fields in TEMPLATES.items()
        if name != "ima"
    ]
    return [Made("ima", (bytes(20), b"boot_aggregate")), *made, ng(b"/a\nb", 11), ng(b"/v", violation=True)]


def _forms() -> list[bytes]:
    """One list per form, in the order in which the fuzzer numbers them."""
    made = _records()
    bodies = []
    for kind in ("binary", "ascii", "kexec"):
        for bank in BANKS:
            for order in ("little", "big"):
                for padded in (False,) if bank == "sha1" else (False, True):
                    if kind == "binary":
                        bodies.append(binary(made, bank, order, padded))
                    elif kind == "ascii":
                        bodies.append(b"".join(ascii_line(record, bank, order, padded) for record in made))
                    else:
                        bodies.append(kexec(made, order))
    return bodies


def _json(document: object) -> bytes:
    return json.dumps(document).encode()


def _journal(state: object) -> list[bytes]:
    """A journal's lines, whose sums the fuzzer makes."""
    line = {"event": "kept", "at": "now", "boot_id": "boot", "records": 3, "bytes": 300, "base": 0, "next_base": 300}
    kept = {**line, "state": state, "registers": [10], "tail": "0" * 32, "detail": "why"}
    machine = {"boot_id": "boot", "name": "0" * 32, "product": "", "reset_count": 1, "restart_count": 0, "clock": 9}
    special = [{"event": "machine", "machine": machine, "clock": 9}, {"event": "gap", "missing": 7}]
    others = ("intent", "deleted", "followed", "carried", "cut", "gap", "counted", "snapshot", "removed", "refused")
    lines = [kept, *(line | members for members in special), *(line | {"event": event} for event in others)]
    return [_json(members) + b"\n" for members in lines]


def _index() -> bytes:
    """A header and two slots."""
    header = IndexHeader(bytes(range(16)), (SHA1, SHA256))
    values = {PcrIndex(10): {SHA1: bytes(20), SHA256: bytes(32)}}
    marks = [Mark(1024 * number, 9 * number, ChainState(1024 * number, values), bytes(16)) for number in (1, 2)]
    return header.encode() + b"".join(map(header.encode_slot, marks))


def seeds() -> dict[str, list[bytes]]:
    """Inputs that the targets read without complaint, or nearly so."""
    values = {SHA1: {PcrIndex(10): bytes(20)}, SHA256: {PcrIndex(10): bytes(32)}}
    part = TpmPart(QUOTE, SIGNATURE, KEY_AREA, values)
    body = binary([ng(b"/bin/true")])
    banks = {"sha1": "00" * 20, "sha256": "11" * 32}
    members = ["imarium-state", 1, 3, {"10": banks, "11": banks}, banks, "00" * 20]
    state = {"type": "imarium-state", "version": 1, "records": 3, "registers": {"10": banks}}
    whole = Evidence(part, ListPart(0, 1, ListLayout(), body)).encode()
    parts = ["imarium-evidence", 1, {}, {}, "tpm", QUOTE, KEY_AREA, {"sm3": {"3": bytes(32)}}, {"3": bytes(20)}]
    parts += [bytes(20), 7, 1 << 40, "sha256", "big", body]
    meta = LogMeta("little", "2026-01-01T00:00:00", "boot", "reset", "why", frozenset({SHA256})).to_bytes()
    selection = selection_bytes({SHA256: (PcrIndex(10),)})
    return {
        "lists": [bytes([number, 16]) + body for number, body in enumerate(_forms())],
        "detect": [b"\0" + body for body in _forms()],
        "pcrs": [b"  sha1:\n    10: 0x" + b"0A" * 20 + b"\n  sha256:\n", b"10:sha256=" + b"0a" * 32],
        "state": [b"\0" + _json(state), *(bytes([at]) + _json(member) for at, member in enumerate(members, 1))],
        "evidence": [b"\0" + whole, *(bytes([at]) + cbor2.dumps(part) for at, part in enumerate(parts, 1))],
        "tpm": [QUOTE + bytes(32), SIGNATURE, KEY_AREA, selection],
        "journal": [first + b"".join(_journal(state)) for first in (b"\0", b"\xff")],
        "meta": [first + meta for first in (b"\0", b"\xff")],
        "index": [b"\0" + _index(), *(bytes([0xFF, 10, 11, 12]) + bytes(range(256)) * n for n in (1, 2, 3))],
        "packed": [bytes(4) + b"".join(pack([body])), *(bytes([how, 9, 0, 0]) + body for how in (0x80, 0x84, 0x8F))],
        "store": [bytes([file, at, at, 0]) + b"\xff" for file in range(5) for at in (0, 9)],
        "policy": [*BUILTIN_POLICIES.values(), *POLICY.splitlines(keepends=True)],
        "restore": [kexec(_records())],
        "guests": _guests(),
        "eventlog": [cc.header() + b"".join(cc.sha384_event(index, b"event") for index in range(1, 5)) + bytes(16)],
        "registerlog": [b"SYNC sha384/" + b"00" * 48 + b"\n\nan event\r# a comment\n# .EXTEND " + b"11" * 48 + b"\n"],
    }


def _guests() -> list[bytes]:
    """What devices of guests say, and quotes of a TD where recorded ones are at hand."""
    statement = SoftwareStatement(b"nonce", {"rtmr2": {SHA384: bytes(48)}}).encode()
    recorded = [VECTORS / "dcap-qvl" / "tdx_quote", VECTORS / "go-tdx-guest" / "report.dat"]
    made = [
        Maker().token(),
        Report().bytes(),
        certificate_table(vcek=b"leaf", ask=b"issuer"),
        ek(),
        ecc_ek(),
        statement,
    ]
    challenge = Credential(bytes(68), bytes(256)).encode()
    return [*made, challenge, *(path.read_bytes() for path in recorded if path.is_file())]


def main() -> None:
    """Write them."""
    if len(sys.argv) != 2:
        sys.exit("usage: seeds.py DIRECTORY")
    for target, inputs in seeds().items():
        corpus = Path(sys.argv[1]) / target
        corpus.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(inputs):
            (corpus / f"seed-{number:03}").write_bytes(data)


if __name__ == "__main__":
    main()
