"""Commands to one TPM through the TPM Software Stack: bytes in, bytes out.

This is the only module that touches tpm2-pytss. The library is imported when a TPM is opened, so that the rest of
imarium runs without it; its errors become DeviceError here.
"""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NewType

from imarium import durable
from imarium.errors import DeviceError, MissingComponent, UsageError

__all__ = ["Handle", "Tss", "default_tcti"]

Handle = NewType("Handle", int)
"""The TSS's number for an object or a session in the TPM; it means nothing outside of its connection."""

_DEVICES = (Path("/dev/tpmrm0"), Path("/dev/tpm0"))
_TCTI_MODULES = ("device", "swtpm", "mssim", "tabrmd", "cmd", "pcap")
_MAX_DIGEST_PROPERTY = 0x120
"""TPM_PT_MAX_DIGEST."""

_MAX_AUTH = 64
"""TPM2B_AUTH: a TPM2B_DIGEST."""

_FIRST_NV_INDEX = 0x01000000
_HANDLES_AT_ONCE = 128
_NV_BLOCK = 512
"""Bytes read at once, which is no more than any TPM gives."""

_FORMAT_ONE = 0x80
_HINTS = {
    0x08E: "a hierarchy has an authorisation value: give it",
    0x0A2: "a hierarchy has an authorisation value: give it",
    0x100: "the TPM was not started: send it TPM2_Startup",
    0x14B: "the TPM's storage is full: evict what is not needed",
    0x14C: "something is stored at this handle already: choose another",
    0x902: "the TPM has no room for another object: flush what is loaded, or use /dev/tpmrm0",
    0x903: "the TPM has no room for another session: flush what is loaded, or use /dev/tpmrm0",
    0x921: "the TPM is in dictionary-attack lockout: wait, or clear it with tpm2_dictionarylockout",
}
"""What to do about a TPM_RC (Part 2, section 6.6.3), without the number of its handle, session or parameter."""


@cache
def _library() -> ModuleType:
    """tpm2-pytss. Its types are not usable for a type checker: nothing of it leaves this module."""
    # The TSS writes its log to standard error by default. Each error reaches the caller as an exception all the
    # same; someone who wants the log sets the variable.
    os.environ.setdefault("TSS2_LOG", "all+NONE")
    try:
        return importlib.import_module("tpm2_pytss")
    except ImportError as error:
        install = "pip install 'imarium[tpm]', and libtss2-dev on Debian"
        raise MissingComponent(f"the TPM driver needs tpm2-pytss ({error}): {install}") from error


def default_tcti() -> str:
    """The kernel's resource manager, or the bare device where a kernel has no resource manager.

    Raises MissingComponent where there is no TPM device.
    """
    for device in _DEVICES:
        if durable.is_there(device):
            return f"device:{device}"
    raise MissingComponent("no TPM: there is no /dev/tpmrm0; name one, such as swtpm:host=127.0.0.1,port=2321")


class Tss:
    """A connection to the TPM that ``tcti`` names, as tpm2-tools name it: ``MODULE:CONFIGURATION``.

    Structures go in and come out in their wire form. Every method raises DeviceError with the command, the TPM's
    reason and what to do about it; opening raises UsageError for a module nobody has, and MissingComponent where
    no TPM answers or the library is not installed.
    """

    def __init__(self, tcti: str) -> None:
        module, _, configuration = tcti.partition(":")
        if module not in _TCTI_MODULES:
            raise UsageError(f"unknown TCTI {tcti!r}; use device:/dev/tpmrm0 or swtpm:host=127.0.0.1,port=N")
        if module == "device":
            _check_device(Path(configuration or _DEVICES[0]))
        self._lib = _library()
        try:
            self._esapi: Any = self._lib.ESAPI(tcti)
        except self._lib.TSS2_Exception as error:
            raise MissingComponent(f"no TPM answers at {tcti}: {error}; check that it runs, and its address") from error

    def close(self) -> None:
        """Ends the connection."""
        self._esapi.close()

    @contextmanager
    def _command(self, command: str) -> Iterator[None]:
        try:
            yield
        except self._lib.TSS2_Exception as error:
            base = error.rc & (0xBF if error.rc & _FORMAT_ONE else 0xFFFF)
            hint = f"; {_HINTS[base]}" if base in _HINTS else ""
            raise DeviceError(f"{command}: {error} ({int(error.rc):#x}){hint}") from error

    @contextmanager
    def flushed(self, handle: Handle) -> Iterator[Handle]:
        """Flushes an object or a session from the TPM at the end, whatever happened."""
        try:
            yield handle
        except BaseException:
            with suppress(DeviceError):  # the first error says more
                self.flush(handle)
            raise
        self.flush(handle)

    def flush(self, handle: Handle) -> None:
        """TPM2_FlushContext."""
        with self._command("TPM2_FlushContext"):
            self._esapi.flush_context(handle)

    def forget(self, handle: Handle) -> None:
        """Drops the TSS's own record of a persistent object; the object stays in the TPM."""
        with self._command("Esys_TR_Close"):
            self._esapi.tr_close(handle)

    def set_authorisations(self, *, endorsement: bytes, owner: bytes) -> None:
        """The authorisation values of the hierarchies, for the commands that need them. Raises UsageError."""
        if max(len(endorsement), len(owner)) > _MAX_AUTH:
            raise UsageError(f"an authorisation value has at most {_MAX_AUTH} bytes; give the one that was set")
        with self._command("Esys_TR_SetAuth"):
            self._esapi.tr_set_auth(self._lib.ESYS_TR.ENDORSEMENT, endorsement)
            self._esapi.tr_set_auth(self._lib.ESYS_TR.OWNER, owner)

    def allocated_pcrs(self) -> dict[int, frozenset[int]]:
        """TPM2_GetCapability: the PCRs of each bank that has any, by TPM_ALG_ID, in the TPM's order."""
        with self._command("TPM2_GetCapability of the PCR banks"):
            _, capability = self._esapi.get_capability(self._lib.TPM2_CAP.PCRS, 0)
        found: dict[int, frozenset[int]] = {}
        for bank in capability.data.assignedPCR:
            bits = int.from_bytes(bytes(bank.pcrSelect)[: bank.sizeofSelect], "little")
            if bits:
                found[int(bank.hash)] = frozenset(index for index in range(bits.bit_length()) if bits >> index & 1)
        return found

    def largest_digest(self) -> int:
        """TPM2_GetCapability: the size, in bytes, of the largest digest the TPM makes."""
        with self._command("TPM2_GetCapability of the largest digest"):
            _, capability = self._esapi.get_capability(self._lib.TPM2_CAP.TPM_PROPERTIES, _MAX_DIGEST_PROPERTY)
        found = {int(item.property): int(item.value) for item in capability.data.tpmProperties}
        if _MAX_DIGEST_PROPERTY not in found:
            raise DeviceError("TPM2_GetCapability: the TPM does not tell the size of its largest digest")
        return found[_MAX_DIGEST_PROPERTY]

    def pcr_read(self, selection: bytes) -> tuple[int, bytes, list[bytes]]:
        """TPM2_PCR_Read: the update counter, the selection (TPML_PCR_SELECTION) that was read, and its values."""
        request, _ = self._lib.types.TPML_PCR_SELECTION.unmarshal(selection)
        with self._command("TPM2_PCR_Read"):
            counter, returned, digests = self._esapi.pcr_read(request)
        return int(counter), bytes(returned.marshal()), [bytes(digest) for digest in digests]

    def pcr_extend(self, index: int, digests: bytes) -> None:
        """TPM2_PCR_Extend with a TPML_DIGEST_VALUES."""
        values, _ = self._lib.types.TPML_DIGEST_VALUES.unmarshal(digests)
        with self._command(f"TPM2_PCR_Extend of PCR {index}"):
            self._esapi.pcr_extend(self._lib.ESYS_TR(index), values)

    def quote(self, key: Handle, selection: bytes, qualifying_data: bytes) -> tuple[bytes, bytes]:
        """TPM2_Quote: TPMS_ATTEST and TPMT_SIGNATURE. Raises UsageError for data the TSS has no room for."""
        request, _ = self._lib.types.TPML_PCR_SELECTION.unmarshal(selection)
        try:
            data = self._lib.types.TPM2B_DATA(qualifying_data)
        except IndexError as error:
            size = len(qualifying_data)
            raise UsageError(f"the nonce has {size} bytes, more than this version of the TSS takes") from error
        with self._command("TPM2_Quote"):
            attest, signature = self._esapi.quote(key, request, data)
        return bytes(attest), bytes(signature.marshal())

    def create_endorsement_key(self, template: bytes) -> tuple[Handle, bytes]:
        """TPM2_CreatePrimary in the endorsement hierarchy: the key, which the caller flushes, and its TPM2B_PUBLIC."""
        types = self._lib.types
        requested, _ = types.TPM2B_PUBLIC.unmarshal(template)
        with self._command("TPM2_CreatePrimary of the endorsement key"):
            handle, public, *_ = self._esapi.create_primary(
                types.TPM2B_SENSITIVE_CREATE(), requested, self._lib.ESYS_TR.ENDORSEMENT
            )
        return Handle(handle), bytes(public.marshal())

    @contextmanager
    def endorsement_session(self) -> Iterator[Handle]:
        """A policy session that satisfies the endorsement key's policy once (PolicySecret)."""
        none = self._lib.ESYS_TR.NONE
        symmetric = self._lib.types.TPMT_SYM_DEF(algorithm=self._lib.TPM2_ALG.NULL)
        with self._command("TPM2_StartAuthSession"):
            session = self._esapi.start_auth_session(
                none, none, self._lib.TPM2_SE.POLICY, symmetric, self._lib.TPM2_ALG.SHA256
            )
        with self.flushed(Handle(session)):
            with self._command("TPM2_PolicySecret of the endorsement hierarchy"):
                # without this the TPM flushes the session itself after a command that succeeds, but only then
                self._esapi.trsess_set_attributes(session, self._lib.TPMA_SESSION.CONTINUESESSION)
                self._esapi.policy_secret(self._lib.ESYS_TR.ENDORSEMENT, session, expiration=0)
            yield Handle(session)

    def create(self, parent: Handle, session: Handle, template: bytes) -> tuple[bytes, bytes]:
        """TPM2_Create: TPM2B_PRIVATE and TPM2B_PUBLIC of a new key."""
        types = self._lib.types
        requested, _ = types.TPM2B_PUBLIC.unmarshal(template)
        with self._command("TPM2_Create of the attestation key"):
            private, public, *_ = self._esapi.create(
                parent, types.TPM2B_SENSITIVE_CREATE(), requested, session1=session
            )
        return bytes(private.marshal()), bytes(public.marshal())

    def load(self, parent: Handle, session: Handle, private: bytes, public: bytes) -> Handle:
        """TPM2_Load; the caller flushes it."""
        types = self._lib.types
        with self._command("TPM2_Load of the attestation key, which may be another TPM's"):
            private_area, _ = types.TPM2B_PRIVATE.unmarshal(private)
            public_area, _ = types.TPM2B_PUBLIC.unmarshal(public)
            return Handle(self._esapi.load(parent, private_area, public_area, session1=session))

    def activate_credential(self, key: Handle, parent: Handle, session: Handle, blob: bytes, secret: bytes) -> bytes:
        """TPM2_ActivateCredential: what the credential for ``key`` holds. ``blob`` and ``secret`` are without sizes."""
        types = self._lib.types
        with self._command("TPM2_ActivateCredential of a challenge, which may be for another TPM or another key"):
            return bytes(
                self._esapi.activate_credential(
                    key,
                    parent,
                    types.TPM2B_ID_OBJECT(credential=blob),
                    types.TPM2B_ENCRYPTED_SECRET(secret=secret),
                    session2=session,
                )
            )

    def nv_read(self, index: int) -> bytes | None:
        """TPM2_NV_Read of all of an index that anyone may read; None where there is none."""
        if index not in self._nv_indexes():
            return None
        with self._command(f"TPM2_NV_Read of {index:#x}"):
            handle = self._esapi.tr_from_tpmpublic(index)
            try:
                public, _ = self._esapi.nv_read_public(handle)
                size = int(public.nvPublic.dataSize)
                parts = [
                    bytes(self._esapi.nv_read(handle, min(_NV_BLOCK, size - at), at, auth_handle=handle))
                    for at in range(0, size, _NV_BLOCK)
                ]
            finally:
                self._esapi.tr_close(handle)
        return b"".join(parts)

    def _nv_indexes(self) -> frozenset[int]:
        """TPM2_GetCapability: the NV indexes that are defined."""
        first, found = _FIRST_NV_INDEX, set[int]()
        more = True
        while more:
            with self._command("TPM2_GetCapability of the NV indexes"):
                more, capability = self._esapi.get_capability(self._lib.TPM2_CAP.HANDLES, first, _HANDLES_AT_ONCE)
            handles = [int(handle) for handle in capability.data.handles]
            found.update(handles)
            more, first = bool(more and handles), max(handles, default=first) + 1
        return frozenset(found)

    def find(self, persistent: int) -> tuple[Handle, bytes]:
        """The persistent object at this TPM handle, and its Name; the caller forgets it."""
        with self._command(f"TPM2_ReadPublic of {persistent:#x}"):
            handle = self._esapi.tr_from_tpmpublic(persistent)
            return Handle(handle), bytes(self._esapi.tr_get_name(handle))

    def persist(self, loaded: Handle, persistent: int) -> None:
        """TPM2_EvictControl: stores a loaded object under a persistent TPM handle, by the owner's authority."""
        with self._command(f"TPM2_EvictControl to {persistent:#x}"):
            handle = self._esapi.evict_control(self._lib.ESYS_TR.OWNER, loaded, persistent)
        self.forget(Handle(handle))


def _check_device(device: Path) -> None:
    """The TSS says "IO failure" for each of these."""
    if not durable.is_there(device):
        raise MissingComponent(f"no TPM: there is no {device}; enable it in the firmware and load its kernel module")
    if not os.access(device, os.R_OK | os.W_OK):
        raise MissingComponent(f"no permission for {device}: run as root or as a member of its group")
