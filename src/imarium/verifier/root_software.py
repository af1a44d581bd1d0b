"""A software root of trust: for tests. Nothing it signs is worth more than the secrecy of a file."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from imarium.errors import MalformedInput, UsageError
from imarium.formats.registers import PcrIndex
from imarium.formats.roots import SoftwarePart
from imarium.formats.software import SoftwareStatement
from imarium.hashes import SHA1, SHA256, HashAlgorithm
from imarium.verifier.attested import Attested, Life, Request
from imarium.verifier.reason import Reason

__all__ = ["SoftwareTrust", "check_software"]


def _ima_column() -> dict[PcrIndex, str]:
    return {PcrIndex(2): "rtmr2"}


@dataclass(frozen=True, slots=True)
class SoftwareTrust:
    """The software root of trust that is accepted all the same: its public key, a SubjectPublicKeyInfo in DER.

    ``columns`` says which register the records with a number in the list's register column went into, by name. The
    registers start at zero. What boot_aggregate is, is not looked at: nothing measured the boot.
    """

    key: bytes
    columns: Mapping[PcrIndex, str] = field(default_factory=_ima_column)

    def __post_init__(self) -> None:
        """Raises UsageError where no register is named."""
        if not self.columns:
            raise UsageError("name the register that the list was extended into")


def check_software(root: SoftwarePart, trust: SoftwareTrust, request: Request) -> Attested | tuple[Reason, ...]:
    """The accepted key signed a statement over the nonce, with the registers in a bank stronger than SHA-1."""
    reasons = []
    if not hmac.compare_digest(root.key, trust.key):
        reasons.append(Reason("software_key_mismatch", "the statement is by another key than the accepted one"))
    elif not _signed(root):
        reasons.append(Reason("signature_invalid", "the signature is not this key's over this statement"))
    try:
        statement = SoftwareStatement.decode(root.statement)
    except MalformedInput as error:
        return (*reasons, Reason("software_malformed", str(error)))
    if not hmac.compare_digest(statement.nonce, request.nonce):
        detail = f"the statement is over {statement.nonce.hex() or 'nothing'}, the nonce is {request.nonce.hex()}"
        reasons.append(Reason("nonce_mismatch", detail))
    numbers = {name: min(c for c, other in trust.columns.items() if other == name) for name in trust.columns.values()}
    values = {number: statement.registers.get(name, {}) for name, number in numbers.items()}
    if not all(set(banks) - {SHA1} for banks in values.values()):
        detail = "a register of the list is not in the statement, or in its SHA-1 bank only"
        reasons.append(Reason("bank_weak", detail))
    if reasons:
        return tuple(reasons)
    stranger = Reason("state_other_root", "the state is of another software root; verify without it")
    return Attested(
        values=values,
        required=frozenset(values),
        life=Life(root.kind, SHA256.digest(root.key), 0, 0, stranger),
        aggregate=_no_aggregate,
        columns={column: numbers[name] for column, name in trust.columns.items()},
        initial={number: {bank: bytes(bank.size) for bank in banks} for number, banks in values.items()},
    )


def _no_aggregate(_bank: HashAlgorithm) -> None:
    """Nothing measured the boot."""


def _signed(root: SoftwarePart) -> bool:
    try:
        key = load_der_public_key(root.key)
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return False
        key.verify(root.signature, root.statement, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True
