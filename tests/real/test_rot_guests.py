"""The drivers of confidential guests, behind simulated files: see guest_simulator for what is simulated."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.conftest import Swtpm
from tests.real.guest_simulator import guest
from tests.vectors import vector

from imarium.errors import DeviceError, MissingComponent, RefusedOperation, UsageError
from imarium.formats.cca import parse_cca_token
from imarium.formats.snp import parse_certificate_table, parse_snp_report, svsm_report_data
from imarium.formats.tdx import parse_tdx_quote
from imarium.formats.tpm import parse_public
from imarium.hashes import SHA1, SHA256, SHA384, SHA512
from imarium.registers import FileRegisters, RegisterReadOnly
from imarium.rot import EndorsementKind, RootOfTrust, Tpm, choose_root, open_root
from imarium.rot.snp import SnpRoot
from imarium.rot.tsi import request_token
from imarium.rot.tsm_report import provider_of, request_report

NONCE = bytes(range(64))


@pytest.fixture
def td(tmp_path: Path) -> Iterator[Path]:
    with guest(tmp_path, "tdx_guest") as mount:
        yield mount


@pytest.fixture
def realm(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "state.token").write_bytes(vector("trustee/cca/misc/cca-example-token.cbor"))
    with guest(tmp_path, "arm_cca_guest") as mount:
        yield mount


def tdx(td: Path, more: str = "") -> RootOfTrust:
    return open_root(f"tdx:{more}registers={td / 'measurements'},reports={td / 'report'},ccel={td.parent / 'ccel'}")


def test_a_td_extends_one_register_and_quotes_all(td: Path) -> None:
    with tdx(td) as rot:
        assert (rot.name, rot.kind, rot.default_register, rot.banks()) == ("tdx", "tdx", "rtmr2", (SHA384,))
        assert [r.key for r in rot.registers() if r.extensible] == [f"rtmr{n}:sha384" for n in range(4)]
        aggregate = rot.boot_aggregate(SHA384)
        assert aggregate == SHA384.digest(bytes(4 * 48))
        rot.extend("rtmr2", {SHA384: aggregate})
        expected = SHA384.digest(bytes(48) + aggregate)
        assert rot.read(["rtmr2"]) == {"rtmr2": {SHA384: expected}}
        assert rot.boot_aggregate(SHA384) == SHA384.digest(bytes(3 * 48) + expected)
        quote = rot.quote(NONCE)
        td_info = parse_tdx_quote(quote.statement).body
        assert td_info.report_data == NONCE
        assert td_info.td.rtmrs[2] == quote.values["rtmr2"][SHA384] == expected
        assert quote.beside == {}
        assert not list((td / "report").iterdir())


def test_a_td_gives_its_event_log_and_refuses_what_does_not_fit(td: Path) -> None:
    (td.parent / "ccel").write_bytes(b"the log")
    with tdx(td, "rtmr3,") as rot:
        assert rot.default_register == "rtmr3"
        assert rot.quote(NONCE).beside == {"event_log": b"the log"}
        with pytest.raises(UsageError, match="64 bytes"):
            rot.quote(b"short")
        with pytest.raises(RefusedOperation, match="cannot extend mrtd"):
            rot.extend("mrtd", {SHA384: bytes(48)})
        with pytest.raises(UsageError, match="sha384 digest of 48 bytes"):
            rot.extend("rtmr3", {SHA384: bytes(49)})
        with pytest.raises(UsageError, match="and no other"):
            rot.extend("rtmr3", {SHA384: bytes(48), SHA256: bytes(32)})
        with pytest.raises(UsageError, match="not of sha256"):
            rot.boot_aggregate(SHA256)
        assert rot.read(["rtmr3"]) == {"rtmr3": {SHA384: bytes(48)}}
    with pytest.raises(UsageError, match="no register 'rtmr9'"):
        tdx(td, "rtmr9,")


@pytest.mark.parametrize(
    ("number", "kind", "says"),
    [
        (errno.ENXIO, MissingComponent, "no provider"),
        (errno.EBUSY, DeviceError, "busy"),
        (errno.ETIMEDOUT, DeviceError, "quoting service"),
        (errno.EINVAL, UsageError, "nonce of the size"),
        (errno.EIO, MissingComponent, "confidential guest"),
    ],
)
def test_an_error_of_the_device_says_what_to_do(td: Path, number: int, kind: type[Exception], says: str) -> None:
    (td.parent / "state.fault").write_text(str(number))
    with pytest.raises(kind, match=says):
        request_report(NONCE, directory=td / "report")
    assert not list((td / "report").iterdir())


def test_a_lost_error_of_inblob_is_seen_by_the_generation(td: Path) -> None:
    with pytest.raises(UsageError, match="63 bytes of inblob were not taken"):
        request_report(NONCE[:63], directory=td / "report")
    assert request_report(NONCE, directory=td / "report").provider == "tdx_guest"
    assert provider_of(td / "report") == "tdx_guest"


def test_without_a_provider_or_configfs_the_reason_is_told(tmp_path: Path) -> None:
    with guest(tmp_path, "") as mount, pytest.raises(MissingComponent, match="no confidential guest"):
        request_report(NONCE, directory=mount / "report")
    with pytest.raises(MissingComponent, match="mount configfs"):
        request_report(NONCE, directory=tmp_path / "none")


def test_any_device_with_registers_works_without_a_driver(td: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_root(f"tsm:{td / 'measurements'}") as rot:
        assert rot.default_register == "rtmr0"
        rot.extend("rtmr0", {SHA384: bytes(48)})
        assert rot.read(["rtmr0"])["rtmr0"][SHA384] == SHA384.digest(bytes(96))
        with pytest.raises(RefusedOperation, match="but no quote"):
            rot.quote(NONCE)
    with open_root(f"tsm:{td / 'measurements'},register=rtmr1") as rot:
        assert rot.default_register == "rtmr1"
    with pytest.raises(MissingComponent, match="load one's driver"):
        open_root("tsm")
    monkeypatch.setattr("imarium.rot.tsm.discover", lambda: ("tdx_guest", "other"))
    with pytest.raises(UsageError, match="name the device: tsm:DEVICE; devices with registers: tdx_guest, other"):
        open_root("tsm")


@pytest.mark.parametrize("name", ["cca", "virtcca"])
def test_a_token_over_another_challenge_is_refused(realm: Path, name: str) -> None:
    with pytest.raises(DeviceError, match="another challenge"):
        open_root(f"{name}:reports={realm / 'report'}")


@pytest.mark.parametrize("name", ["cca", "virtcca"])
def test_a_realm_is_read_from_its_token_and_cannot_be_extended(
    realm: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = parse_cca_token((realm.parent / "state.token").read_bytes()).realm.claims
    monkeypatch.setattr("imarium.rot.cca.secrets.token_bytes", lambda _size: claims.challenge)
    bank = claims.hash_algorithm
    with open_root(f"{name}:reports={realm / 'report'}") as rot:
        assert (rot.name, rot.kind, rot.default_register, rot.banks()) == (name, name, "rem0", (bank,))
        assert [r.name for r in rot.registers()] == ["rem0", "rem1", "rem2", "rem3", "rim"]
        assert rot.read(["rem1"]) == {"rem1": {bank: claims.rems[1]}}
        assert rot.boot_aggregate(bank) == claims.rim
        quote = rot.quote(claims.challenge)
        assert quote.statement == (realm.parent / "state.token").read_bytes()
        assert quote.values["rim"] == {bank: claims.rim}
        with pytest.raises(RefusedOperation, match="cannot extend rem0"):
            rot.extend("rem0", {bank: bytes(bank.size)})
        with pytest.raises(UsageError, match="64 bytes"):
            rot.quote(b"short")
        with pytest.raises(RegisterReadOnly, match=r"name a device that can, as in cca:DEVICE"):
            rot._provider.extend(rot.registers()[0], bytes(bank.size))  # type: ignore[attr-defined]
    choice = choose_root(f"{name}:reports={realm / 'report'}")
    assert choice.root is None
    assert "cannot extend its default register 'rem0'" in str(choice.bypass)


def test_a_virtcca_vm_gives_its_token_by_its_device(tmp_path: Path) -> None:
    with guest(tmp_path, "arm_cca_guest") as mount:
        with open_root(f"virtcca:{mount / 'measurements'},token={mount / 'tsi'}") as rot:
            rot.extend("rem0", {SHA256: bytes(32)})
            quote = rot.quote(NONCE)
            claims = parse_cca_token(quote.statement).realm.claims
            assert (claims.challenge, claims.rems[0]) == (NONCE, SHA256.digest(bytes(64)))
        with open_root(f"virtcca:token={mount / 'tsi'}") as rot:
            assert [register.name for register in rot.registers()] == ["rem0", "rem1", "rem2", "rem3", "rim"]
            assert rot.boot_aggregate(SHA256) == bytes(32)
        with pytest.raises(UsageError, match="64 bytes, not 5"):
            request_token(b"short", mount / "tsi")
        for size in (0, 8193, 1 << 40):
            (tmp_path / "state.size").write_text(str(size))
            with pytest.raises(DeviceError, match=f"has {size} bytes"):
                request_token(NONCE, mount / "tsi")
        (tmp_path / "state.fault").write_text(str(errno.EIO))
        with pytest.raises(DeviceError, match="gives no token"):
            request_token(NONCE, mount / "tsi")
    with pytest.raises(MissingComponent, match="tmm_tsi driver"):
        open_root(f"virtcca:token={tmp_path / 'none'}")
    with pytest.raises(UsageError, match="'token=x' is not an option"):
        open_root("cca:token=x")


@pytest.mark.parametrize("name", ["cca", "virtcca"])
def test_a_guest_of_another_kind_is_no_realm(td: Path, name: str) -> None:
    with pytest.raises(RefusedOperation, match="come from 'tdx_guest': this is no realm; use its driver"):
        open_root(f"{name}:reports={td / 'report'}")


def test_a_realms_boot_aggregate_is_its_tokens_where_a_device_has_no_rim(tmp_path: Path) -> None:
    registers = tmp_path / "registers"
    registers.mkdir()
    (registers / "rem0:sha256").write_bytes(bytes(32))
    with guest(tmp_path, "arm_cca_guest") as mount, open_root(f"cca:{registers},reports={mount / 'report'}") as rot:
        assert [register.name for register in rot.registers()] == ["rem0"]
        assert rot.boot_aggregate(SHA256) == bytes(32)
        with pytest.raises(UsageError, match="measures in sha256, not in sha512"):
            rot.boot_aggregate(SHA512)


def test_a_realm_with_a_device_extends_there(realm: Path) -> None:
    with open_root(f"cca:{realm / 'measurements'},register=rem1,reports={realm / 'report'}") as rot:
        rot.extend("rem1", {SHA256: bytes(32)})
    state = FileRegisters(realm.parent / "state")
    (register,) = [each for each in state.registers() if each.name == "rem1"]
    assert state.read(register) == SHA256.digest(bytes(64))


def test_an_svsm_tpm_quotes_with_the_report_that_binds_its_key(tmp_path: Path, shared_swtpm: Swtpm) -> None:
    with Tpm(shared_swtpm.tcti) as device:
        manifest = parse_public(device.endorsement_key(EndorsementKind.RSA_2048).public).area
    (tmp_path / "state.manifest").write_bytes(manifest)
    with (
        guest(tmp_path, "sev_guest") as mount,
        SnpRoot(shared_swtpm.tcti, reports=mount / "report") as rot,
    ):
        with pytest.raises(RefusedOperation, match=r"give snp:\.\.\.,ak=DIR"):
            rot.quote(NONCE)
        assert rot.use_key(tmp_path / "ak")
        assert not rot.use_key(tmp_path / "ak")
        assert (tmp_path / "ak" / "ak.parent").read_text() == "rsa-2048\n", "as the manifest's key is"
        quote = rot.quote(NONCE)
        assert quote.kind == "snp"
        assert quote.beside["manifest"] == manifest
        assert parse_snp_report(quote.beside["report"]).report_data == svsm_report_data(NONCE, manifest)
        assert parse_certificate_table(quote.beside["certificates"]).vcek == (tmp_path / "state.vcek").read_bytes()
        assert set(quote.beside) == {"signature", "ak", "report", "certificates", "manifest"}
        assert set(quote.values["10"]) == {SHA1, SHA256}
        with pytest.raises(UsageError, match="64 bytes"):
            rot.quote(b"short")


def test_a_guest_without_an_svsm_is_told_to_use_its_tpm(tmp_path: Path, shared_swtpm: Swtpm) -> None:
    (tmp_path / "state.manifest").write_bytes(b"")
    with (
        guest(tmp_path, "sev_guest") as mount,
        SnpRoot(shared_swtpm.tcti, reports=mount / "report") as rot,
        pytest.raises(MissingComponent, match="no SVSM with a vTPM; use the tpm driver"),
    ):
        rot.use_key(tmp_path / "ak")


def test_an_snp_driver_elsewhere_says_what_is_there(td: Path) -> None:
    with pytest.raises(MissingComponent, match="'tdx_guest', not sev_guest"):
        open_root(f"snp:reports={td / 'report'}")
