"""A root of trust in memory that fails when it is told to."""

from collections.abc import Mapping

from imarium.hashes import SHA384, HashAlgorithm
from imarium.registers import MemoryRegisters, RegisterBusy
from imarium.rot.register_root import RegisterRoot


class FaultyRoot(RegisterRoot):
    """Registers of a TDX guest that fail when told to, before or after an extend. It counts its extends."""

    name = "faulty"

    def __init__(self, identity: str = "faulty") -> None:
        provider = MemoryRegisters()
        provider.identity = identity
        super().__init__(provider, "rtmr2")
        self.before = self.after = False
        self.updates = 0
        self.init()

    def extend(self, register: str, digests: Mapping[HashAlgorithm, bytes]) -> None:
        if self.before:
            raise RegisterBusy("busy; try again")
        super().extend(register, digests)
        self.updates += 1
        if self.after:
            raise RegisterBusy("the answer was lost; read the register")

    def update_counter(self) -> int:
        return self.updates

    @property
    def value(self) -> bytes:
        return self.read(["rtmr2"])["rtmr2"][SHA384]
