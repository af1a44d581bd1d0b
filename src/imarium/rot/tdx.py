"""Intel TDX: the registers of a TD through tsm-mr, its quote through configfs-tsm.

A TD has MRTD and RTMR 0 to 3. Any of the four can anchor a list; RTMR 2, by default, is shared with the boot loader,
so a verifier replays the CC event log first. The quote goes with that log where firmware left one.
"""

from collections.abc import Collection
from pathlib import Path

from imarium.errors import DeviceError, MissingComponent, RefusedOperation, UsageError
from imarium.formats.eventlog import MAX_LOG_SIZE
from imarium.formats.registers import PcrIndex
from imarium.formats.tdx import REPORT_DATA_SIZE, RtmrIndex, parse_tdx_quote, tdx_boot_aggregate
from imarium.hashes import SHA384, HashAlgorithm
from imarium.registers import Provider
from imarium.rot.options import split_options
from imarium.rot.protocol import NativeQuote
from imarium.rot.register_root import RegisterRoot
from imarium.rot.tsm import measurements
from imarium.rot.tsm_report import DIRECTORY, request_report

__all__ = ["CCEL", "TdxRoot", "tdx_root"]

CCEL = Path("/sys/firmware/acpi/tables/data/CCEL")
_PROVIDER = "tdx_guest"
_AGGREGATED = ("rtmr0", "rtmr1", "rtmr2")


class TdxRoot(RegisterRoot):
    """A TD. ``provider`` has its registers, ``reports`` is configfs-tsm, ``ccel`` the area of the CC event log."""

    name = "tdx"
    kind = "tdx"

    def __init__(
        self,
        provider: Provider | None = None,
        default_register: str = "rtmr2",
        *,
        reports: Path = DIRECTORY,
        ccel: Path = CCEL,
    ) -> None:
        super().__init__(measurements(_PROVIDER) if provider is None else provider, default_register)
        self._reports = reports
        self._ccel = ccel

    def column(self) -> PcrIndex | None:
        """RTMR n is n, as in Intel's patches to the kernel."""
        number = self._number("rtmr")
        return None if number is None else PcrIndex(number)

    def init(self) -> None:
        """Look at the registers. Raises MissingComponent outside of a TD, or where its kernel does not show them."""
        try:
            super().init()
        except MissingComponent as error:
            advice = "inside a TD, load the tdx_guest module of Linux 6.16 or newer"
            raise MissingComponent(f"no TDX registers: {error}; {advice}") from error

    def boot_aggregate(self, bank: HashAlgorithm) -> bytes:
        """SHA-384 over MRTD and RTMR 0 to 2. Raises UsageError for another bank, which a TD has not."""
        if bank != SHA384:
            raise UsageError(f"the registers of a TD are of SHA-384, not of {bank.name}")
        values = {name: of[SHA384] for name, of in self.read(("mrtd", *_AGGREGATED)).items()}
        return tdx_boot_aggregate(
            values["mrtd"], {RtmrIndex(index): values[name] for index, name in enumerate(_AGGREGATED)}
        )

    def quote(self, nonce: bytes, registers: Collection[str] = ()) -> NativeQuote:
        """A TDX quote whose report data is ``nonce``: 64 bytes. It covers every register.

        ``beside`` has ``event_log``, the CC event log, where there is one. ``values`` are those in the quote.
        """
        if len(nonce) != REPORT_DATA_SIZE:
            raise UsageError(f"a TDX quote takes a nonce of {REPORT_DATA_SIZE} bytes, not {len(nonce)}; hash it first")
        self.read(registers)
        report = request_report(nonce, directory=self._reports)
        if report.provider != _PROVIDER:
            raise RefusedOperation(f"reports here come from {report.provider!r}, not {_PROVIDER}; use its driver")
        body = parse_tdx_quote(report.outblob).body
        if body.report_data != nonce:
            raise DeviceError("the TDX quote is over other report data than was asked for; try again")
        values = {f"rtmr{index}": {SHA384: value} for index, value in enumerate(body.td.rtmrs)}
        values["mrtd"] = {SHA384: body.td.mrtd}
        log = self._event_log()
        return NativeQuote(self.kind, report.outblob, {"event_log": log} if log else {}, values)

    def _event_log(self) -> bytes:
        """The area of the CC event log; empty where firmware left none."""
        try:
            with self._ccel.open("rb") as file:
                return file.read(MAX_LOG_SIZE + 1)  # a byte too many is for the parser to refuse
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise MissingComponent(f"{self._ccel}: {error.strerror}; run as root") from error


def tdx_root(argument: str) -> TdxRoot:
    """``[REGISTER][,registers=DIR][,reports=DIR][,ccel=FILE]``. Raises UsageError."""
    register, options = split_options("tdx", argument, ("registers", "reports", "ccel"))
    return TdxRoot(
        measurements(options.get("registers", _PROVIDER)),
        register or "rtmr2",
        reports=Path(options.get("reports", DIRECTORY)),
        ccel=Path(options.get("ccel", CCEL)),
    )
