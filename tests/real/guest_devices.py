"""What stands for the hardware behind a simulated guest: it signs as the real one does, with keys of its own.

Each device leaves what a verifier has to trust in files beside STATE, and makes the blobs of a report. Its registers
are those of the simulator, so a quote has what was extended through the driver.
"""

import errno
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives import serialization
from tests.unit import cca_builders, snp_builders, snp_reports, tdx_builders

from imarium.formats.snp import VTPM_SERVICE, svsm_report_data
from imarium.hashes import SHA256
from imarium.registers import DEFAULT_REGISTERS, Access, Register

REALM_REGISTERS = (
    Register("rim", SHA256.size, SHA256, Access.R),
    *(Register(f"rem{index}", SHA256.size, SHA256, Access.RTMR | Access.W) for index in range(4)),
)

Read = Callable[[str], bytes]
"""The value of a register by its name."""


class Device(Protocol):
    """A device; making it writes what a verifier trusts beside ``state``."""

    def blob(self, name: str, request: Mapping[str, object]) -> bytes:
        """An attribute of a report. Raises OSError."""


class Td:
    """A TD: recorded quotes with other contents, signed by a platform of its own. STATE.collateral and STATE.root."""

    def __init__(self, state: Path, read: Read) -> None:
        self._read = read
        self._platform = tdx_builders.Platform()
        state.with_suffix(".collateral").write_text(self._platform.collateral())
        state.with_suffix(".root").write_bytes(self._platform.root_der)

    def blob(self, name: str, request: Mapping[str, object]) -> bytes:
        if name != "outblob":
            raise OSError(errno.EOPNOTSUPP, "")
        body = {184: self._read("mrtd"), 568: _inblob(request)}
        return self._platform.quote(body=body | {376 + 48 * n: self._read(f"rtmr{n}") for n in range(4)})


class Realm:
    """A realm: tokens signed by a platform key of its own, STATE.platform; if there is STATE.token, that instead."""

    def __init__(self, state: Path, read: Read) -> None:
        self._read = read
        self._recorded = state.with_suffix(".token")
        self._maker = cca_builders.Maker()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        public = self._maker.platform_key.public_key().public_bytes(serialization.Encoding.PEM, form)
        state.with_suffix(".platform").write_bytes(public)

    def blob(self, name: str, request: Mapping[str, object]) -> bytes:
        if name != "outblob":
            raise OSError(errno.EOPNOTSUPP, "")
        if self._recorded.exists():
            return self._recorded.read_bytes()
        rems = [self._read(f"rem{index}") for index in range(4)]
        self._maker.realm |= {10: _inblob(request), 44238: self._read("rim"), 44239: rems}
        return self._maker.token()


class Svsm:
    """A guest of SEV-SNP with an SVSM. STATE.manifest is the vTPM's endorsement key; STATE.ark, .ask and .vcek.

    STATE.bare, where it is, has the host give no certificates; STATE.cloud has a provider's key (VLEK) sign.
    """

    def __init__(self, state: Path, read: Read) -> None:
        del read
        self._state = state
        chain = snp_builders.VCEK_CHAIN
        vlek = snp_builders.VLEK_CHAIN.leaf
        self._tables = [
            snp_reports.certificate_table(**leaf, ask=chain.intermediates[0], ark=chain.root)
            for leaf in ({"vcek": chain.leaf}, {"vlek": vlek})
        ]
        trusted = {"ark": chain.root, "ask": chain.intermediates[0], "vcek": chain.leaf, "vlek": vlek}
        for name, data in trusted.items():
            state.with_suffix(f".{name}").write_bytes(data)

    def blob(self, name: str, request: Mapping[str, object]) -> bytes:
        wanted = {"service_provider": "svsm", "service_guid": str(VTPM_SERVICE), "service_manifest_version": "0"}
        if any(request.get(attribute) != value for attribute, value in wanted.items()):
            raise OSError(errno.EINVAL, "")
        manifest = self._state.with_suffix(".manifest").read_bytes()
        cloud = self._state.with_suffix(".cloud").exists()
        if name == "manifestblob":
            return manifest
        if name == "auxblob":
            return b"" if self._state.with_suffix(".bare").exists() else self._tables[cloud]
        chip = bytes(64) if cloud else snp_reports.CHIP
        data = svsm_report_data(_inblob(request), manifest)
        return snp_reports.Report(data=data, key=int(cloud), chip=chip).bytes()


def _inblob(request: Mapping[str, object]) -> bytes:
    data = request["inblob"]
    assert isinstance(data, bytes)
    return data


DEVICES: Mapping[str, tuple[type[Td] | type[Realm] | type[Svsm], tuple[Register, ...]]] = {
    "tdx_guest": (Td, DEFAULT_REGISTERS),
    "arm_cca_guest": (Realm, REALM_REGISTERS),
    "sev_guest": (Svsm, DEFAULT_REGISTERS),
}
"""The devices by the kernel's name of their provider, and their registers."""
