"""The first record of an engine: what booted, as the root of trust knows it."""

from collections.abc import Sequence

from imarium.engine.template_data import Event
from imarium.errors import UsageError
from imarium.hashes import SHA1, SHA256, HashAlgorithm
from imarium.rot import RootOfTrust

__all__ = ["boot_aggregate"]


def boot_aggregate(roots: Sequence[RootOfTrust], algorithm: HashAlgorithm, *, late: bool) -> Event:
    """The event that the record is made of, by the first of ``roots``; zeros without one, as without a TPM.

    ``late`` names it as a kernel does that begins to measure late. Raises what the root of trust raises.
    """
    name = b"boot_aggregate_late" if late else b"boot_aggregate"
    if not roots:
        return Event(name, algorithm, bytes(algorithm.size), bytes(SHA1.size))
    root = roots[0]
    there = root.banks()
    bank = next((candidate for candidate in (algorithm, SHA256, SHA1) if candidate in there), algorithm)
    try:
        digest = root.boot_aggregate(bank)
    except UsageError:  # one whose registers have another algorithm alone
        bank = there[0] if there else bank
        digest = root.boot_aggregate(bank)
    sha1 = root.boot_aggregate(SHA1) if SHA1 in there else bytes(SHA1.size)
    return Event(name, bank, digest, sha1)
