"""Which root of trust is chosen, and how bypass is told; the software root of trust."""

import json
import logging
import stat
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from imarium.cli.roots import list_roots
from imarium.engine import Engine
from imarium.errors import DeviceError, MalformedInput, MissingComponent, RefusedOperation, UsageError
from imarium.formats.software import SOFTWARE_QUOTE_TYPE
from imarium.hashes import SHA256, SHA384, HashAlgorithm
from imarium.registers import Access, ForeignExtend, MemoryRegisters, Register, RegisterReadOnly
from imarium.registers.provider import identity_of
from imarium.rot import (
    Driver,
    HasColumn,
    RootOfTrust,
    RootRegisters,
    TpmRoot,
    choose_root,
    drivers,
    open_register,
    open_root,
)
from imarium.rot.cca import CcaRoot, VirtCcaRoot
from imarium.rot.options import split_options
from imarium.rot.register_root import RegisterRoot
from imarium.rot.registry import BUILTIN
from imarium.rot.software import SoftwareRoot
from imarium.rot.tdx import TdxRoot
from imarium.rot.tpm_root import _pcr
from imarium.rot.tsi import request_token

AGILE = [Register("r0", bank.size, bank, Access.RTMR | Access.W) for bank in (SHA256, SHA384)]


def missing(_argument: str) -> RootOfTrust:
    raise MissingComponent("it is not there; plug it in")


def reads_only(_argument: str) -> RootOfTrust:
    return RegisterRoot(MemoryRegisters([Register("r0", 32, SHA256, Access.R)]), "r0")


def works(_argument: str) -> RootOfTrust:
    return RegisterRoot(MemoryRegisters(AGILE))


ABSENT, FIXED, GOOD = Driver("absent", "", missing), Driver("fixed", "", reads_only), Driver("good", "", works)
MANUAL = Driver("manual", "", works, automatic=False)


def test_the_tpm_comes_first_and_software_is_never_taken_unasked() -> None:
    assert [driver.name for driver in BUILTIN] == ["tpm", "tdx", "virtcca", "cca", "snp", "tsm", "software"]
    assert [driver.name for driver in BUILTIN if not driver.automatic] == ["tsm", "software"]
    assert drivers()[: len(BUILTIN)] == BUILTIN


def test_with_no_name_the_first_that_can_anchor_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    choice = choose_root(None, [MANUAL, ABSENT, FIXED, GOOD])
    assert choice.root is not None
    assert choice.root.default_register == "r0"
    assert choice.bypass is None
    assert [name for name, _ in choice.refused] == ["absent", "fixed"]
    assert choice.refused[0][1] == "it is not there; plug it in"
    assert "cannot extend its default register 'r0'" in choice.refused[1][1]
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (None, "no root of trust opens (absent: it is not there; plug it in; fixed: "),
        ("absent", "plug it in"),
        ("nobody:here", "unknown root of trust 'nobody'; known are absent, fixed, manual"),
    ],
)
def test_bypass_is_loud_and_says_why(name: str | None, says: str, caplog: pytest.LogCaptureFixture) -> None:
    choice = choose_root(name, [ABSENT, FIXED, MANUAL])
    assert choice.root is None
    assert says in str(choice.bypass)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "NOTHING IS ANCHORED" in record.getMessage()
    assert says in record.getMessage()


def test_a_known_name_is_that_one_or_none() -> None:
    choice = choose_root("manual", [GOOD, MANUAL])
    assert choice.root is not None
    assert choose_root("absent", [GOOD, ABSENT]).root is None


def test_a_device_that_breaks_off_once_open_is_refused_and_closed() -> None:
    """A TPM that was not started opens, and fails at the first command."""
    closed = []

    class Silent(RegisterRoot):
        def registers(self) -> tuple[Register, ...]:
            raise DeviceError("it does not answer; start it")

        def close(self) -> None:
            closed.append(True)

    silent = Driver("silent", "", lambda _: Silent(MemoryRegisters(AGILE)))
    choice = choose_root(None, [silent, GOOD])
    assert choice.root is not None
    assert choice.refused == (("silent", "it does not answer; start it"),)
    assert closed == [True]
    assert "does not answer" in str(choose_root("silent", [silent]).bypass)
    choice.root.close()


def test_what_is_opened_halfway_is_closed() -> None:
    closed = []

    class Half(RegisterRoot):
        def init(self) -> None:
            raise MissingComponent("halfway; try again")

        def close(self) -> None:
            closed.append(True)

    with pytest.raises(MissingComponent):
        open_root("half", [Driver("half", "", lambda _: Half(MemoryRegisters()))])
    assert closed == [True]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("nowhere.at_all:driver", "No module named 'nowhere'"),
        ("imarium.rot.registry:nothing", "nothing"),
        ("imarium.rot.registry:GROUP", "no imarium.rot.Driver called mine"),
    ],
)
def test_a_broken_third_party_driver_says_so_when_used(
    value: str, says: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    points = [EntryPoint("mine", value, "imarium.rot"), EntryPoint("tpm", value, "imarium.rot")]
    monkeypatch.setattr("imarium.rot.registry.entry_points", lambda **_: points)
    assert [driver.name for driver in drivers()] == [*(driver.name for driver in BUILTIN), "mine"]
    assert "tpm of" in caplog.text
    assert "the name is taken" in caplog.text
    with pytest.raises(MissingComponent, match=says):
        open_root("mine")


@pytest.mark.parametrize("fault", ["unknown_name", "{}['x']", "1 / 0", "assert False", "raise RuntimeError('no')"])
def test_a_third_party_module_that_breaks_does_not_take_the_others_with_it(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_driver.py").write_text(f"{fault}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    points = [EntryPoint("mine", "broken_driver:DRIVER", "imarium.rot")]
    monkeypatch.setattr("imarium.rot.registry.entry_points", lambda **_: points)
    assert [driver.name for driver in drivers()] == [*(driver.name for driver in BUILTIN), "mine"]
    with pytest.raises(MissingComponent, match="mend its package"):
        open_root("mine")


@pytest.mark.parametrize("fault", [KeyError("x"), OSError(5, "no"), RuntimeError("no")])
@pytest.mark.parametrize("where", ["make", "init"])
def test_a_third_party_driver_that_breaks_the_rules_is_refused_like_one_that_is_absent(
    fault: Exception, where: str
) -> None:
    class Wild(RegisterRoot):
        def init(self) -> None:
            raise fault

    def make(_argument: str) -> RootOfTrust:
        if where == "make":
            raise fault
        return Wild(MemoryRegisters(AGILE))

    choice = choose_root(None, [Driver("wild", "", make), GOOD])
    assert choice.root is not None
    ((name, why),) = choice.refused
    assert name == "wild"
    assert type(fault).__name__ in why
    assert why.endswith("mend its package")


def test_a_list_of_drivers_goes_on_behind_one_that_breaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nowhere() -> str:
        raise MissingComponent("its bus is not there; plug it in")

    def wild(_argument: str) -> RootOfTrust:
        raise KeyError("x")

    lost = Driver("lost", "", works, present=nowhere)
    monkeypatch.setattr("imarium.cli.roots.drivers", lambda: (lost, Driver("wild", "", wild), GOOD))
    list_roots(None, json=True)
    shown = json.loads(capsys.readouterr().out)["drivers"]
    assert [each["available"] for each in shown] == [False, False, True]
    assert shown[0]["detail"] == "its bus is not there; plug it in"
    assert "mend its package" in shown[1]["detail"]


@pytest.mark.parametrize(
    "name",
    [
        f"software:{'a' * 300}",
        f"tpm:device:/dev/{'a' * 300}",
        f"tpm:device:/dev/null,ak={'a' * 300}",
        f"tpm:swtpm:{'a' * 300}",
        f"virtcca:,token={'a' * 300}",
        f"tsm:/{'a' * 300}",
        *(f"{driver.name}:a\0b" for driver in BUILTIN),
    ],
)
def test_a_place_that_no_system_can_have_is_bypass(name: str) -> None:
    """Path.exists raises where the system cannot tell, for want of permission too."""
    choice = choose_root(name)
    assert choice.root is None
    assert choice.bypass


@pytest.mark.parametrize("name", ["", "01", "32", "-1", "+1", "\u0663", "9" * 5000])
def test_what_is_no_pcr(name: str) -> None:
    with pytest.raises(UsageError, match="is no PCR; give a number from 0 to 31"):
        _pcr(name)


def test_options_are_known_given_and_given_once() -> None:
    assert split_options("d", "", ("a",)) == ("", {})
    assert split_options("d", "place,a=1,b=x=y", ("a", "b")) == ("place", {"a": "1", "b": "x=y"})
    assert split_options("d", "a=1", ("a",)) == ("", {"a": "1"})
    for wrong in ("place,c=1", "place,a=", "place,a", "a=1,a=2", "place,"):
        with pytest.raises(UsageError, match=r"options are a=\.\.\."):
            split_options("d", wrong, ("a",))


def test_all_banks_are_checked_before_any_is_extended() -> None:
    with RegisterRoot(MemoryRegisters(AGILE)) as rot:
        assert set(rot.banks()) == {SHA256, SHA384}
        for digests in ({SHA256: bytes(32)}, {SHA256: bytes(32), SHA384: bytes(47)}):
            with pytest.raises(UsageError, match="r0:sha384 needs a sha384 digest of 48 bytes"):
                rot.extend("r0", digests)
        assert rot.read(["r0"]) == {"r0": {SHA256: bytes(32), SHA384: bytes(48)}}
        rot.extend("r0", {SHA256: b"a" * 32, SHA384: b"b" * 48})
        assert rot.read(["r0"])["r0"][SHA384] == SHA384.digest(bytes(48) + b"b" * 48)
        with pytest.raises(UsageError, match="no register 'r1'"):
            rot.read(["r1"])
    with pytest.raises(UsageError, match="call init first"):
        rot.read(["r0"])


def test_software_registers_outlive_their_process_and_sign_with_one_key(tmp_path: Path) -> None:
    path = tmp_path / "registers"
    with open_root(f"software:{path}") as rot:
        rot.extend("rtmr2", {SHA384: bytes(48)})
        first = rot.quote(b"nonce", ["rtmr2"])
        assert rot.boot_aggregate(SHA384) == bytes(48)
    with open_root(f"software:{path},register=rtmr1") as rot:
        assert rot.default_register == "rtmr1"
        second = rot.quote(b"other")
    value = SHA384.digest(bytes(96))
    for quote, nonce in ((first, b"nonce"), (second, b"other")):
        key = load_der_public_key(quote.beside["key"])
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(quote.beside["signature"], quote.statement, ec.ECDSA(hashes.SHA256()))
        said = cbor2.loads(quote.statement)
        assert (said["type"], said["nonce"], said["registers"]["rtmr2:sha384"]) == (SOFTWARE_QUOTE_TYPE, nonce, value)
        assert "proves nothing" in said["type"]
        assert quote.kind == "software"
    assert first.beside["key"] == second.beside["key"]
    assert stat.S_IMODE((tmp_path / "registers.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("way", ["link", "directory/link", "here/../file"])
def test_every_name_of_a_place_is_the_same_root(way: str, tmp_path: Path) -> None:
    """Else each name had locks, event logs and positions of its own, and a write through a link left two files."""
    (tmp_path / "here").mkdir()
    (tmp_path / "directory").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to("file")
    first, second = SoftwareRoot(tmp_path / "file"), SoftwareRoot(tmp_path / way)
    with first, second:
        assert first.identity == second.identity
        second.extend("rtmr2", {SHA384: b"\1" * 48})
        assert (tmp_path / "link").is_symlink()
        assert first.read(["rtmr2"]) == second.read(["rtmr2"])
        assert first.quote(b"nonce").beside["key"] == second.quote(b"nonce").beside["key"]
    assert identity_of("tsm", tmp_path / "directory") == identity_of("tsm", tmp_path)
    assert identity_of("tpm", "device:/dev/tpm0") != identity_of("tpm", "device:/dev/tpmrm0")


def test_a_driver_that_does_not_know_the_request_is_to_be_updated() -> None:
    """As those of before, which gave a token to read(2) alone."""
    with pytest.raises(DeviceError, match="does not know this request; update it"):
        request_token(bytes(64), Path("/dev/null"))


def test_software_quotes_refuse_what_does_not_fit(tmp_path: Path) -> None:
    with SoftwareRoot() as rot:
        for nonce in (b"", bytes(65)):
            with pytest.raises(UsageError, match="1 to 64 bytes"):
                rot.quote(nonce)
        with pytest.raises(UsageError, match="no register 'rtmr7'"):
            rot.quote(b"n", ["rtmr7"])
        with pytest.raises(RefusedOperation, match="cannot extend mrtd"):
            rot.extend("mrtd", {SHA384: bytes(48)})
    (tmp_path / "registers.key").write_text("no key")
    with SoftwareRoot(tmp_path / "registers") as rot, pytest.raises(MalformedInput, match="EC P-256 key in PEM"):
        rot.quote(b"n")


def test_a_register_is_named_behind_its_root(tmp_path: Path) -> None:
    place = f"software:{tmp_path / 'registers'}"
    for name, expected in ((place, "rtmr2"), (f"{place}:rtmr1", "rtmr1"), (f"{place},register=rtmr3", "rtmr3")):
        root, register = open_register(name)
        assert (root.name, register.key) == ("software", f"{expected}:sha384")
        root.close()
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == ["registers"]
    with pytest.raises(UsageError, match="unknown root of trust"):
        open_register("nobody:rtmr1")


class Twice(SoftwareRoot):
    """Someone else extends the same at the same time."""

    def extend(self, register: str, digests: Mapping[HashAlgorithm, bytes]) -> None:
        super().extend(register, digests)
        super().extend(register, digests)


def test_registers_of_a_root_are_extended_one_by_one() -> None:
    with SoftwareRoot() as root:
        registers = RootRegisters(root)
        (register,) = [each for each in registers.registers() if each.name == "rtmr2"]
        value = SHA384.digest(bytes(96))
        assert registers.extend(register, bytes(48)) == value == registers.read(register)
        assert (registers.name, registers.identity) == (root.name, root.identity)
        (mrtd,) = [each for each in registers.registers() if each.name == "mrtd"]
        with pytest.raises(RegisterReadOnly):
            registers.extend(mrtd, bytes(48))
        with pytest.raises(UsageError, match="stores no register"):
            registers.store(mrtd, bytes(48))
    with Twice() as root, pytest.raises(ForeignExtend):
        RootRegisters(root).extend(register, bytes(48))


@pytest.mark.parametrize(
    ("root", "column"),
    [
        (TdxRoot(MemoryRegisters()), 2),
        (TdxRoot(MemoryRegisters(), "rtmr0"), 0),
        (TdxRoot(MemoryRegisters(), "mrtd"), None),
        (CcaRoot(MemoryRegisters()), 1),
        (VirtCcaRoot(MemoryRegisters(), "rem3"), 4),
        (CcaRoot(MemoryRegisters(), "rtmr1"), None),
    ],
)
def test_a_guests_default_register_has_a_column(root: HasColumn, column: int | None) -> None:
    assert isinstance(root, HasColumn)
    assert root.column() == column


def test_an_engines_records_are_of_the_column_that_all_roots_share(tmp_path: Path) -> None:
    td, other, realm = TdxRoot(MemoryRegisters()), TdxRoot(MemoryRegisters(), "rtmr3"), CcaRoot(MemoryRegisters())
    cases: list[tuple[list[RootOfTrust], int]] = [
        ([], 10),
        ([td], 2),
        ([td, TdxRoot(MemoryRegisters())], 2),
        ([TdxRoot(MemoryRegisters(), "rtmr0")], 0),
        ([td, other], 10),
        ([td, SoftwareRoot()], 10),
        ([realm], 1),
    ]
    for roots, column in cases:
        assert Engine(tmp_path / "engine", roots=roots)._column == column


def test_roots_without_columns() -> None:
    assert not isinstance(SoftwareRoot(), HasColumn)
    assert not isinstance(TpmRoot(), HasColumn)
