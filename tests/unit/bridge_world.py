"""A list, a device whose user may die at any extend, notes that outlive it, and a bridge between them."""

from tests.unit.builders import binary, hashed, ng

from imarium.formats.records import ListLayout
from imarium.registers import (
    MemoryRegisters,
    find_register,
)
from imarium.rot.bridge import Bridge
from imarium.rot.bridge_chain import Listing

LAYOUT = ListLayout()
BOOT = ng(b"boot_aggregate")
INITIAL = bytes(range(48))


def frames_of(blocks, layout):
    return list(Listing(layout, lambda: blocks).frames())


class Killed(Exception):
    """The process died here."""


class Registers(MemoryRegisters):
    """A device whose user dies before or after an extend, when ``countdown`` runs out."""

    def __init__(self):
        super().__init__()
        self.register = find_register(self, "rtmr1")
        self._values[self.register] = INITIAL
        self.countdown = None
        self.extends = 0

    def tick(self):
        if self.countdown is not None:
            self.countdown -= 1
            if self.countdown < 0:
                self.countdown = None
                raise Killed

    def extend(self, register, digest):
        self.tick()
        value = super().extend(register, digest)
        self.extends += 1
        self.tick()
        return value


class Notes:
    """Notes on a disk that outlives the process."""

    def __init__(self, device):
        self.device = device
        self.kept = None

    def load(self):
        return self.kept

    def save(self, state):
        self.device.tick()
        self.kept = state
        self.device.tick()


class World:
    """A device, notes, and a list that grows."""

    def __init__(self):
        self.device = Registers()
        self.notes = Notes(self.device)
        self.records = []

    @property
    def value(self):
        return self.device.read(self.device.register)

    def bridge(self, boot="one", **options):
        return Bridge(self.device, self.device.register, self.notes, boot_id=boot, **options)

    def listing(self, drained=0, **options):
        data = binary(self.records[drained:])
        return Listing(LAYOUT, lambda: [data[: len(data) // 2], data[len(data) // 2 :]], **options)

    def run(self, drained=0, boot="one", **options):
        return self.bridge(boot, **options).advance(self.listing(drained))

    def foreign(self):
        self.device.extend(self.device.register, b"\x07" * 48)


def expected(records, value=INITIAL, bank="sha384"):
    for record in records:
        digest = b"\xff" * len(value) if record.violation else record.true_digest(bank, "little")
        value = hashed(bank, value + digest)
    return value


def files(count, start=0):
    return [ng(b"/bin/%d" % number, violation=number % 5 == 3) for number in range(start, start + count)]
