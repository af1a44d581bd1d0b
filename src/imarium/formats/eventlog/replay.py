"""What an event log says its registers hold.

A register's value is the chain of the digests extended into it. A match with a register that was attested makes
facts of the events' digests, not of their data: see ``Event.hashes_data``.
"""

from collections.abc import Collection, Mapping

from imarium.errors import MalformedInput, UsageError
from imarium.formats.eventlog.kinds import Index
from imarium.formats.eventlog.log import Event, EventLog
from imarium.formats.tdx.registers import REGISTER_SIZE, RTMRS, CcEventIndex, RtmrIndex, event_index
from imarium.hashes import SHA384, HashAlgorithm

__all__ = ["replay_events", "rtmr_values"]

_LOCALITY = b"StartupLocality\0"
_LOCALITIES = (0, 3, 4)
"""TPM2_Startup from locality 0 or 3; 4 stands for a hardware-started CRTM (H-CRTM)."""


def replay_events(
    log: EventLog[Index], banks: Collection[HashAlgorithm] | None = None
) -> dict[Index, dict[HashAlgorithm, bytes]]:
    """The values of the registers that ``log`` extends, by register and bank.

    Registers start at zero, which for PCR 17 to 22 means after a dynamic launch, and PCR 0 at the startup locality
    where the log tells it. ``banks`` are by default those of the log that this machine can compute. Raises
    MalformedInput for a broken log, UsageError for a bank the log lacks, and MissingComponent for one that was asked
    for and cannot be computed.
    """
    if banks is None:
        banks = [bank for bank in log.banks if bank.computable]
    for bank in banks:
        if bank not in log.banks:
            raise UsageError(f"the {log.kind.name} has no {bank.name} digests; it has {_names(log.banks)}")
    values: dict[Index, dict[HashAlgorithm, bytes]] = {}
    for event in log:
        if event.extends:
            value = values.setdefault(event.register, {bank: bytes(bank.size) for bank in banks})
            for bank in banks:
                value[bank] = bank.digest(value[bank] + event.digests[bank.tcg_id])
        elif event.register == log.kind.started and event.data.startswith(_LOCALITY):
            locality = _startup_locality(log, event, started=event.register in values)
            values[event.register] = {bank: locality.to_bytes(bank.size, "big") for bank in banks}
    return values


def rtmr_values(values: Mapping[CcEventIndex, Mapping[HashAlgorithm, bytes]]) -> dict[RtmrIndex, bytes]:
    """The values of all four RTMRs from the replay of a CC event log; those it does not extend are zero.

    Raises UsageError for a replay without the SHA-384 bank.
    """
    rtmrs: dict[RtmrIndex, bytes] = {}
    for rtmr in RTMRS:
        banks = values.get(event_index(rtmr), {SHA384: bytes(REGISTER_SIZE)})
        if SHA384 not in banks:
            raise UsageError(f"RTMRs are SHA-384 registers; the replay has {_names(banks)}")
        rtmrs[rtmr] = banks[SHA384]
    return rtmrs


def _startup_locality(log: EventLog[Index], event: Event[Index], *, started: bool) -> int:
    """The locality in a TCG_EfiStartupLocalityEvent (section 10.4.5.3), which comes first of PCR 0, and once."""
    locality = event.data[len(_LOCALITY) :]
    if started or len(locality) != 1 or locality[0] not in _LOCALITIES:
        expected = "one startup locality of 0, 3 or 4, ahead of what extends its register"
        found = "one behind that" if started else locality[:8].hex() or "none"
        raise MalformedInput(log.kind.name, offset=event.offset, expected=expected, found=found)
    return locality[0]


def _names(banks: Collection[HashAlgorithm]) -> str:
    return ", ".join(bank.name for bank in banks) or "none"
