"""Appraising evidence: from bytes and a trusted key to an attestation result.

Pure: no file, no clock, no device. The steps, in order; ``docs/appraisal.md`` explains each and its reason codes.

1. Form: the evidence decodes, its records can be read, their number is the one it states.
2. AK, signature, nonce, selection and values: the steps of :mod:`imarium.verifier.quote`.
3. Banks: the registers of the list are attested in a bank stronger than SHA-1.
4. State: the evidence goes on where the state ends, in the same life of the same TPM's registers.
5. Beginning: where the log begins, it begins with boot_aggregate or boot_aggregate_late, and this is the hash of the
   attested PCRs 0 to 9 (0 to 7 for SHA-1) where these are quoted.
6. Replay from the state, and the prefix of the list that leads to the attested values, in every bank at once.
7. Template digests: each is the one its record's data gives.

What a step needs to be fact is fact only after the steps before it: the steps of 2 all run, then those up to 5, then
6 and 7, and a group that fails ends the appraisal.
"""

from dataclasses import dataclass

from imarium.chain import BOOT_AGGREGATE_NAMES, ChainState, RegisterValues, Replay, ReplayResult
from imarium.errors import MalformedRecord, MissingComponent, UsageError
from imarium.formats.evidence import Evidence, MalformedEvidence
from imarium.formats.fields import hash_input
from imarium.formats.records import Frame, Record, read_records
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.formats.templates import template
from imarium.formats.tpm import Attest, Public
from imarium.hashes import SHA1, HashAlgorithm
from imarium.verifier.diagnose import Link, explain
from imarium.verifier.quote import check_quote
from imarium.verifier.result import Reason, Result
from imarium.verifier.state import LogIdentity, VerifierState

__all__ = ["MAX_REASONS", "appraise"]

MAX_REASONS = 100
"""Most records that are named one by one; beyond that they are summed up in one reason."""

AGGREGATED = 10
AGGREGATED_SHA1 = 8
"""How many PCRs, from 0 on, boot_aggregate is taken over."""


@dataclass(frozen=True, slots=True)
class _Listed:
    """The records of the evidence: cut out, each found to be well formed, and the first of them."""

    frames: tuple[Frame, ...]
    first: Record | None

    @property
    def registers(self) -> set[PcrIndex]:
        """The registers the records were extended into."""
        return {PcrIndex(frame[0]) for frame in self.frames}


class _RejectedEvidence(Exception):
    """A group of steps has failed. Does not leave this module."""

    def __init__(self, *reasons: Reason) -> None:
        self.reasons = reasons
        super().__init__(*reasons)


def appraise(evidence: bytes, *, nonce: bytes, trusted_ak: Public, state: VerifierState | None = None) -> Result:
    """Appraise ``evidence``, which must be a quote over ``nonce`` by ``trusted_ak``.

    ``state`` is where an earlier appraisal of the same log ended. Never raises for what the evidence holds.
    """
    count = 0
    try:
        claim, listed = _read(evidence)
        count = len(listed.frames)
        registers = {IMA_PCR, *listed.registers, *(state.chain.values if state else ())}
        attest = _check_quote(claim, nonce, trusted_ak, registers)
        identity = _identity(attest, trusted_ak, listed, state)
        start = _check_start(claim, listed, state, identity)
        attested = _attested(claim, registers)
        prefix = _check_records(claim, listed, attested, start, state)
    except _RejectedEvidence as rejected:
        return Result(rejected.reasons, covered=0, unverified=count, state=None, begins=None)
    covered = prefix - claim.log.first
    left = VerifierState(ChainState(prefix, attested), identity)
    return Result((), covered, count - covered, left, identity.begins)


def _read(evidence: bytes) -> tuple[Evidence, _Listed]:
    """Step 1. Every record is read down to its fields."""
    try:
        claim = Evidence.decode(evidence)
    except MalformedEvidence as error:
        raise _RejectedEvidence(Reason(f"evidence_{error.fault}", str(error))) from error
    frames: list[Frame] = []
    first: Record | None = None
    try:
        for record in read_records([claim.log.records], claim.log.layout, first=claim.log.first):
            _ = record.fields
            frames.append(record.frame)
            first = first or record
    except MalformedRecord as error:
        raise _RejectedEvidence(Reason("record_malformed", str(error), error.record)) from error
    if len(frames) != claim.log.count:
        detail = f"the evidence states {claim.log.count} records, it has {len(frames)}"
        raise _RejectedEvidence(Reason("record_count", detail))
    return claim, _Listed(tuple(frames), first)


def _check_quote(claim: Evidence, nonce: bytes, trusted_ak: Public, registers: set[PcrIndex]) -> Attest:
    """Steps 2 and 3. Every register of the list has to be attested in every bank of the quote."""
    root = claim.root
    quote = check_quote(
        root.quote,
        root.signature,
        root.ak,
        trusted_name=trusted_ak.name,
        nonce=nonce,
        values=root.values,
        required={bank: tuple(sorted(registers)) for bank in root.values},
    )
    reasons = [*quote.reasons]
    if not any(bank != SHA1 and IMA_PCR in values for bank, values in root.values.items()):
        reasons.append(
            Reason("bank_weak", "the list's register is attested in the SHA-1 bank only: quote the SHA-256 bank too")
        )
    if reasons or quote.attest is None:
        raise _RejectedEvidence(*reasons)
    return quote.attest


def _attested(claim: Evidence, registers: set[PcrIndex]) -> RegisterValues:
    """The values the list has to lead to, by register: as claimed, and facts once step 2 has passed."""
    banks = claim.root.values
    return {
        pcr: {bank: values[pcr] for bank, values in banks.items() if pcr in values}
        for pcr in sorted(registers)
        if any(pcr in values for values in banks.values())
    }


def _identity(attest: Attest, trusted_ak: Public, listed: _Listed, state: VerifierState | None) -> LogIdentity:
    """Which log the evidence is of, as the quote and the log's first record say."""
    begins = state.log.begins if state else ""
    if listed.first is not None and listed.first.number == 0:
        begins = (listed.first.name or b"").decode("ascii", "replace")
    clock = attest.clock_info
    return LogIdentity(trusted_ak.name, clock.reset_count, clock.clock, begins)


def _check_identity(state: VerifierState, log: LogIdentity) -> list[Reason]:
    """Step 4, as far as the quote tells: the state is of the same life of the same TPM's registers."""
    known = state.log
    if known.ak != log.ak:
        return [Reason("state_other_log", "the state was left by another AK; verify this machine with its own state")]
    if known.reset_count != log.reset_count:
        detail = (
            f"the TPM's reset count is {log.reset_count}, the state's is {known.reset_count}: the machine was reset "
            "since; ask for evidence from record 0 and verify it without the state"
        )
        return [Reason("state_other_log", detail)]
    if log.clock < known.clock:
        return [Reason("state_rollback", f"the TPM's clock is {log.clock} ms, the state has seen {known.clock} ms")]
    return []


def _check_start(claim: Evidence, listed: _Listed, state: VerifierState | None, identity: LogIdentity) -> ChainState:
    """Steps 4 and 5: where the replay starts."""
    reasons = _check_identity(state, identity) if state is not None else []
    first = claim.log.first
    start = ChainState()
    if first == 0:
        reasons += _check_beginning(claim, listed)
    elif state is None:
        detail = f"the evidence begins at record {first}: give the state of an earlier appraisal, or ask from record 0"
        reasons.append(Reason("state_missing", detail))
    elif state.chain.records != first:
        known = state.chain.records
        detail = f"the evidence begins at record {first}, the state ends before record {known}: ask from record {known}"
        reasons.append(Reason("state_position", detail))
    else:
        start = state.chain
    if reasons:
        raise _RejectedEvidence(*reasons)
    return start


def _check_records(
    claim: Evidence, listed: _Listed, attested: RegisterValues, start: ChainState, state: VerifierState | None
) -> int:
    """Steps 6 and 7: how many of the log's records the attested values cover."""
    run = _replay(claim, listed, attested, start)
    prefix = run.matches.prefix
    reasons = [*_check_match(claim, listed, attested, run, start), *_check_digests(run)]
    if prefix == 0:
        reasons.append(Reason("nothing_covered", "nothing was extended into the list's register yet: ask again"))
    if state is not None and claim.log.first == 0:
        reasons += _check_passage(claim, listed, state, prefix)
    if reasons or prefix is None:
        raise _RejectedEvidence(*reasons)
    return prefix


def _replay(claim: Evidence, listed: _Listed, attested: RegisterValues, start: ChainState) -> ReplayResult:
    try:
        run = Replay(claim.log.layout, (), start=start, targets=attested)
        run.feed(listed.frames)
    except UsageError as error:
        raise _RejectedEvidence(Reason("state_banks", str(error))) from error
    except MissingComponent as error:
        raise _RejectedEvidence(Reason("algorithm_unsupported", str(error))) from error
    return run.result()


def _check_match(
    claim: Evidence, listed: _Listed, attested: RegisterValues, replayed: ReplayResult, start: ChainState
) -> list[Reason]:
    """Step 6's verdict, with an explanation where one can be found. Altered records are left to step 7."""
    if replayed.matches.prefix is not None or replayed.bad_digests:
        return []
    if not listed.frames:
        detail = (
            "the evidence has no records, but the list's register was extended: ask again from where the state ends"
        )
        return [Reason("list_empty", detail)]
    covered = replayed.matches.covered
    missed = [(pcr, bank) for pcr, banks in covered.items() for bank, hit in banks.items() if hit is None]
    if not missed:
        return [Reason("registers_disagree", "the attested values of the registers belong to different moments")]
    pcr, bank = missed[0]
    links = _links(claim, listed, pcr, bank)
    found = explain(links, bank, start.value(pcr, bank), attested[pcr][bank])
    if found is not None:
        return [found]
    where = "from the state on " if start.records else ""
    detail = (
        f"no prefix of the list leads {where}to the attested value of PCR {pcr} in the {bank.name} bank: records are "
        "missing, or more than one was changed"
    )
    return [Reason("records_missing", detail)]


def _links(claim: Evidence, listed: _Listed, pcr: PcrIndex, bank: HashAlgorithm) -> list[Link]:
    links = []
    for number, (register, stored, name, data) in enumerate(listed.frames, claim.log.first):
        found = template(name)
        if register == pcr and found is not None:
            links.append(Link(number, bank.digest(hash_input(found, data)), not any(stored)))
    return links


def _check_digests(result: ReplayResult) -> list[Reason]:
    """Step 7. Whether the list still leads to the attested values tells which half of the record was altered."""
    if result.matches.prefix is not None:
        code, what = (
            "template_digest_altered",
            "the data is proved by the quote, the template digest is not the one it gives",
        )
    else:
        code, what = (
            "record_altered",
            "the template digest is not the one the data gives, and the quote does not prove the data",
        )
    bad = result.bad_digests
    reasons = [Reason(code, f"record {number}: {what}", number) for number in bad[:MAX_REASONS]]
    if len(bad) > MAX_REASONS:
        reasons.append(Reason(code, f"and {len(bad) - MAX_REASONS} more records"))
    return reasons


def _check_beginning(claim: Evidence, listed: _Listed) -> list[Reason]:
    """Step 5."""
    first = listed.first
    if first is None:
        return []  # step 6 tells whether there should be some
    name, digest = first.name, first.file_digest
    if name not in BOOT_AGGREGATE_NAMES or digest is None or first.is_violation:
        detail = "the log does not begin with boot_aggregate or boot_aggregate_late: its first records are missing"
        return [Reason("boot_aggregate_missing", detail, 0)]
    bank = next((bank for bank in claim.root.values if bank.name == digest.algorithm), None)
    pcrs = range(AGGREGATED_SHA1 if digest.algorithm == SHA1.name else AGGREGATED)
    values = claim.root.values[bank] if bank else {}
    if bank is None or any(PcrIndex(pcr) not in values for pcr in pcrs):
        return []
    expected = bank.digest(b"".join(values[PcrIndex(pcr)] for pcr in pcrs))
    if digest.digest != expected:
        detail = (
            f"boot_aggregate is {digest.algorithm}:{digest.digest.hex()}, the attested PCRs 0 to {pcrs[-1]} "
            f"hash to {expected.hex()}"
        )
        return [Reason("boot_aggregate_mismatch", detail, 0)]
    return []


def _check_passage(claim: Evidence, listed: _Listed, state: VerifierState, prefix: int | None) -> list[Reason]:
    """Step 4 for evidence from record 0: the log passes through the state, and the quote is not older than it."""
    known = state.chain
    if prefix is not None and prefix < known.records:
        detail = f"the quote covers {prefix} records, an earlier one covered {known.records}: records were taken away"
        return [Reason("state_rollback", detail)]
    run = Replay(claim.log.layout, known.banks)
    run.feed(listed.frames[: known.records])
    reached = run.result().state
    for pcr, banks in known.values.items():
        for bank, value in banks.items():
            if bank in known.banks and reached.value(pcr, bank) != value:
                detail = f"after {known.records} records PCR {pcr} is not the value an earlier verification proved"
                return [Reason("state_other_log", detail)]
    return []
