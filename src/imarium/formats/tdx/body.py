"""What a quote and a TDREPORT say of a TD.

Intel TDX DCAP Quoting Library API, appendix 3 (the quote's body); Intel TDX Module ABI specification (TDREPORT_STRUCT,
ATTRIBUTES). Parsing gives claims.
"""

import enum
from dataclasses import dataclass

from imarium.formats.tdx.cursor import LittleEndianCursor
from imarium.formats.tdx.registers import REGISTER_SIZE, RTMRS, RtmrIndex

__all__ = ["REPORT_DATA_SIZE", "TdAttributes", "TdBody", "TdInfo", "read_quote_body", "read_td_info"]

REPORT_DATA_SIZE = 64
"""REPORTDATA: what the TD had bound to its report, such as a verifier's nonce."""

_UNTRUSTED = 0xFF
"""The TUD group of ATTRIBUTES: a TD with any of these bits is open to its host."""


class TdAttributes(enum.IntFlag):
    """ATTRIBUTES of a TD. Other bits are kept as they are."""

    DEBUG = 1 << 0
    SEPT_VE_DISABLE = 1 << 28
    MIGRATABLE = 1 << 29
    PKS = 1 << 30
    KEY_LOCKER = 1 << 31
    PERFMON = 1 << 63

    @property
    def debuggable(self) -> bool:
        """Whether the host can look into the TD, or change it: a bit of the TUD group is set."""
        return bool(int(self) & _UNTRUSTED)


@dataclass(frozen=True, slots=True)
class TdInfo:
    """The TD itself: TDINFO without its reserved part. ``rtmrs`` are RTMR 0 to 3 in order."""

    attributes: TdAttributes
    xfam: int
    mrtd: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmrs: tuple[bytes, ...]

    @property
    def registers(self) -> dict[RtmrIndex, bytes]:
        """The values of the run-time registers, 48 bytes each."""
        return dict(zip(RTMRS, self.rtmrs, strict=True))


@dataclass(frozen=True, slots=True)
class TdBody:
    """The body of a quote: the TD, and the TDX module (SEAM) under it.

    ``mr_signer_seam`` is zero for a module signed by Intel. ``tee_tcb_svn2`` and ``mr_service_td`` are None in a body
    of TDX 1.0.
    """

    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: int
    td: TdInfo
    report_data: bytes
    tee_tcb_svn2: bytes | None
    mr_service_td: bytes | None


def read_td_info(cursor: LittleEndianCursor) -> TdInfo:
    """ATTRIBUTES up to RTMR 3: 400 bytes. Raises MalformedInput."""
    attributes = TdAttributes(cursor.u64("ATTRIBUTES"))
    xfam = cursor.u64("XFAM")
    mrtd, config_id, owner, owner_config = (
        cursor.take(REGISTER_SIZE, name) for name in ("MRTD", "MRCONFIGID", "MROWNER", "MROWNERCONFIG")
    )
    rtmrs = tuple(cursor.take(REGISTER_SIZE, f"RTMR {index}") for index in RTMRS)
    return TdInfo(attributes, xfam, mrtd, config_id, owner, owner_config, rtmrs)


def read_quote_body(cursor: LittleEndianCursor, *, tdx_1_5: bool) -> TdBody:
    """A TD quote body of TDX 1.0 (584 bytes) or 1.5 (648 bytes). Raises MalformedInput."""
    tee_tcb_svn = cursor.take(16, "TEE_TCB_SVN")
    mr_seam = cursor.take(48, "MRSEAM")
    mr_signer_seam = cursor.take(48, "MRSIGNERSEAM")
    seam_attributes = cursor.u64("SEAMATTRIBUTES")
    td = read_td_info(cursor)
    report_data = cursor.take(REPORT_DATA_SIZE, "REPORTDATA")
    svn2 = cursor.take(16, "TEE_TCB_SVN_2") if tdx_1_5 else None
    service = cursor.take(48, "MRSERVICETD") if tdx_1_5 else None
    return TdBody(tee_tcb_svn, mr_seam, mr_signer_seam, seam_attributes, td, report_data, svn2, service)
