"""``imarium verify`` with roots of trust that are no TPM."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import load_der_x509_certificate
from tests.unit.builders import ng
from tests.unit.cca_builders import NOW as CERTIFIED
from tests.unit.cca_builders import Maker, certificate
from tests.unit.guest_builders import (
    NONCE,
    SoftwareGuest,
    Td,
    aggregate_record,
    cca_part,
    evidence,
    extended,
)
from tests.unit.tdx_builders import NOW

from imarium.cli import main
from imarium.formats.evidence import CcaPart, Evidence, VirtccaPart

RIM = b"\xab" * 32
AK = bytes.fromhex("00580023000b00050072000000100018000b00030010") + 2 * (b"\0\x20" + b"\1" * 32)
"""A TPM2B_PUBLIC: restricted, signing, on P-256."""


class Desk:
    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.path, self.capsys, self.patch = path, capsys, patch

    def file(self, name: str, data: bytes | str) -> Path:
        path = self.path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def run(self, *arguments: object) -> int:
        self.patch.setattr(sys, "argv", ["imarium", "verify", "--nonce", NONCE.hex(), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code

    def verify(self, given: Evidence[Any], *arguments: object) -> tuple[int, dict[str, Any]]:
        path = self.file("evidence", given.encode())
        status = self.run(path, "--json", *arguments)
        return status, json.loads(self.capsys.readouterr().out)

    def refused(self, given: Evidence[Any], *arguments: object) -> tuple[int, str]:
        path = self.file("evidence", given.encode())
        status = self.run(path, *arguments)
        error = self.capsys.readouterr().err
        assert error.count("\n") == 1
        return status, error


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, capsys, monkeypatch)


def reasons(document: dict[str, Any]) -> list[str]:
    return [reason["code"] for reason in document["reasons"]]


def test_a_td(desk: Desk) -> None:
    td = Td()
    log = [aggregate_record("sha384", td.aggregate, 2), ng(b"/a", 2), ng(b"/b", 2)]
    given = evidence(td.part(log), log)
    collateral = desk.file("collateral", td.platform.collateral())
    root = desk.file("root", td.platform.root_der)
    before = f"2={td.before[2].hex()}"
    options = ["--tdx-collateral", collateral, "--tdx-root", root, "--time", NOW, "--initial", before]
    state = desk.path / "state"
    status, document = desk.verify(given, *options, "--state", state)
    assert (status, document["verdict"], document["covered"]) == (0, "pass", 3)
    later = [*log, ng(b"/c", 2)]
    status, document = desk.verify(evidence(td.part(later), later, first=3), *options, "--state", state)
    assert (status, document["covered"], document["state"]["log"]["kind"]) == (0, 1, "tdx")
    status, document = desk.verify(given, *options[:-1], f"2={bytes(48).hex()}")
    assert (status, reasons(document)) == (1, ["boot_aggregate_mismatch"])
    old = desk.file("old", td.platform.collateral(status="OutOfDate"))
    assert reasons(desk.verify(given, *options, "--tdx-collateral", old)[1]) == ["tcb_status_unaccepted"]
    assert desk.verify(given, *options, "--tdx-collateral", old, "--tdx-accept", "OutOfDate")[0] == 0


def test_a_bridged_list(desk: Desk) -> None:
    td = Td(before={n: bytes(48) for n in range(4)})
    log = [ng(b"boot_aggregate"), ng(b"/a"), ng(b"/b", 11)]
    given = evidence(td.part(log), log)
    collateral = desk.file("collateral", td.platform.collateral())
    options = ["--tdx-collateral", collateral, "--tdx-root", desk.file("root", td.platform.root_der), "--time", NOW]
    assert reasons(desk.verify(given, *options)[1]) == ["register_not_quoted"] * 2
    assert desk.verify(given, *options, "--column", "all=2", "--bridged")[0] == 0
    assert desk.verify(given, *options, "--column", "10=2", "--column", "11=2", "--bridged")[0] == 0
    assert desk.verify(given, *options, "--column", "10=rtmr2", "--column", "11=rtmr2", "--bridged")[0] == 0
    assert desk.verify(given, *options, "--column", "10=2", "--column", "11=3", "--bridged")[0] == 1


def test_keys(desk: Desk) -> None:
    maker, log = Maker(), [aggregate_record("sha256", RIM, 1), ng(b"/a", 1)]
    rems = [extended(bytes(32), log, "sha256"), *[bytes(32)] * 3]
    public = maker.platform_key.public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    key = desk.file("key", public.public_bytes(serialization.Encoding.PEM, form))
    for part, option in (
        (cca_part(maker, rems, RIM), "--virtcca-platform-key"),
        (cca_part(maker, rems, RIM, kind=CcaPart), "--cca-platform-key"),
    ):
        given = evidence(part, log)
        assert desk.verify(given, option, key)[0] == 0
        assert desk.verify(given, option, key, "--column", "1=1")[0] == 0
        assert desk.verify(given, option, key, "--column", "1=rem0")[0] == 0
        assert desk.verify(given, option, key, "--column", "1=rem1")[0] == 1
        assert reasons(desk.verify(given, option, key, "--initial", f"1={'09' * 32}")[1]) == ["records_missing"]
    guest = SoftwareGuest()
    software = [ng(b"boot_aggregate", 2), ng(b"/a", 2)]
    given = evidence(guest.part({"rtmr2:sha384": extended(bytes(48), software, "sha384")}), software)
    accepted = desk.file("software", guest.public)
    assert desk.verify(given, "--allow-software", accepted)[0] == 0
    assert desk.verify(given, "--allow-software", accepted, "--column", "2=1")[0] == 1
    status, document = desk.verify(given, "--cca-platform-key", key)
    assert (status, reasons(document)) == (1, ["software_root"])


def test_platforms_are_trusted_by_certificate(desk: Desk) -> None:
    """A root, an authority and the platform's key, in DER or PEM, at a time."""
    root_key, between_key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    maker, log = Maker(), [aggregate_record("sha256", RIM, 1), ng(b"/a", 1)]
    root = certificate(root_key, "Root", ca=True)
    between = certificate(between_key, "Between", root_key, "Root", ca=True, path_length=0)
    leaf = certificate(maker.platform_key, "Platform", between_key, "Between")
    pem = load_der_x509_certificate(root).public_bytes(serialization.Encoding.PEM)
    chain = ["--cca-root", desk.file("root", pem), "--cca-issuer", desk.file("between", between)]
    at = ["--time", int(CERTIFIED.timestamp())]
    rems = [extended(bytes(32), log, "sha256"), *[bytes(32)] * 3]
    for kind, option in ((CcaPart, "--cca-certificate"), (VirtccaPart, "--virtcca-certificate")):
        given = evidence(cca_part(maker, rems, RIM, kind=kind), log)
        named = [option, desk.file("leaf", leaf)]
        assert desk.verify(given, *named, *chain, *at)[0] == 0
        assert reasons(desk.verify(given, *named, *chain, "--time", 0)[1])[0] == "certificate_invalid"
        assert "certificate_invalid" in reasons(desk.verify(given, *named, *chain[:2], *at)[1])
        assert "needs --cca-root" in desk.refused(given, *named, *at)[1]
        assert "not both" in desk.refused(given, *named, *chain, option.replace("certificate", "platform-key"), root)[1]
    assert "go with --cca-certificate" in desk.refused(given, *chain)[1]
    assert desk.refused(given, *named, "--cca-root", desk.file("bad", "-----BEGIN X-----"))[0] == 3
    assert desk.refused(given, *named, *chain, "--time", 1 << 62)[0] == 2


def test_what_cannot_be_asked(desk: Desk) -> None:
    td = Td()
    given = evidence(td.part([]), [])
    key = desk.file("key", b"no key")
    software = desk.file("software", SoftwareGuest().public)
    status, error = desk.refused(given, "--allow-software", software)
    assert status == 2
    assert "--tdx-collateral" in error
    assert desk.verify(given, "--allow-software", software)[0] == 2
    assert "name the attestation key" in desk.refused(given)[1]
    for arguments, expected in (
        (["--cca-platform-key", key], 3),
        (["--cca-platform-key", desk.path / "absent"], 4),
        (["--tdx-collateral", key, "--time", "-1"], 2),
        (["--tdx-collateral", key, "--column", "2=4"], 2),
        (["--tdx-collateral", key, "--column", "two=2"], 2),
        (["--tdx-collateral", key, "--column", "2=rtmr4"], 2),
        (["--tdx-collateral", key, "--column", "rtmr2=2"], 2),
        (["--tdx-collateral", key, "--column", "2"], 2),
        (["--tdx-collateral", key, "--initial", "2=00"], 2),
        (["--tdx-collateral", key, "--initial", "2=x"], 2),
        (["--virtcca-platform-key", key, "--virtcca-realm-key", key], 2),
    ):
        assert desk.refused(given, *arguments)[0] == expected, arguments


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        (("--tdx-mrtd", "ab" * 48), "--tdx-collateral"),
        (("--tdx-accept", "OutOfDate"), "--tdx-collateral"),
        (("--cca-rim", RIM.hex()), "platform"),
        (("--snp-measurement", "ab" * 48), "--snp-root"),
        (("--snp-vmpl", "1"), "--snp-root"),
        (("--initial", f"2={'00' * 48}"), "start at zero"),
    ],
)
def test_no_term_is_passed_over_for_want_of_an_anchor(desk: Desk, options: tuple[str, str], needed: str) -> None:
    guest, log = SoftwareGuest(), [ng(b"boot_aggregate", 2)]
    given = evidence(guest.part({"rtmr2:sha384": extended(bytes(48), log, "sha384")}), log)
    accepted = ("--allow-software", desk.file("software", guest.public))
    assert desk.verify(given, *accepted)[0] == 0
    status, message = desk.refused(given, *options, *accepted)
    assert status == 2
    assert needed in message


def test_what_is_no_software_roots_key_is_refused(desk: Desk) -> None:
    guest = SoftwareGuest()
    given = evidence(guest.part({"rtmr2:sha384": bytes(48)}), [])
    private = guest.key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = guest.key.public_key().public_bytes(serialization.Encoding.PEM, form)
    other = ec.generate_private_key(ec.SECP384R1()).public_key().public_bytes(serialization.Encoding.DER, form)
    for data in (b"", b"no key", private, pem, other, guest.public[:-1], guest.public + b"\0"):
        status, error = desk.refused(given, "--allow-software", desk.file("soft.key", data))
        assert status == 3
        assert "soft.key: at byte 0: expected an EC P-256 public key in DER: the file key that imarium rot" in error


def test_a_column_that_leads_nowhere_is_told_with_the_option_that_names_its_register(desk: Desk) -> None:
    guest, log = SoftwareGuest(), [ng(b"boot_aggregate"), ng(b"/a")]
    given = evidence(guest.part({"rtmr2:sha384": extended(bytes(48), log, "sha384")}), log)
    accepted = ("--allow-software", desk.file("software", guest.public))
    status, document = desk.verify(given, *accepted)
    assert (status, reasons(document)) == (1, ["register_not_quoted"])
    assert "(--column)" in document["reasons"][0]["detail"]
    assert desk.verify(given, *accepted, "--column", "10=rtmr2")[0] == 0
    assert desk.verify(given, *accepted, "--column", "10=rem0")[0] == 1


@pytest.mark.parametrize("options", [("--column", "10=2"), ("--initial", f"2={'00' * 48}"), ("--bridged",)])
def test_what_is_said_of_registers_is_not_passed_over_for_a_tpm(desk: Desk, options: tuple[str, ...]) -> None:
    guest = SoftwareGuest()
    given = evidence(guest.part({"rtmr2:sha384": bytes(48)}), [])
    status, message = desk.refused(given, "--ak", desk.file("ak", AK), *options)
    assert status == 2
    assert "not about a TPM" in message


@pytest.mark.parametrize("option", ["--cca-root", "--cca-issuer"])
def test_a_certificate_is_not_passed_over_beside_a_bare_key(desk: Desk, option: str) -> None:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    given = evidence(Td().part([]), [])
    status, message = desk.refused(given, "--cca-platform-key", desk.file("key", pem), option, desk.path / "root")
    assert status == 2
    assert "go with --cca-certificate" in message


@pytest.mark.parametrize("option", ["--tdx-root", "--cca-root", "--snp-root"])
def test_a_root_that_is_no_certificate_is_the_callers_fault_and_no_verdict(desk: Desk, option: str) -> None:
    other = desk.file("other", b"no certificate")
    beside = {
        "--tdx-root": ["--tdx-collateral", desk.file("collateral", "{}")],
        "--cca-root": ["--cca-certificate", other],
        "--snp-root": ["--ak", desk.file("ak", AK), "--snp-measurement", "ab" * 48],
    }[option]
    status, message = desk.refused(evidence(Td().part([]), []), *beside, option, other)
    assert status == 3
    assert "other: at byte 0: expected an X.509 certificate in DER" in message
