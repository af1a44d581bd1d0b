"""Intel TDX structures: bytes to values, bounded and exact, with no device and no I/O.

Quotes, TD reports, and the registers of a TD. What is left over, cut short, over its limit or unknown raises
MalformedInput. Parsed values are claims: only :mod:`imarium.verifier.tdx` says whether to believe them.
"""

from imarium.formats.tdx.body import REPORT_DATA_SIZE, TdAttributes, TdBody, TdInfo
from imarium.formats.tdx.quote import MAX_QUOTE_SIZE, QeReport, TdxQuote, parse_tdx_quote
from imarium.formats.tdx.registers import (
    IMA_RTMR,
    MRTD_EVENT_INDEX,
    REGISTER_SIZE,
    RTMRS,
    CcEventIndex,
    RtmrIndex,
    event_index,
    rtmr_index,
    tdx_boot_aggregate,
)
from imarium.formats.tdx.report import TD_REPORT_SIZE, TdReport, parse_td_report

__all__ = [
    "IMA_RTMR",
    "MAX_QUOTE_SIZE",
    "MRTD_EVENT_INDEX",
    "REGISTER_SIZE",
    "REPORT_DATA_SIZE",
    "RTMRS",
    "TD_REPORT_SIZE",
    "CcEventIndex",
    "QeReport",
    "RtmrIndex",
    "TdAttributes",
    "TdBody",
    "TdInfo",
    "TdReport",
    "TdxQuote",
    "event_index",
    "parse_td_report",
    "parse_tdx_quote",
    "rtmr_index",
    "tdx_boot_aggregate",
]
