"""TDREPORT_STRUCT: what the TDX module gives a TD about itself. Intel TDX Module ABI specification.

Its MAC can be checked by the CPU that made it and by nobody else: a TDREPORT proves nothing to a remote verifier.
"""

import hmac
from dataclasses import dataclass

from imarium.formats.tdx.body import REPORT_DATA_SIZE, TdInfo, read_td_info
from imarium.formats.tdx.cursor import LittleEndianCursor
from imarium.hashes import SHA384

__all__ = ["TD_REPORT_SIZE", "TdReport", "parse_td_report"]

TD_REPORT_SIZE = 1024
"""A TDREPORT is always this many bytes."""

_TDX_TYPE = 0x81
_TCB_INFO = slice(256, 495)
_TD_INFO = slice(512, 1024)


@dataclass(frozen=True, slots=True)
class TdReport:
    """TDREPORT_STRUCT.

    ``version`` is that of REPORTTYPE: 0, or 1 where a service TD was bound (then ``service_td_hash`` is not zero).
    ``hashes_agree`` says whether the two digests over the report's parts are right; a cut or mixed report fails
    that, a forged one need not.
    """

    version: int
    cpu_svn: bytes
    report_data: bytes
    mac: bytes
    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: int
    td: TdInfo
    service_td_hash: bytes
    hashes_agree: bool


def parse_td_report(data: bytes) -> TdReport:
    """The TDREPORT that ``data`` is, to the last byte. Raises MalformedInput."""
    cursor = LittleEndianCursor(data, "TDREPORT")
    if len(data) != TD_REPORT_SIZE:
        raise cursor.fail(f"{TD_REPORT_SIZE} bytes", f"{len(data)}")
    kind, subtype, version, _ = cursor.take(4, "REPORTTYPE")
    if kind != _TDX_TYPE or subtype:
        raise cursor.fail(f"a TDX report, type {_TDX_TYPE:#x} subtype 0", f"type {kind:#x} subtype {subtype}", at=0)
    cursor.take(12, "reserved bytes")
    cpu_svn = cursor.take(16, "CPUSVN")
    tcb_info_hash, td_info_hash = cursor.take(48, "TEE_TCB_INFO_HASH"), cursor.take(48, "TEE_INFO_HASH")
    report_data = cursor.take(REPORT_DATA_SIZE, "REPORTDATA")
    cursor.take(32, "reserved bytes")
    mac = cursor.take(32, "MAC")
    cursor.take(8, "VALID")
    tee_tcb_svn = cursor.take(16, "TEE_TCB_SVN")
    mr_seam, mr_signer_seam = cursor.take(48, "MRSEAM"), cursor.take(48, "MRSIGNERSEAM")
    seam_attributes = cursor.u64("SEAMATTRIBUTES")
    cursor.offset = _TD_INFO.start
    td = read_td_info(cursor)
    service_td_hash = cursor.take(48, "SERVTD_HASH")
    agree = hmac.compare_digest(SHA384.digest(data[_TCB_INFO]), tcb_info_hash)
    agree &= hmac.compare_digest(SHA384.digest(data[_TD_INFO]), td_info_hash)
    return TdReport(
        version=version,
        cpu_svn=cpu_svn,
        report_data=report_data,
        mac=mac,
        tee_tcb_svn=tee_tcb_svn,
        mr_seam=mr_seam,
        mr_signer_seam=mr_signer_seam,
        seam_attributes=seam_attributes,
        td=td,
        service_td_hash=service_td_hash,
        hashes_agree=agree,
    )
