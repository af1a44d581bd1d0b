"""A challenge: made without a TPM, opened by a real one (swtpm), and the whole enrolment by the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from tests.real.conftest import Swtpm, start_swtpm
from tests.real.measured import MIXED, Measured
from tests.unit.builders import binary
from tests.unit.cca_builders import NOW, certificate

from imarium.errors import DeviceError, MalformedInput, UsageError
from imarium.formats.tpm import Public, SignatureScheme, parse_public
from imarium.rot import EndorsementKey, EndorsementKind, KeyKind, Tpm, load_key
from imarium.verifier import CertifiedKey, check_endorsement, make_challenge
from imarium.verifier.signatures import verification_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INDEX = {EndorsementKind.RSA_2048: "0x1c00002", EndorsementKind.ECC_P256: "0x1c0000a"}
MAKER = ec.generate_private_key(ec.SECP384R1())
ROOT = certificate(MAKER, "A TPM maker", ca=True)


class Only:
    """What certificates are made of: a public key."""

    def __init__(self, public: Public) -> None:
        self._key = verification_key(public)

    def public_key(self) -> object:
        return self._key


def certified(public: Public, key: object = MAKER, purpose: str = "2.23.133.8.1") -> bytes:
    name = x509.SubjectAlternativeName([x509.DirectoryName(x509.Name([]))])
    use = x509.ExtendedKeyUsage([x509.ObjectIdentifier(purpose)])
    return certificate(Only(public), "An endorsement key", key, "A TPM maker", critical=(name,), extensions=(use,))


def chain(leaf: bytes, root: bytes = ROOT) -> CertifiedKey:
    return CertifiedKey(leaf, (), root, NOW)


def endorsement(swtpm: Swtpm, kind: EndorsementKind) -> EndorsementKey:
    with Tpm(swtpm.tcti) as tpm:
        return tpm.endorsement_key(kind)


@pytest.mark.parametrize("kind", EndorsementKind)
@pytest.mark.parametrize("parent", EndorsementKind)
@pytest.mark.parametrize("scheme", [SignatureScheme.ECDSA, SignatureScheme.RSASSA])
def test_a_tpm_opens_what_is_for_its_key_alone(
    shared_swtpm: Swtpm, kind: EndorsementKind, parent: EndorsementKind, scheme: SignatureScheme
) -> None:
    ek = parse_public(endorsement(shared_swtpm, kind).public)
    with Tpm(shared_swtpm.tcti) as tpm:
        key, other = (tpm.create_ak(KeyKind(scheme), parent) for _ in range(2))
        with pytest.raises(UsageError, match="imarium rot ak"):
            tpm.open_challenge(make_challenge(ek, parse_public(key.public)).data)
    challenge = make_challenge(ek, parse_public(key.public))
    with Tpm(shared_swtpm.tcti, key) as tpm:
        assert [tpm.open_challenge(challenge.data) for _ in range(2)] == [challenge.nonce] * 2
        for place in range(0, len(challenge.data), 7):
            broken = bytearray(challenge.data)
            broken[place] ^= 1
            with pytest.raises((DeviceError, MalformedInput)):
                tpm.open_challenge(bytes(broken))
        assert tpm.open_challenge(challenge.data) == challenge.nonce, "nothing is left behind in the TPM by a failure"
    with Tpm(shared_swtpm.tcti, other) as tpm, pytest.raises(DeviceError, match="another TPM or another key"):
        tpm.open_challenge(challenge.data)


def test_another_tpm_does_not_open_it(swtpm: Swtpm, shared_swtpm: Swtpm) -> None:
    ek = parse_public(endorsement(shared_swtpm, EndorsementKind.ECC_P256).public)
    with Tpm(swtpm.tcti) as tpm:
        key = tpm.create_ak(KeyKind(SignatureScheme.ECDSA))
    with Tpm(swtpm.tcti, key) as tpm, pytest.raises(DeviceError, match="another TPM"):
        tpm.open_challenge(make_challenge(ek, parse_public(key.public)).data)


def test_a_certificate_is_of_its_key_and_of_a_trusted_maker(shared_swtpm: Swtpm) -> None:
    keys = [parse_public(endorsement(shared_swtpm, kind).public) for kind in EndorsementKind]
    for key, other in (keys, keys[::-1]):
        assert check_endorsement(key, chain(certified(key))) == ()
        assert [r.code for r in check_endorsement(key, chain(certified(other)))] == ["ek_certificate_other"]
        stranger = ec.generate_private_key(ec.SECP384R1())
        forged = certified(key, stranger)
        assert [r.code for r in check_endorsement(key, chain(forged))] == ["ek_certificate_invalid"]
        assert [r.code for r in check_endorsement(key, chain(b""))] == ["ek_certificate_invalid"]
        server = certified(key, purpose="1.3.6.1.5.5.7.3.1")
        assert [r.code for r in check_endorsement(key, chain(server))] == ["ek_certificate_invalid"]


def imarium(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "imarium", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def store_certificate(swtpm: Swtpm, kind: EndorsementKind, content: bytes, path: Path) -> None:
    """Puts the certificate where a TPM's maker does."""
    program = shutil.which("tpm2")
    assert program is not None, "tpm2 is missing: apt install tpm2-tools"
    path.write_bytes(content)
    attributes = "ownerread|authread|ownerwrite|no_da"
    for command in (
        ["nvdefine", INDEX[kind], "-C", "o", "-s", str(len(content)), "-a", attributes],
        ["nvwrite", INDEX[kind], "-C", "o", "-i", str(path)],
    ):
        subprocess.run([program, *command, "-T", swtpm.tcti], check=True, capture_output=True)


@pytest.mark.parametrize("kind", EndorsementKind)
def test_a_machine_is_enrolled_by_its_makers_certificate(swtpm: Swtpm, tmp_path: Path, kind: EndorsementKind) -> None:
    machine = Measured.start(swtpm)
    machine.boot()
    machine.measure(MIXED)
    ek = parse_public(endorsement(swtpm, kind).public)
    store_certificate(swtpm, kind, certified(ek), tmp_path / "crt")
    (tmp_path / "root.crt").write_bytes(ROOT)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "binary_runtime_measurements").write_bytes(binary(machine.records))
    common = ("--store", tmp_path / "store", "--source", tmp_path / "lists")
    imarium("keep", "--once", "--method", "follow", *common)

    # The machine sends ak.pub, ek.pub and ek.crt.
    imarium("rot", "ak", tmp_path / "ak", "--tcti", swtpm.tcti)
    option = ["--key", "rsa"] if kind is EndorsementKind.RSA_2048 else []
    sent = json.loads(imarium("rot", "ek", *option, "-o", tmp_path / "ek", "--tcti", swtpm.tcti, "--json").stdout)
    assert (
        bytes.fromhex(sent["certificate"]) == (tmp_path / "ek" / "ek.crt").read_bytes() == certified_as_stored(tmp_path)
    )

    # The verifier makes a challenge for the TPM with this certificate.
    keys = ("--ak", tmp_path / "ak" / "ak.pub", "--ek", tmp_path / "ek" / "ek.pub", "-o", tmp_path / "challenge")
    maker = ("--ek-certificate", tmp_path / "ek" / "ek.crt", "--ek-root", tmp_path / "root.crt")
    at = ("--time", int(NOW.timestamp()))
    assert "ek_certificate_invalid" in imarium("challenge", *keys, *maker, status=1).stderr
    assert not (tmp_path / "challenge").exists()
    asked = json.loads(imarium("challenge", *keys, *maker, *at, "--json").stdout)
    assert asked["certified"]
    assert asked["ek_name"] == sent["name"]

    # The machine answers, and the verifier knows the AK.
    quoted = ("--ak", tmp_path / "ak", "--tcti", swtpm.tcti, "-o", tmp_path / "evidence")
    imarium("attest", "--challenge", tmp_path / "challenge", *quoted, *common)
    done = imarium("verify", tmp_path / "evidence", "--nonce", asked["nonce"], "--ak", tmp_path / "ak" / "ak.pub")
    assert done.stdout.startswith("pass: ")
    imarium("verify", tmp_path / "evidence", "--nonce", "00" * 32, "--ak", tmp_path / "ak" / "ak.pub", status=1)

    # Another key of the same machine cannot answer.
    imarium("rot", "ak", tmp_path / "other", "--tcti", swtpm.tcti)
    other = ("--ak", tmp_path / "other", "--tcti", swtpm.tcti, "-o", tmp_path / "no")
    refused = imarium("attest", "--challenge", tmp_path / "challenge", *other, *common, status=4)
    assert "another TPM or another key" in refused.stderr
    assert not (tmp_path / "no").exists()


@pytest.fixture
def manufactured(tmp_path: Path) -> Iterator[Swtpm]:
    """A TPM as it leaves its maker: swtpm_setup makes its endorsement keys, and swtpm_localca certifies them."""
    program = shutil.which("swtpm_setup")
    assert program is not None, "swtpm_setup is missing: apt install swtpm-tools"
    place = tmp_path / "maker"
    (place / "state").mkdir(parents=True)
    (place / "localca.conf").write_text(
        f"statedir = {place}\nsigningkey = {place}/key.pem\n"
        f"issuercert = {place}/issuer.pem\ncertserial = {place}/serial\n"
    )
    (place / "localca.options").write_text("--platform-manufacturer Some\n--platform-version 1\n--platform-model One\n")
    (place / "setup.conf").write_text(
        f"create_certs_tool = {shutil.which('swtpm_localca')}\n"
        f"create_certs_tool_config = {place}/localca.conf\ncreate_certs_tool_options = {place}/localca.options\n"
    )
    command = [program, "--tpm2", "--tpmstate", str(place / "state"), "--create-ek-cert", "--runas", "root"]
    done = subprocess.run(
        [*command, "--config", str(place / "setup.conf")], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    simulator, running = start_swtpm(place / "state")
    try:
        yield running
    finally:
        simulator.stop()


def test_a_manufactured_tpm_is_challenged_by_its_certificate(manufactured: Swtpm, tmp_path: Path) -> None:
    maker = tmp_path / "maker"
    imarium("rot", "ak", tmp_path / "ak", "--tcti", manufactured.tcti)
    imarium("rot", "ek", "--key", "rsa", "-o", tmp_path / "ek", "--tcti", manufactured.tcti)
    keys = ("--ak", tmp_path / "ak" / "ak.pub", "--ek", tmp_path / "ek" / "ek.pub", "-o", tmp_path / "challenge")
    chain = ("--ek-certificate", tmp_path / "ek" / "ek.crt", "--ek-root", maker / "swtpm-localca-rootca-cert.pem")
    assert "is not signed by" in imarium("challenge", *keys, *chain, status=1).stderr
    asked = imarium("challenge", *keys, *chain, "--ek-issuer", maker / "issuer.pem", "--json")
    nonce = bytes.fromhex(json.loads(asked.stdout)["nonce"])
    with Tpm(manufactured.tcti, load_key(tmp_path / "ak")) as tpm:
        assert tpm.open_challenge((tmp_path / "challenge").read_bytes()) == nonce


def certified_as_stored(path: Path) -> bytes:
    return (path / "crt").read_bytes()


def test_what_cannot_be_challenged(swtpm: Swtpm, tmp_path: Path) -> None:
    imarium("rot", "ak", tmp_path / "ak", "--tcti", swtpm.tcti)
    told = imarium("rot", "ek", "-o", tmp_path / "ek", "--tcti", swtpm.tcti)
    assert "has no certificate" in told.stdout
    assert not (tmp_path / "ek" / "ek.crt").exists()
    ak, ek, output = tmp_path / "ak" / "ak.pub", tmp_path / "ek" / "ek.pub", ("-o", tmp_path / "challenge")
    assert "no endorsement key" in imarium("challenge", "--ak", ak, "--ek", ak, *output, status=2).stderr
    assert "go together" in imarium("challenge", "--ak", ak, "--ek", ek, "--ek-root", ek, *output, status=2).stderr
    assert "(ek.pub)" in imarium("challenge", "--ak", ak, "--ek", "/dev/null", *output, status=3).stderr
    assert not (tmp_path / "challenge").exists()
    said = imarium("challenge", "--ak", ak, "--ek", ek, *output).stdout
    assert len(bytes.fromhex(said.strip())) == 32
