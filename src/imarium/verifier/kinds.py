"""Which appraiser is for which kind of root of trust: the only table of the verifier that names devices.

What comes after an appraiser knows none of them.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from imarium.formats.roots import CcaPart, RootPart, SnpPart, SoftwarePart, TdxPart, TpmPart, VirtccaPart
from imarium.verifier.attested import Attested, Request
from imarium.verifier.reason import Reason
from imarium.verifier.root_cca import CcaTrust, VirtccaTrust, check_cca_root, check_virtcca
from imarium.verifier.root_snp import SnpTrust, check_snp_root
from imarium.verifier.root_software import SoftwareTrust, check_software
from imarium.verifier.root_tdx import TdxTrust, check_tdx
from imarium.verifier.root_tpm import TpmTrust, check_tpm

__all__ = ["KINDS", "RootKind", "Trust", "caveat", "check_root"]

_Part = TypeVar("_Part", bound=RootPart)
_Trust = TypeVar("_Trust")

Trust = TpmTrust | TdxTrust | CcaTrust | VirtccaTrust | SnpTrust | SoftwareTrust
"""What a caller trusts of one kind of root of trust."""


@dataclass(frozen=True, slots=True)
class RootKind(Generic[_Part, _Trust]):
    """One kind: the part that evidence has of it, what has to be trusted, and the appraiser that takes both.

    ``untrusted`` is the reason to give where the caller trusts nothing of this kind. ``caveat`` is what has to be said
    of a pass, if something has.
    """

    part: type[_Part]
    trust: type[_Trust]
    check: Callable[[_Part, _Trust, Request], Attested | tuple[Reason, ...]]
    untrusted: Reason
    caveat: str = ""

    def appraise(self, root: RootPart, trusted: Collection[Trust], request: Request) -> Attested | tuple[Reason, ...]:
        """Facts, or at least one reason why there are none."""
        trust = next((one for one in trusted if type(one) is self.trust), None)
        if trust is None or not isinstance(root, self.part):
            return (self.untrusted,)
        found = self.check(root, trust, request)
        return found or (Reason("root_unproved", "the root of trust's statement could not be proved"),)


def _missing(kind: str, what: str) -> Reason:
    return Reason("anchor_missing", f"the evidence is of kind {kind}, of which nothing is trusted: give {what}")


_SOFTWARE = Reason(
    "software_root", "the evidence is of a software root of trust, which proves nothing unless it is named"
)

KINDS: Mapping[
    type[RootPart],
    RootKind[TpmPart, TpmTrust]
    | RootKind[TdxPart, TdxTrust]
    | RootKind[CcaPart, CcaTrust]
    | RootKind[VirtccaPart, VirtccaTrust]
    | RootKind[SnpPart, SnpTrust]
    | RootKind[SoftwarePart, SoftwareTrust],
] = {
    kind.part: kind
    for kind in (
        RootKind(TpmPart, TpmTrust, check_tpm, _missing("tpm", "the attestation key (--ak, and no --snp-root)")),
        RootKind(TdxPart, TdxTrust, check_tdx, _missing("tdx", "collateral and time (--tdx-collateral, --time)")),
        RootKind(CcaPart, CcaTrust, check_cca_root, _missing("cca", "the platform's key (--cca-platform-key)")),
        RootKind(
            VirtccaPart, VirtccaTrust, check_virtcca, _missing("virtcca", "the platform's key (--virtcca-platform-key)")
        ),
        RootKind(
            SnpPart, SnpTrust, check_snp_root, _missing("snp", "AMD's root and the attestation key (--snp-root, --ak)")
        ),
        RootKind(SoftwarePart, SoftwareTrust, check_software, _SOFTWARE, "a software root of trust proves nothing"),
    )
}
"""The appraisers, by the part of evidence they take."""


def check_root(root: RootPart, trusted: Collection[Trust], request: Request) -> Attested | tuple[Reason, ...]:
    """Facts from what a root of trust says, by what is trusted of its kind; or at least one reason why not."""
    return KINDS[type(root)].appraise(root, trusted, request)


def caveat(kind: str) -> str:
    """What has to be said of a pass of this kind of evidence, by its name; nothing for most."""
    return next((known.caveat for part, known in KINDS.items() if part.kind == kind), "")
