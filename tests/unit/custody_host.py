"""A simulated kernel with a store beside it, and runs of custody that die at a step."""

from pathlib import Path
from typing import Literal

from tests.unit.custody_kernel import LAYOUT, Kernel

from imarium.custody import Custody, Hook, Keeper, KeepResult, ReadRegisters, Step, Store, no_registers
from imarium.formats.records import read_records


class Died(Exception):
    """The simulated kill."""


def dying_at(step: Step) -> Hook:
    def hook(reached: Step) -> None:
        if reached is step:
            raise Died

    return hook


class Host:
    """A kernel, its boot id, and a store."""

    def __init__(self, path: Path, *, tpm: bool = True, staging: bool = True) -> None:
        self.path = path / "store"
        self.kernel = Kernel(staging=staging)
        self.kernel.boot()
        self.boot_id = "first"
        self.registers: ReadRegisters = self.kernel.registers if tpm else no_registers

    def keep(self, method: Literal["auto", "prompt", "follow"] = "auto", hook: Hook = lambda _step: None) -> KeepResult:
        store = Store(self.path, create=True)
        return Keeper(store, self.kernel, boot_id=self.boot_id, registers=self.registers, hook=hook).once(method)

    def names(self, number: int | None = None) -> list[str]:
        return [(r.name or b"").decode() for r in Store(self.path).log(number).records_from(0)]

    def whole(self) -> list[str]:
        whole = Custody(self.path).whole(self.kernel, boot_id=self.boot_id, registers=self.registers)
        return [(r.name or b"").decode() for r in read_records(whole.blocks(), LAYOUT)]
