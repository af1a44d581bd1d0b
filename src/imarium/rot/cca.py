"""Arm CCA and Huawei VirtCCA: a realm's measurements, and the token that signs them.

``rim`` is the initial measurement, ``rem0`` to ``rem3`` are the extensible ones in slots 1 to 4. No kernel lets user
space extend them yet: the registers are read from the token, and an extend is refused, unless a device with measurement
registers (tsm-mr) is named that has them.
"""

import secrets
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from imarium import durable
from imarium.errors import DeviceError, MissingComponent, RefusedOperation, UsageError
from imarium.formats.cca import CHALLENGE_SIZE, RealmClaims, RemIndex, parse_cca_token, slot_of_rem
from imarium.formats.registers import PcrIndex
from imarium.hashes import HashAlgorithm
from imarium.registers import Access, Provider, Register, RegisterReadOnly
from imarium.registers.provider import identity_of
from imarium.rot.options import split_options
from imarium.rot.protocol import NativeQuote, RootOfTrust, Values
from imarium.rot.register_root import RegisterRoot
from imarium.rot.tsi import DEVICE, request_token
from imarium.rot.tsm import measurements
from imarium.rot.tsm_report import DIRECTORY, request_report

__all__ = ["CcaRoot", "TokenRegisters", "VirtCcaRoot", "cca_root", "virtcca_root"]


class TokenRegisters:
    """A realm's registers as its token tells them; a :class:`~imarium.registers.Provider` that only reads.

    Each reading is a new token over a random challenge, from configfs-tsm (``reports``) or, where it is named, from a
    ``device``. It raises what these and the token's parser raise.
    """

    name = "realm"

    def __init__(self, reports: Path = DIRECTORY, device: Path | None = None) -> None:
        self._request: Callable[[bytes], bytes] = partial(_reported, reports)
        if device is not None:
            self._request = partial(request_token, device=device)
        self.identity = identity_of("realm", device or reports)

    def token(self, challenge: bytes) -> tuple[bytes, RealmClaims]:
        """A token over the challenge, and what it claims. Raises DeviceError for one over another challenge."""
        token = self._request(challenge)
        claims = parse_cca_token(token).realm.claims
        if claims.challenge != challenge:
            raise DeviceError("the CCA token is over another challenge than was asked for; try again")
        return token, claims

    def registers(self) -> tuple[Register, ...]:
        """``rem0`` to ``rem3`` and ``rim``, in the realm's hash algorithm."""
        claims = self.claims()
        bank = claims.hash_algorithm
        return tuple(Register(name, bank.size, bank, Access.R) for name in sorted(_by_name(claims)))

    def read(self, register: Register) -> bytes:
        """The value in a new token. Raises UsageError for a register that is not there."""
        values = _by_name(self.claims())
        if register.name not in values:
            raise UsageError(f"a realm has no register {register.name!r}; it has {', '.join(values)}")
        return values[register.name]

    def extend(self, register: Register, digest: bytes) -> bytes:
        """Raises RegisterReadOnly."""
        del digest
        raise RegisterReadOnly(
            f"{register.name}: this kernel lets user space read a realm's token, not extend; {_ADVICE}"
        )

    def store(self, register: Register, value: bytes) -> None:
        """Raises RegisterReadOnly."""
        self.extend(register, value)

    def claims(self) -> RealmClaims:
        """What a new token claims. Raises DeviceError."""
        return self.token(secrets.token_bytes(CHALLENGE_SIZE))[1]


def _reported(reports: Path, challenge: bytes) -> bytes:
    report = request_report(challenge, directory=reports)
    if report.provider in _OTHERS:
        raise RefusedOperation(f"reports here come from {report.provider!r}: this is no realm; use its driver")
    return report.outblob


_ADVICE = "name a device that can, as in cca:DEVICE"
_OTHERS = ("tdx_guest", "sev_guest")
"""Providers of reports that are no tokens. What VirtCCA's provider is called was not seen."""


class CcaRoot(RegisterRoot):
    """A realm. ``provider`` has registers that can be extended; without it they are read from the token.

    The token comes from configfs-tsm, or from ``device`` where one is given.
    """

    name = "cca"
    kind = "cca"

    def __init__(
        self,
        provider: Provider | None = None,
        default_register: str = "rem0",
        *,
        reports: Path = DIRECTORY,
        device: Path | None = None,
    ) -> None:
        self._tokens = TokenRegisters(reports, device)
        self._by_report = provider is None and device is None
        super().__init__(self._tokens if provider is None else provider, default_register)

    def column(self) -> PcrIndex | None:
        """REM[n] is n + 1, the number of its slot."""
        number = self._number("rem")
        return None if number is None else PcrIndex(slot_of_rem(RemIndex(number)))

    def boot_aggregate(self, bank: HashAlgorithm) -> bytes:
        """The RIM as the token has it. Raises UsageError for a bank that is not the realm's."""
        claims = self._tokens.claims()
        if bank != claims.hash_algorithm:
            raise UsageError(f"the realm measures in {claims.hash_algorithm.name}, not in {bank.name}")
        return claims.rim

    def quote(self, nonce: bytes, registers: Collection[str] = ()) -> NativeQuote:
        """The token over a challenge of 64 bytes; it covers every register. ``values`` are those in the token."""
        if len(nonce) != CHALLENGE_SIZE:
            raise UsageError(f"a CCA token takes a nonce of {CHALLENGE_SIZE} bytes, not {len(nonce)}; hash it first")
        self.read(registers)
        token, claims = self._tokens.token(nonce)
        values: Values = {name: {claims.hash_algorithm: value} for name, value in _by_name(claims).items()}
        return NativeQuote(self.kind, token, {}, values)


class VirtCcaRoot(CcaRoot):
    """A VirtCCA confidential VM: as a realm, under its own name, since its tokens have another root of trust."""

    name = "virtcca"
    kind = "virtcca"

    def init(self) -> None:
        """As of a realm. Raises MissingComponent where there is neither configfs-tsm nor the device of VirtCCA."""
        try:
            super().init()
        except MissingComponent as error:
            if durable.is_there(DEVICE) or not self._by_report:
                raise
            raise MissingComponent(f"{error}; or load the tmm_tsi driver of VirtCCA, for {DEVICE}") from error


def cca_root(argument: str) -> RootOfTrust:
    """``[DEVICE][,register=NAME][,reports=DIR]``. Raises UsageError."""
    return _root(CcaRoot, argument)


def virtcca_root(argument: str) -> RootOfTrust:
    """``[DEVICE][,register=NAME][,reports=DIR][,token=DEVICE]``. Raises UsageError.

    Where neither ``reports`` nor ``token`` is given and there is no configfs-tsm, the token comes from ``/dev/tsi``.
    """
    return _root(VirtCcaRoot, argument, ("token",))


def _root(driver: type[CcaRoot], argument: str, more: Collection[str] = ()) -> CcaRoot:
    device, options = split_options(driver.name, argument, ("register", "reports", *more))
    token = Path(options["token"]) if "token" in options else None
    if token is None and "token" in more and "reports" not in options:
        token = DEVICE if durable.is_there(DEVICE) and not durable.is_there(DIRECTORY) else None
    return driver(
        measurements(device) if device else None,
        options.get("register", "rem0"),
        reports=Path(options.get("reports", DIRECTORY)),
        device=token,
    )


def _by_name(claims: RealmClaims) -> dict[str, bytes]:
    return {f"rem{index}": value for index, value in claims.registers.items()} | {"rim": claims.rim}
