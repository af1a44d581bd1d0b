"""Appraising evidence: from bytes and a trusted key to an attestation result.

Pure: no file, no clock, no device. The steps, in order; ``docs/appraisal.md`` explains each and its reason codes.

1. Form: the evidence decodes.
2. AK, signature, nonce, selection and values: the steps of :mod:`imarium.verifier.quote`.
   One bank is stronger than SHA-1.
3. List: its records can be read, their number is the one stated, and each register they name is attested and cannot be
   reset.
4. State: the evidence goes on where the state ends, in the same life of the same TPM's registers.
5. Beginning: where the log begins, it begins with boot_aggregate or boot_aggregate_late, and this is the hash of the
   attested PCRs 0 to 9 (0 to 7 for SHA-1) where these are quoted.
6. Replay from the state, and the prefix of the list that leads to the attested values, in every bank at once.
7. Template digests: each is the one its record's data gives.

What a step needs to be fact is fact only after the steps before it: steps 4 and 5 run together, and 6 and 7, and a
group that fails ends the appraisal. The list is not looked at before the quote is good, so that only a machine whose
AK is trusted can have it read.
"""

from collections.abc import Collection

from imarium.chain import BOOT_AGGREGATE_NAMES, ChainState, RegisterValues, Replay
from imarium.errors import MalformedRecord, MissingComponent, UsageError
from imarium.formats.evidence import Evidence, MalformedEvidence
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.formats.tpm import Attest, PcrValues, Public
from imarium.hashes import SHA1, by_name
from imarium.verifier.continuity import check_identity, check_passage, check_position
from imarium.verifier.damage import explain_signature
from imarium.verifier.listed import ListedRecords, read_list
from imarium.verifier.mismatch import Replayed, check_digests, check_match
from imarium.verifier.quote import check_quote
from imarium.verifier.result import Reason, Result
from imarium.verifier.signatures import SIGNATURE_INVALID
from imarium.verifier.state import LogIdentity, VerifierState

__all__ = ["RESETTABLE", "appraise"]

RESETTABLE = frozenset({PcrIndex(16), PcrIndex(23)})
"""PCRs any program can reset (TCG PC Client Platform TPM Profile, section 4.6.2): their values prove no history."""

_OTHER_KEY = frozenset({"ak_mismatch", "ak_malformed"})
"""Reasons to look no further at what a signature is over: the sender chose the key, and so what that would cost."""

AGGREGATED = 10
AGGREGATED_SHA1 = 8
"""How many PCRs, from 0 on, boot_aggregate is taken over."""


class _RejectedEvidence(Exception):
    """A group of steps has failed. Does not leave this module."""

    def __init__(self, *reasons: Reason) -> None:
        self.reasons = reasons
        super().__init__(*reasons)


def appraise(
    evidence: bytes,
    *,
    nonce: bytes,
    trusted_ak: Public,
    state: VerifierState | None = None,
    registers: Collection[PcrIndex] = (),
) -> Result:
    """Appraise ``evidence``, which must be a quote over ``nonce`` by ``trusted_ak``.

    ``state`` is where an earlier appraisal of the same log ended. ``registers`` are those that the list has to account
    for beside PCR 10, whether it names them or not: where the kernel's policy uses others, a list without any record
    of theirs would pass otherwise. Never raises for what the evidence holds.
    """
    needed = {IMA_PCR, *registers, *(state.chain.values if state else ())}
    count = 0
    try:
        claim = _decode(evidence)
        attest = _check_quote(claim, nonce, trusted_ak, needed)
        listed = _read(claim)
        count = listed.count
        _check_registers(claim.root.values, listed)
        identity = _identity(attest, trusted_ak, listed, state)
        start = _check_start(claim, listed, state, identity)
        attested = _by_register(claim.root.values, needed | listed.registers.keys())
        prefix = _check_records(claim, listed, attested, start, state)
    except _RejectedEvidence as rejected:
        return Result(rejected.reasons, covered=0, unverified=count, state=None, begins=None)
    covered = prefix - claim.log.first
    left = VerifierState(ChainState(prefix, attested), identity)
    return Result((), covered, count - covered, left, identity.begins)


def _decode(evidence: bytes) -> Evidence:
    """Step 1."""
    try:
        return Evidence.decode(evidence)
    except MalformedEvidence as error:
        raise _RejectedEvidence(Reason(f"evidence_{error.fault}", str(error))) from error


def _check_quote(claim: Evidence, nonce: bytes, trusted_ak: Public, needed: set[PcrIndex]) -> Attest:
    """Step 2."""
    root = claim.root
    quote = check_quote(
        root.quote,
        root.signature,
        root.ak,
        trusted_name=trusted_ak.name,
        nonce=nonce,
        values=root.values,
        required=dict.fromkeys(root.values, tuple(sorted(needed))),
    )
    reasons = list(quote.reasons)
    if not any(reason.code in _OTHER_KEY for reason in reasons):
        reasons = [_explained(claim, reason) for reason in reasons]
    if not any(bank != SHA1 and IMA_PCR in values for bank, values in root.values.items()):
        detail = "the list's register is attested in the SHA-1 bank only: quote the SHA-256 bank too"
        reasons.append(Reason("bank_weak", detail))
    if reasons or quote.attest is None:
        raise _RejectedEvidence(*reasons)
    return quote.attest


def _explained(claim: Evidence, reason: Reason) -> Reason:
    """The reason, or a closer one where a signature does not verify and one bit explains it."""
    if reason.code != SIGNATURE_INVALID:
        return reason
    root = claim.root
    return explain_signature(root.ak, root.quote, root.signature) or reason


def _read(claim: Evidence) -> ListedRecords:
    """Step 3. Every record is read down to its fields."""
    try:
        listed = read_list(claim.log)
    except MalformedRecord as error:
        raise _RejectedEvidence(Reason("record_malformed", str(error), error.record)) from error
    if listed.count != claim.log.count:
        detail = f"the evidence states {claim.log.count} records, it has {listed.count}"
        raise _RejectedEvidence(Reason("record_count", detail))
    return listed


def _check_registers(values: PcrValues, listed: ListedRecords) -> None:
    """Step 3. Every register of the list has to be attested in every bank of the quote."""
    reasons = []
    for pcr, number in sorted(listed.registers.items()):
        if not all(pcr in of_bank for of_bank in values.values()):
            detail = f"record {number} is one of PCR {pcr}, which the quote does not cover in each of its banks"
            reasons.append(Reason("register_not_quoted", detail, number))
        if pcr in RESETTABLE:
            detail = f"record {number} is one of PCR {pcr}, which any program can reset: it proves no records"
            reasons.append(Reason("register_resettable", detail, number))
    if reasons:
        raise _RejectedEvidence(*reasons)


def _by_register(values: PcrValues, registers: set[PcrIndex]) -> RegisterValues:
    """The values the list has to lead to: as claimed, and facts once step 2 has passed."""
    return {pcr: {bank: of_bank[pcr] for bank, of_bank in values.items()} for pcr in sorted(registers)}


def _identity(attest: Attest, trusted_ak: Public, listed: ListedRecords, state: VerifierState | None) -> LogIdentity:
    """Which log the evidence is of, as the quote and the log's first record say."""
    begins = state.log.begins if state else ""
    if listed.first is not None and listed.first.number == 0:
        begins = (listed.first.name or b"").decode("ascii", "replace")
    clock = attest.clock_info
    return LogIdentity(trusted_ak.name, clock.reset_count, clock.clock, begins)


def _check_start(
    claim: Evidence, listed: ListedRecords, state: VerifierState | None, identity: LogIdentity
) -> ChainState:
    """Steps 4 and 5: where the replay starts."""
    reasons = check_identity(state.log, identity) if state is not None else []
    reasons += check_position(claim.log, state)
    if claim.log.first == 0:
        reasons += _check_beginning(claim, listed)
    if reasons:
        raise _RejectedEvidence(*reasons)
    return state.chain if state is not None and claim.log.first else ChainState()


def _check_beginning(claim: Evidence, listed: ListedRecords) -> list[Reason]:
    """Step 5."""
    first = listed.first
    if first is None:
        return []  # step 6 tells whether there should be some
    name, digest = first.name, first.file_digest
    if name not in BOOT_AGGREGATE_NAMES or digest is None or first.is_violation:
        detail = "the log does not begin with boot_aggregate or boot_aggregate_late: its first records are missing"
        return [Reason("boot_aggregate_missing", detail, 0)]
    bank = by_name(digest.algorithm)  # which the digest was read with: older kernels call sm3 sm3-256
    pcrs = range(AGGREGATED_SHA1 if bank == SHA1 else AGGREGATED)
    values = claim.root.values.get(bank, {})
    if any(PcrIndex(pcr) not in values for pcr in pcrs):
        return []
    try:
        expected = bank.digest(b"".join(values[PcrIndex(pcr)] for pcr in pcrs))
    except MissingComponent as error:
        return [Reason("algorithm_unsupported", str(error), 0)]
    if digest.digest != expected:
        detail = (
            f"boot_aggregate is {digest.algorithm}:{digest.digest.hex()}, the attested PCRs 0 to {pcrs[-1]} "
            f"hash to {expected.hex()}"
        )
        return [Reason("boot_aggregate_mismatch", detail, 0)]
    return []


def _check_records(
    claim: Evidence, listed: ListedRecords, attested: RegisterValues, start: ChainState, state: VerifierState | None
) -> int:
    """Steps 6 and 7: how many of the log's records the attested values cover."""
    try:
        replayed, passed = _replay(claim, listed, attested, start, state)
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
    claim: Evidence, listed: ListedRecords, attested: RegisterValues, start: ChainState, state: VerifierState | None
) -> tuple[Replayed, ChainState | None]:
    """The replay, and where it was after as many records as the state has, for evidence from record 0."""
    passing = state.chain if state is not None and claim.log.first == 0 else ChainState()
    if passing.records and not passing.banks:
        raise UsageError("the state has no bank in which it knows every register; verify without it")
    run = Replay(claim.log.layout, passing.banks, start=start, targets=attested)
    passed, seen = None, 0
    for frames in listed.split_frames(passing.records):
        run.feed(frames)
        seen += len(frames)
        if seen == passing.records:
            passed = run.result().state
    return Replayed(listed, attested, start, run.result()), passed
