"""A realm of Arm CCA, or a confidential VM of VirtCCA, as the root of trust: its token. ``docs/cca.md``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from imarium.formats.cca import PCR_COLUMN_MAP, VIRTCCA_MAP, RealmToken, RemIndex, RemMap, slot_of_rem
from imarium.formats.registers import LIST_PCRS, PcrIndex
from imarium.formats.report_data import report_data
from imarium.formats.roots import CcaPart, VirtccaPart
from imarium.hashes import SHA256, HashAlgorithm
from imarium.verifier.attested import Attested, ExpectedAggregate, Life, Request
from imarium.verifier.cca import CcaAnchor, CcaPolicy, check_cca
from imarium.verifier.reason import Reason

__all__ = ["CcaTrust", "VirtccaTrust", "check_cca_root", "check_virtcca"]


@dataclass(frozen=True, slots=True)
class CcaTrust:
    """What is trusted and accepted of a realm.

    ``anchor`` is the platform's key or its certificate. ``columns`` says which REM the records with a number in the
    list's register column went into. ``initial`` has the values of REMs before the list's first record, of the size
    of the realm's hash; those it does not name were zero. ``bridged`` says that a bridge extended a list whose
    boot_aggregate is not the RIM: it is not compared. ``measurements`` are the RIMs of what may run; with none, any
    realm of the platform passes.
    """

    anchor: CcaAnchor
    policy: CcaPolicy = field(default_factory=CcaPolicy)
    columns: RemMap = PCR_COLUMN_MAP
    initial: Mapping[RemIndex, bytes] = field(default_factory=dict)
    bridged: bool = False
    measurements: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class VirtccaTrust(CcaTrust):
    """The same of a VirtCCA VM. With a policy of ``realm_alone``, ``anchor`` is the key of an old VM's own."""

    columns: RemMap = VIRTCCA_MAP


def check_cca_root(root: CcaPart, trust: CcaTrust, request: Request) -> Attested | tuple[Reason, ...]:
    """The steps of :mod:`imarium.verifier.cca`, over the SHA-512 digest of the nonce."""
    return _check(root, trust, request)


def check_virtcca(root: VirtccaPart, trust: VirtccaTrust, request: Request) -> Attested | tuple[Reason, ...]:
    """The same for VirtCCA."""
    return _check(root, trust, request)


def _check(root: CcaPart, trust: CcaTrust, request: Request) -> Attested | tuple[Reason, ...]:
    check = check_cca(root.token, anchor=trust.anchor, nonce=report_data(request.nonce), policy=trust.policy)
    if not check.good or check.token is None:
        return check.reasons
    realm = check.token.realm
    if trust.measurements and realm.claims.rim not in trust.measurements:
        detail = f"the initial measurement (RIM) {realm.claims.rim.hex()} is not a known one"
        return (Reason("measurement_unknown", detail),)
    bank = realm.claims.hash_algorithm
    wrong = [rem for rem, value in trust.initial.items() if len(value) != bank.size]
    if wrong:
        detail = f"the initial value given for REM[{wrong[0]}] has not the {bank.size} bytes of the realm's hash"
        return (Reason("initial_value_size", detail),)
    columns = _columns(trust.columns)
    used = set(columns.values())
    return Attested(
        values={_number(rem): {bank: value} for rem, value in realm.claims.registers.items()},
        required=frozenset(map(_number, used)),
        life=_life(root, realm),
        aggregate=partial(_aggregate, None if trust.bridged else realm),
        columns={column: _number(rem) for column, rem in columns.items()},
        initial={_number(rem): {bank: trust.initial.get(rem, bytes(bank.size))} for rem in used},
    )


def _columns(table: RemMap) -> dict[PcrIndex, RemIndex]:
    found = ((PcrIndex(column), table.rem(PcrIndex(column))) for column in range(LIST_PCRS))
    return {column: rem for column, rem in found if rem is not None}


def _number(rem: RemIndex) -> PcrIndex:
    """The number of a REM in states and reasons: that of its slot, which a list's column has in ``PCR_COLUMN_MAP``."""
    return PcrIndex(slot_of_rem(rem))


def _aggregate(realm: RealmToken | None, bank: HashAlgorithm) -> ExpectedAggregate | None:
    """The RIM as it is, in the realm's hash alone. ``realm`` is None where boot_aggregate is something else."""
    if realm is None or bank != realm.claims.hash_algorithm:
        return None
    rim = realm.claims.rim
    return ExpectedAggregate(rim, f"the initial measurement (RIM) is {rim.hex()}")


def _life(root: CcaPart, realm: RealmToken) -> Life:
    """The realm as it was built, and its attestation key."""
    claims = realm.claims
    name = SHA256.digest(claims.rim + claims.personalization + claims.public_key)
    stranger = Reason("state_other_root", "the state is of another realm; verify this one with its own state")
    return Life(root.kind, name, 0, 0, stranger)
