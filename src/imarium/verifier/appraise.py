"""Appraising evidence: from bytes and what is trusted to an attestation result.

Pure: no file, no clock, no device. The steps, in order; ``docs/appraisal.md`` explains each and its reason codes.

1. Form: the evidence decodes.
2. Root of trust: a trusted one has stated the values of registers over the nonce. The appraiser of its kind says so,
   chosen by the table in :mod:`imarium.verifier.kinds`; no step after this one knows the kind.
3. List: its records can be read, their number is the one stated, and each register they name is attested and cannot be
   reset.
4. State: the evidence goes on where the state ends, in the same life of the same registers.
5. Beginning: where the log begins, it begins with boot_aggregate or boot_aggregate_late, and this is what the attested
   registers say it has to be, where these tell.
6. Replay from the state, and the prefix of the list that leads to the attested values, in every bank at once.
7. Template digests: each is the one its record's data gives.

What a step needs to be fact is fact only after the steps before it: steps 4 and 5 run together, and 6 and 7, and a
group that fails ends the appraisal. The list is not looked at before the root of trust's statement is good, so that
only a machine that is trusted can have it read.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Literal

from imarium.chain import BOOT_AGGREGATE_NAMES, ChainState, RegisterValues, Replay
from imarium.errors import MalformedRecord, MissingComponent, UsageError
from imarium.formats.evidence import Evidence, MalformedEvidence, RootPart
from imarium.formats.registers import PcrIndex
from imarium.hashes import by_name
from imarium.verifier.attested import Attested, Life, Request
from imarium.verifier.continuity import check_identity, check_passage, check_position
from imarium.verifier.kinds import Trust, check_root
from imarium.verifier.listed import ListedRecords, read_list
from imarium.verifier.mismatch import Replayed, check_digests, check_match
from imarium.verifier.reason import Reason
from imarium.verifier.result import Result
from imarium.verifier.state import LogIdentity, VerifierState

__all__ = ["appraise"]


class _RejectedEvidence(Exception):
    """A group of steps has failed. Does not leave this module."""

    def __init__(self, *reasons: Reason) -> None:
        self.reasons = reasons
        super().__init__(*reasons)


def appraise(
    evidence: bytes,
    *,
    nonce: bytes,
    trust: Collection[Trust],
    state: VerifierState | None = None,
    registers: Collection[PcrIndex] = (),
) -> Result:
    """Appraise ``evidence``, which must be over ``nonce`` and of a root of trust that ``trust`` has one entry for.

    ``state`` is where an earlier appraisal of the same log ended. ``registers`` are those, by their number in the
    list's register column, that the list has to account for beside the ones its kind of root of trust always asks
    for: where the kernel's policy uses others, a list without any record of theirs would pass otherwise.

    Never raises for what the evidence holds. Raises MissingComponent where a library that a kind of root of trust
    needs is not there, and UsageError for something trusted that makes no sense.
    """
    known = frozenset(state.chain.values if state else ())
    count = 0
    try:
        claim = _decode(evidence)
        attested = _check_root(claim, trust, Request(nonce, known | frozenset(registers)))
        listed = _read(claim)
        count = listed.count
        needed = _check_registers(attested, listed, frozenset(registers), known)
        start = _check_start(claim, listed, state, attested)
        targets = {register: attested.values[register] for register in sorted(needed)}
        prefix = _check_records(claim, _assigned(attested, listed), targets, start, state)
    except _RejectedEvidence as rejected:
        return Result(rejected.reasons, covered=0, unverified=count, state=None, begins=None)
    covered = prefix - claim.log.first
    identity = _identity(attested.life, listed, state)
    left = VerifierState(ChainState(prefix, targets), identity)
    return Result((), covered, count - covered, left, identity.begins, _compared(attested, listed))


def _decode(evidence: bytes) -> Evidence[RootPart]:
    """Step 1."""
    try:
        return Evidence.decode(evidence)
    except MalformedEvidence as error:
        raise _RejectedEvidence(Reason(f"evidence_{error.fault}", str(error))) from error


def _check_root(claim: Evidence[RootPart], trust: Collection[Trust], request: Request) -> Attested:
    """Step 2."""
    found = check_root(claim.root, trust, request)
    if not isinstance(found, Attested):
        raise _RejectedEvidence(*found)
    return found


def _read(claim: Evidence[RootPart]) -> ListedRecords:
    """Step 3. Every record is read down to its fields."""
    try:
        listed = read_list(claim.log)
    except MalformedRecord as error:
        raise _RejectedEvidence(Reason("record_malformed", str(error), error.record)) from error
    if listed.count != claim.log.count:
        detail = f"the evidence states {claim.log.count} records, it has {listed.count}"
        raise _RejectedEvidence(Reason("record_count", detail))
    return listed


def _check_registers(
    attested: Attested, listed: ListedRecords, asked: frozenset[PcrIndex], known: frozenset[PcrIndex]
) -> set[PcrIndex]:
    """Step 3: the registers that the list has to lead to the attested values of, each in every bank."""
    reasons = []
    needed = {*attested.required, *known}
    columns: dict[PcrIndex, int | None] = {**dict.fromkeys(sorted(asked)), **dict(sorted(listed.columns.items()))}
    for column, number in columns.items():
        register = attested.columns.get(column)
        what = f"register {column} is asked for" if number is None else f"record {number} is one of register {column}"
        if register is None or set(attested.values.get(register, {})) != attested.banks:
            detail = f"{what}, which is not attested in each of the banks"
            if register is None:
                detail = f"{what}, which stands for none of the root's registers; name the one it went into (--column)"
            reasons.append(Reason("register_not_quoted", detail, number))
        elif register in attested.resettable and number is not None:
            detail = f"{what}, which any program can reset: it proves no records"
            reasons.append(Reason("register_resettable", detail, number))
        if register is not None:
            needed.add(register)
    for register in sorted({*attested.required, *known} - attested.values.keys()):
        reasons.append(Reason("register_not_quoted", f"register {register} is needed and not attested"))
    if reasons:
        raise _RejectedEvidence(*reasons)
    return needed


def _assigned(attested: Attested, listed: ListedRecords) -> ListedRecords:
    """The records with the registers they went into, where the list counts these in another way."""
    registers = {column: attested.columns[column] for column in listed.columns}
    if all(column == register for column, register in registers.items()):
        return listed
    return replace(listed, registers=registers)


def _identity(life: Life, listed: ListedRecords, state: VerifierState | None) -> LogIdentity:
    """Which log the evidence is of, as the root of trust and the log's first record say."""
    begins = state.log.begins if state else ""
    if listed.first is not None and listed.first.number == 0:
        begins = (listed.first.name or b"").decode("ascii", "replace")
    return LogIdentity(life.kind, life.root, life.resets, life.clock, begins)


def _check_start(
    claim: Evidence[RootPart], listed: ListedRecords, state: VerifierState | None, attested: Attested
) -> ChainState:
    """Steps 4 and 5: where the replay starts."""
    reasons = check_identity(state.log, attested.life) if state is not None else []
    reasons += check_position(claim.log, state)
    if claim.log.first == 0:
        reasons += _check_beginning(attested, listed)
    if reasons:
        raise _RejectedEvidence(*reasons)
    return state.chain if state is not None and claim.log.first else ChainState(0, attested.initial)


def _check_beginning(attested: Attested, listed: ListedRecords) -> list[Reason]:
    """Step 5."""
    first = listed.first
    if first is None:
        return []  # step 6 tells whether there should be some
    name, digest = first.name, first.file_digest
    if name not in BOOT_AGGREGATE_NAMES or digest is None or first.is_violation:
        detail = "the log does not begin with boot_aggregate or boot_aggregate_late: its first records are missing"
        return [Reason("boot_aggregate_missing", detail, 0)]
    bank = by_name(digest.algorithm)  # which the digest was read with: older kernels call sm3 sm3-256
    try:
        expected = attested.aggregate(bank)
    except MissingComponent as error:
        return [Reason("algorithm_unsupported", str(error), 0)]
    if expected is not None and digest.digest != expected.digest:
        detail = f"boot_aggregate is {digest.algorithm}:{digest.digest.hex()}, {expected.source}"
        return [Reason("boot_aggregate_mismatch", detail, 0)]
    return []


def _compared(attested: Attested, listed: ListedRecords) -> Literal["compared", "not_compared"] | None:
    """Whether step 5 had something to compare boot_aggregate with. Only for evidence that has passed."""
    first = listed.first
    if first is None or first.number or first.file_digest is None:
        return None
    return "not_compared" if attested.aggregate(by_name(first.file_digest.algorithm)) is None else "compared"


def _check_records(
    claim: Evidence[RootPart],
    listed: ListedRecords,
    targets: RegisterValues,
    start: ChainState,
    state: VerifierState | None,
) -> int:
    """Steps 6 and 7: how many of the log's records the attested values cover."""
    try:
        replayed, passed = _replay(claim, listed, targets, start, state)
    except UsageError as error:
        raise _RejectedEvidence(Reason("state_banks", str(error))) from error
    except MissingComponent as error:
        raise _RejectedEvidence(Reason("algorithm_unsupported", str(error))) from error
    prefix = replayed.result.matches.prefix
    reasons = [*check_match(replayed), *check_digests(replayed.result)]
    if prefix == 0:
        reasons.append(Reason("nothing_covered", "nothing was extended into the list's register yet: ask again"))
    if state is not None and claim.log.first == 0 and prefix is not None:
        reasons += check_passage(state.chain, passed, prefix)
    if reasons or prefix is None:
        raise _RejectedEvidence(*reasons)
    return prefix


def _replay(
    claim: Evidence[RootPart],
    listed: ListedRecords,
    targets: RegisterValues,
    start: ChainState,
    state: VerifierState | None,
) -> tuple[Replayed, ChainState | None]:
    """The replay, and where it was after as many records as the state has, for evidence from record 0."""
    passing = state.chain if state is not None and claim.log.first == 0 else ChainState()
    if passing.records and not passing.banks:
        raise UsageError("the state has no bank in which it knows every register; verify without it")
    run = Replay(claim.log.layout, passing.banks, start=start, targets=targets)
    passed, seen = None, 0
    for frames in listed.split_frames(passing.records):
        run.feed(frames)
        seen += len(frames)
        if seen == passing.records:
            passed = run.result().state
    return Replayed(listed, targets, start, run.result()), passed
