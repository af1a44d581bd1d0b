"""Attestation keys and quotes on swtpm, checked by the verifier and by tpm2-tools."""

from __future__ import annotations

import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from imarium.errors import DeviceError, RefusedOperation, UsageError
from imarium.formats.registers import PcrIndex
from imarium.formats.tpm import ObjectAttributes, SignatureScheme, parse_attest, parse_public
from imarium.hashes import SHA1, SHA256
from imarium.rot import EndorsementKind, KeyKind, Quote, StoredKey, Tpm, load_key, save_key
from imarium.rot.tpm_ak import AK_ATTRIBUTES, create_ak
from imarium.rot.tss import Handle, Tss
from imarium.verifier.quote import check_quote

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.conftest import Swtpm

NONCE = bytes(range(32))
SELECTION = {SHA256: tuple(PcrIndex(index) for index in range(11)), SHA1: (PcrIndex(10),)}
ECDSA = KeyKind(SignatureScheme.ECDSA)
RSASSA = KeyKind(SignatureScheme.RSASSA)
RSAPSS = KeyKind(SignatureScheme.RSAPSS)
HANDLE = 0x81010002
EVENT = {SHA256: SHA256.digest(b"event")}


def codes(quote: Quote, *, name: bytes, nonce: bytes = NONCE) -> list[str]:
    outcome = check_quote(
        quote.attest,
        quote.signature,
        quote.ak,
        trusted_name=name,
        nonce=nonce,
        values=quote.values,
        required=SELECTION,
    )
    return [reason.code for reason in outcome.reasons]


def loaded(running: Swtpm) -> list[int]:
    """The transient objects and sessions in the TPM, as tpm2-tools see them."""
    program = shutil.which("tpm2_getcap")
    assert program is not None, "tpm2_getcap is missing: apt install tpm2-tools"
    found: list[int] = []
    for kind in ("handles-transient", "handles-loaded-session", "handles-saved-session"):
        listed = subprocess.run([program, "-T", running.tcti, kind], check=True, capture_output=True, text=True)
        found += [int(line.removeprefix("- "), 16) for line in listed.stdout.split("\n") if line]
    return found


@pytest.mark.parametrize("parent", EndorsementKind)
@pytest.mark.parametrize("kind", [ECDSA, RSASSA, RSAPSS], ids=lambda kind: kind.scheme.name)
def test_a_key_of_each_kind_is_made_kept_and_quotes(
    shared_swtpm: Swtpm, tmp_path: Path, kind: KeyKind, parent: EndorsementKind
) -> None:
    with Tpm(shared_swtpm.tcti) as tpm:
        key = tpm.create_ak(kind, parent)
    assert loaded(shared_swtpm) == []
    save_key(tmp_path / "ak", key)
    again = load_key(tmp_path / "ak")
    assert again == key
    public = parse_public(key.public)
    assert public.attributes == AK_ATTRIBUTES
    assert public.scheme is not None
    assert (public.scheme.scheme, public.scheme.hash) == (kind.scheme, SHA256)
    with Tpm(shared_swtpm.tcti, again) as tpm:
        tpm.extend(PcrIndex(10), {bank: bank.digest(kind.scheme.name.encode()) for bank in tpm.banks()})
        quote = tpm.quote(NONCE, SELECTION)
        assert quote.values == {bank: tpm.read(indexes, [bank])[bank] for bank, indexes in SELECTION.items()}
    assert loaded(shared_swtpm) == []
    assert codes(quote, name=key.name) == []


@pytest.fixture(scope="module")
def key(shared_swtpm: Swtpm) -> StoredKey:
    with Tpm(shared_swtpm.tcti) as tpm:
        return tpm.create_ak(ECDSA)


def test_wrong_parts_of_a_quote_are_told_apart(shared_swtpm: Swtpm, key: StoredKey) -> None:
    with Tpm(shared_swtpm.tcti, key) as tpm:
        quote = tpm.quote(NONCE, SELECTION)
        other = tpm.create_ak(ECDSA)
        narrow = tpm.quote(NONCE, {SHA256: (PcrIndex(10),)})
    assert codes(quote, name=key.name, nonce=NONCE[::-1]) == ["nonce_mismatch"]
    assert codes(quote, name=other.name) == ["ak_mismatch"]
    swapped = Quote(quote.attest, quote.signature, other.public, quote.values)
    assert codes(swapped, name=other.name) == ["signature_invalid"]
    assert codes(narrow, name=key.name) == ["selection_mismatch", "selection_mismatch"]
    flipped = quote.attest[:-1] + bytes([quote.attest[-1] ^ 1])
    changed = Quote(flipped, quote.signature, quote.ak, quote.values)
    assert codes(changed, name=key.name) == ["signature_invalid", "values_mismatch"]
    moved = {**quote.values, SHA1: {PcrIndex(10): bytes(19) + b"\x01"}}
    assert codes(Quote(quote.attest, quote.signature, quote.ak, moved), name=key.name) == ["values_mismatch"]


def test_a_key_that_is_not_restricted_is_no_attestation_key(shared_swtpm: Swtpm) -> None:
    tss = Tss(shared_swtpm.tcti)
    loose = create_ak(tss, ECDSA, attributes=AK_ATTRIBUTES & ~ObjectAttributes.RESTRICTED)
    tss.close()
    with Tpm(shared_swtpm.tcti, loose) as tpm:
        quote = tpm.quote(NONCE, SELECTION)
    assert codes(quote, name=loose.name) == ["ak_not_restricted"]


def test_the_reset_count_is_not_hidden_and_rises_by_one_for_a_reset(swtpm: Swtpm) -> None:
    with Tpm(swtpm.tcti) as tpm:
        key = tpm.create_ak(ECDSA)
    counts = []
    for _ in range(2):
        with Tpm(swtpm.tcti, key) as tpm:
            counts.append(parse_attest(tpm.quote(NONCE, SELECTION).attest).clock_info.reset_count)
        port = ["--tcp", f"127.0.0.1:{swtpm.port + 1}"]
        program = shutil.which("swtpm_ioctl")
        assert program is not None, "swtpm_ioctl is missing: apt install swtpm-tools"
        subprocess.run([program, *port, "-i"], check=True)
        startup = shutil.which("tpm2_startup")
        assert startup is not None, "tpm2_startup is missing: apt install tpm2-tools"
        subprocess.run([startup, "-T", swtpm.tcti, "-c"], check=True)
    assert counts[1] == counts[0] + 1
    assert counts[0] < 10


def test_fifty_quotes_leave_nothing_in_a_bare_tpm(shared_swtpm: Swtpm, key: StoredKey) -> None:
    for _ in range(25):
        with Tpm(shared_swtpm.tcti, key) as tpm:
            tpm.quote(NONCE, SELECTION)
    with Tpm(shared_swtpm.tcti, key) as tpm:
        quotes = [tpm.quote(bytes([number]) * 16, SELECTION) for number in range(25)]
    assert loaded(shared_swtpm) == []
    assert len({quote.attest for quote in quotes}) == 25


def test_errors_leave_nothing_in_a_bare_tpm_either(swtpm: Swtpm, key: StoredKey) -> None:
    for _ in range(8):
        with Tpm(swtpm.tcti, key) as tpm, pytest.raises(DeviceError, match="TPM2_Load of the attestation key"):
            tpm.quote(NONCE, SELECTION)
        with Tpm(swtpm.tcti) as tpm, pytest.raises(DeviceError, match="TPM2_EvictControl"):
            tpm.create_ak(ECDSA, persistent=0x81000000)
            tpm.create_ak(ECDSA, persistent=0x81000000)
    assert loaded(swtpm) == []


def test_a_wrong_authorisation_is_named_and_leaves_nothing(swtpm: Swtpm) -> None:
    program = shutil.which("tpm2_changeauth")
    assert program is not None, "tpm2_changeauth is missing: apt install tpm2-tools"
    for hierarchy in ("endorsement", "owner"):
        subprocess.run([program, "-T", swtpm.tcti, "-c", hierarchy, "secret"], check=True)
    with pytest.raises(UsageError, match="at most 64 bytes"):
        Tpm(swtpm.tcti, endorsement_auth=bytes(65))
    with Tpm(swtpm.tcti) as tpm, pytest.raises(DeviceError, match="authorisation value"):
        tpm.create_ak(ECDSA)
    with Tpm(swtpm.tcti, endorsement_auth=b"secret") as tpm:
        tpm.create_ak(ECDSA)
        with pytest.raises(DeviceError, match=r"TPM2_EvictControl.*authorisation value"):
            tpm.create_ak(ECDSA, persistent=HANDLE)
    with Tpm(swtpm.tcti, endorsement_auth=b"secret", owner_auth=b"secret") as tpm:
        key = tpm.create_ak(ECDSA, persistent=HANDLE)
    assert loaded(swtpm) == []
    with Tpm(swtpm.tcti, key) as tpm:
        assert codes(tpm.quote(NONCE, SELECTION), name=key.name) == []


@pytest.mark.parametrize("kind", [ECDSA, RSASSA], ids=lambda kind: kind.scheme.name)
def test_a_persistent_key_stays_in_the_tpm(swtpm: Swtpm, tmp_path: Path, kind: KeyKind) -> None:
    with Tpm(swtpm.tcti) as tpm:
        key = tpm.create_ak(kind, persistent=HANDLE)
        with pytest.raises(DeviceError, match="choose another"):
            tpm.create_ak(kind, persistent=HANDLE)
        with pytest.raises(UsageError, match="no persistent handle of the owner's"):
            tpm.create_ak(kind, persistent=0x80000000)
    save_key(tmp_path / "ak", key)
    assert sorted(path.name for path in (tmp_path / "ak").iterdir()) == ["ak.handle", "ak.pub"]
    again = load_key(tmp_path / "ak")
    assert again == StoredKey(key.public, handle=HANDLE)
    for _ in range(2):
        with Tpm(swtpm.tcti, again) as tpm:
            assert codes(tpm.quote(NONCE, SELECTION), name=key.name) == []
    assert loaded(swtpm) == []
    with Tpm(swtpm.tcti) as tpm:
        other = tpm.create_ak(kind)
    with (
        Tpm(swtpm.tcti, StoredKey(other.public, handle=HANDLE)) as tpm,
        pytest.raises(DeviceError, match="holds the key"),
    ):
        tpm.quote(NONCE, SELECTION)
    with Tpm(swtpm.tcti, StoredKey(key.public, handle=HANDLE + 1)) as tpm, pytest.raises(DeviceError):
        tpm.quote(NONCE, SELECTION)


def test_a_nonce_is_neither_cut_nor_padded(shared_swtpm: Swtpm, key: StoredKey) -> None:
    with Tpm(shared_swtpm.tcti, key) as tpm:
        assert tpm.max_nonce() == 66
        for size in (0, 1, 20, 64):
            nonce = bytes(range(size))
            assert parse_attest(tpm.quote(nonce, SELECTION).attest).extra_data == nonce
        longest = bytes(range(66))
        try:
            assert parse_attest(tpm.quote(longest, SELECTION).attest).extra_data == longest
        except UsageError as error:  # the TSS may have room for 64 bytes only
            assert "more than this version of the TSS takes" in str(error)
        for size in (67, 1000):
            with pytest.raises(UsageError, match=f"the nonce has {size} bytes, this TPM takes at most 66"):
                tpm.quote(bytes(size), SELECTION)


def test_what_makes_no_sense_is_refused(shared_swtpm: Swtpm, key: StoredKey) -> None:
    with Tpm(shared_swtpm.tcti) as tpm, pytest.raises(UsageError, match="imarium rot ak"):
        tpm.quote(NONCE, SELECTION)
    with Tpm(shared_swtpm.tcti, key) as tpm:
        with pytest.raises(UsageError, match="select at least one PCR"):
            tpm.quote(NONCE, {})
        with pytest.raises(UsageError, match="no PCR 24"):
            tpm.quote(NONCE, {SHA256: (PcrIndex(24),)})
    with (
        Tpm(shared_swtpm.tcti, StoredKey(key.public)) as tpm,
        pytest.raises(UsageError, match="this attestation key has no private part"),
    ):
        tpm.quote(NONCE, SELECTION)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_values_agree_with_the_quote_while_registers_change(
    shared_swtpm: Swtpm, key: StoredKey, monkeypatch: pytest.MonkeyPatch, before: bool, after: bool
) -> None:
    """PCR 10 is extended between the read and the quote, or after it, three times; then it rests."""
    plain = Tss.quote
    disturbances = 3

    def disturbed(self: Tss, handle: Handle, selection: bytes, nonce: bytes) -> tuple[bytes, bytes]:
        nonlocal disturbances
        disturb = disturbances > 0
        disturbances -= 1
        if before and disturb:
            tpm.extend(PcrIndex(10), EVENT)
        result = plain(self, handle, selection, nonce)
        if after and disturb:
            tpm.extend(PcrIndex(10), EVENT)
        return result

    monkeypatch.setattr(Tss, "quote", disturbed)
    with Tpm(shared_swtpm.tcti, key) as tpm:
        assert codes(tpm.quote(NONCE, SELECTION), name=key.name) == []
        disturbances = 1000
        if before and after:
            with pytest.raises(DeviceError, match="PCRs changed during each of"):
                tpm.quote(NONCE, SELECTION)


def test_tpm2_checkquote_accepts_a_quote(shared_swtpm: Swtpm, key: StoredKey, tmp_path: Path) -> None:
    program = shutil.which("tpm2_checkquote")
    assert program is not None, "tpm2_checkquote is missing: apt install tpm2-tools"
    with Tpm(shared_swtpm.tcti, key) as tpm:
        quote = tpm.quote(NONCE, SELECTION)
    parts = {"ak.pub": quote.ak, "quote.msg": quote.attest, "quote.sig": quote.signature}
    for name, content in parts.items():
        (tmp_path / name).write_bytes(content)

    def accepts(nonce: bytes) -> bool:
        arguments = ["-u", "ak.pub", "-m", "quote.msg", "-s", "quote.sig", "-q", nonce.hex()]
        finished = subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, check=False)
        return finished.returncode == 0

    assert accepts(NONCE)
    assert not accepts(NONCE[::-1])


def test_a_key_is_kept_for_its_owner_alone_and_never_overwritten(key: StoredKey, tmp_path: Path) -> None:
    directory = tmp_path / "ak"
    save_key(directory, key)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {
        "ak.pub": 0o600,
        "ak.priv": 0o600,
        "ak.parent": 0o600,
    }
    with pytest.raises(RefusedOperation, match="choose another"):
        save_key(directory, key)
    assert list(tmp_path.iterdir()) == [directory]
    (tmp_path / "empty").mkdir()
    save_key(tmp_path / "empty", key)
    assert load_key(tmp_path / "empty") == key
