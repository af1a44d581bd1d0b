"""A TD as the root of trust: its quote, Intel's collateral, and what firmware left in the register. ``docs/tdx.md``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from imarium.errors import ImariumError, UsageError
from imarium.formats.eventlog import CC_LOG, parse_event_log, replay_events, rtmr_values
from imarium.formats.registers import PcrIndex
from imarium.formats.report_data import report_data
from imarium.formats.roots import TdxPart
from imarium.formats.tdx import IMA_RTMR, REGISTER_SIZE, RTMRS, RtmrIndex, TdInfo, tdx_boot_aggregate
from imarium.hashes import SHA384, HashAlgorithm
from imarium.verifier.attested import Attested, ExpectedAggregate, Life, Request
from imarium.verifier.reason import Reason
from imarium.verifier.tdx import UP_TO_DATE, check_tdx_quote

__all__ = ["TdxTrust", "check_tdx"]

_FIRMWARE = RTMRS[:IMA_RTMR]
"""RTMR[0] and RTMR[1]: nothing but firmware and boot loader extends them, and all they do is in the event log."""


def _ima_column() -> dict[PcrIndex, RtmrIndex]:
    return {PcrIndex(IMA_RTMR): IMA_RTMR}


@dataclass(frozen=True, slots=True)
class TdxTrust:
    """What is trusted and accepted of a TD.

    ``collateral`` is Intel's, as JSON in the form of dcap-qvl, ``now`` the time in seconds of Unix time, ``root_ca`` a
    certificate in DER (None is Intel's production root), ``accepted`` are TCB statuses by Intel's names.

    ``columns`` says which RTMR the records with a number in the list's register column went into; the list accounts
    for each RTMR it names. ``initial`` has the values of these before the list's first record, 48 bytes each; for
    those it does not name, the event log's replay is believed, or zero without one. ``bridged`` says that a bridge
    extended a list whose boot_aggregate is not over the TD's registers: it is not compared.

    ``measurements`` are the MRTDs, 48 bytes each, of what may run; with none, a TD of anybody's on a genuine platform
    passes.
    """

    collateral: str
    now: int
    root_ca: bytes | None = None
    accepted: frozenset[str] = UP_TO_DATE
    columns: Mapping[PcrIndex, RtmrIndex] = field(default_factory=_ima_column)
    initial: Mapping[RtmrIndex, bytes] = field(default_factory=dict)
    bridged: bool = False
    measurements: frozenset[bytes] = frozenset()

    def __post_init__(self) -> None:
        """Raises UsageError for a register a TD has not, and a value of another size."""
        if any(len(value) != REGISTER_SIZE for value in self.measurements):
            raise UsageError(f"the initial measurement of a TD (MRTD) has {REGISTER_SIZE} bytes")
        for rtmr in (*self.columns.values(), *self.initial):
            if rtmr not in RTMRS:
                raise UsageError(f"a TD has RTMR 0 to {len(RTMRS) - 1}, not {rtmr}")
        if not self.columns:
            raise UsageError("name the RTMR that the list was extended into")
        if any(len(value) != REGISTER_SIZE for value in self.initial.values()):
            raise UsageError(f"the initial value of an RTMR has {REGISTER_SIZE} bytes")


def check_tdx(root: TdxPart, trust: TdxTrust, request: Request) -> Attested | tuple[Reason, ...]:
    """The steps of :mod:`imarium.verifier.tdx`, over the SHA-512 digest of the nonce; then the event log.

    Raises MissingComponent without dcap-qvl, and UsageError for a time or a root that is none.
    """
    check = check_tdx_quote(
        root.quote,
        nonce=report_data(request.nonce),
        collateral=trust.collateral,
        now=trust.now,
        root_ca=trust.root_ca,
        accepted=trust.accepted,
    )
    if not check.good or check.facts is None or check.quote is None:
        return check.reasons
    if trust.measurements and check.facts.mrtd not in trust.measurements:
        return (Reason("measurement_unknown", f"the TD's MRTD {check.facts.mrtd.hex()} is not a known one"),)
    registers = check.facts.registers
    before = _before_the_list(root, trust, registers)
    if isinstance(before, Reason):
        return (before,)
    used = frozenset(trust.columns.values())
    return Attested(
        values=_numbered(registers),
        required=frozenset(map(_number, used)),
        life=_life(root, check.quote.body.td),
        aggregate=partial(_aggregate, None if trust.bridged else check.facts.mrtd, {**registers, **before}),
        columns={column: _number(rtmr) for column, rtmr in trust.columns.items()},
        initial=_numbered({rtmr: before[rtmr] for rtmr in used}),
    )


def _number(rtmr: RtmrIndex) -> PcrIndex:
    """The number by which a list's register column names an RTMR where IMA itself extends it."""
    return PcrIndex(rtmr)


def _numbered(values: Mapping[RtmrIndex, bytes]) -> dict[PcrIndex, dict[HashAlgorithm, bytes]]:
    return {_number(rtmr): {SHA384: value} for rtmr, value in values.items()}


def _before_the_list(
    root: TdxPart, trust: TdxTrust, attested: Mapping[RtmrIndex, bytes]
) -> dict[RtmrIndex, bytes] | Reason:
    """The values, before the list's first record, of the registers it went into."""
    used = set(trust.columns.values())
    values = {rtmr: bytes(REGISTER_SIZE) for rtmr in used}
    if root.event_log is not None:
        try:
            log = parse_event_log(root.event_log, CC_LOG)
            logged = rtmr_values(replay_events(log, (SHA384,)))
        except ImariumError as error:
            return Reason("event_log_malformed", str(error))
        for rtmr in _FIRMWARE:
            if rtmr not in used and logged[rtmr] != attested[rtmr]:
                detail = f"RTMR[{rtmr}] is {attested[rtmr].hex()}, the event log leads to {logged[rtmr].hex()}"
                return Reason("event_log_mismatch", detail)
        for rtmr in used & trust.initial.keys():
            if logged[rtmr] != trust.initial[rtmr]:
                detail = f"the event log leads RTMR[{rtmr}] to {logged[rtmr].hex()}, given is another initial value"
                return Reason("event_log_mismatch", detail)
        values |= {rtmr: logged[rtmr] for rtmr in used}
    return values | {rtmr: trust.initial[rtmr] for rtmr in used & trust.initial.keys()}


def _aggregate(
    mrtd: bytes | None, registers: Mapping[RtmrIndex, bytes], bank: HashAlgorithm
) -> ExpectedAggregate | None:
    """In SHA-384 alone. ``mrtd`` is None where boot_aggregate is not over the TD's registers."""
    if mrtd is None or bank != SHA384:
        return None
    digest = tdx_boot_aggregate(mrtd, registers)
    return ExpectedAggregate(digest, f"MRTD and RTMR[0] to RTMR[2] before the list hash to {digest.hex()}")


def _life(root: TdxPart, td: TdInfo) -> Life:
    """A TD as it was built: a quote tells neither one TD of the same build from another, nor one start of it."""
    fixed = int(td.attributes).to_bytes(8, "little") + td.xfam.to_bytes(8, "little")
    fixed += td.mrtd + td.mr_config_id + td.mr_owner + td.mr_owner_config
    stranger = Reason("state_other_root", "the state is of a TD built another way; verify this one with its own state")
    return Life(root.kind, SHA384.digest(fixed), 0, 0, stranger)
