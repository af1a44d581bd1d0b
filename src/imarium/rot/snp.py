"""AMD SEV-SNP with an SVSM: a TPM, and the report that binds its endorsement key to the guest.

The SVSM's vTPM is a TPM like any other to the guest. What makes it trustworthy is a report of the SVSM's vTPM service,
with the endorsement key as its manifest (Secure VM Service Module for SEV-SNP Guests, section 7).
"""

from collections.abc import Collection
from pathlib import Path

from imarium.errors import MissingComponent, UsageError
from imarium.formats.snp import NONCE_SIZE, VTPM_SERVICE, parse_vtpm_manifest
from imarium.formats.tpm import RsaKey
from imarium.rot.ak_store import EndorsementKind, StoredKey, load_key
from imarium.rot.options import split_options
from imarium.rot.protocol import NativeQuote
from imarium.rot.tpm_root import TpmRoot
from imarium.rot.tsm_report import DIRECTORY, TsmReport, provider_of, request_report

__all__ = ["SnpRoot", "snp_root"]

_PROVIDER = "sev_guest"
_MANIFEST_VERSION = 0
_SERVICE = {
    "service_provider": "svsm",
    "service_guid": str(VTPM_SERVICE),
    "service_manifest_version": str(_MANIFEST_VERSION),
}


class SnpRoot(TpmRoot):
    """The vTPM of an SVSM. ``tcti`` is that of the TPM, ``reports`` is configfs-tsm."""

    name = "snp"
    kind = "snp"

    def __init__(self, tcti: str | None = None, *, ak: StoredKey | None = None, reports: Path = DIRECTORY) -> None:
        super().__init__(tcti, ak=ak)
        self._reports = reports

    def init(self) -> None:
        """Look for the SNP guest, then for its TPM. Raises MissingComponent."""
        provider = provider_of(self._reports)
        if provider != _PROVIDER:
            raise MissingComponent(f"reports here come from {provider!r}, not {_PROVIDER}: this is no SNP guest")
        super().init()

    def quote(self, nonce: bytes, registers: Collection[str] = ()) -> NativeQuote:
        """The TPM's quote and the service report, both over a nonce of 64 bytes.

        ``beside`` has ``signature`` and ``ak`` of the quote, and ``report``, ``certificates`` (the host's table of
        them, may be empty) and ``manifest`` of the report.
        """
        if len(nonce) != NONCE_SIZE:
            raise UsageError(f"an SNP report takes a nonce of {NONCE_SIZE} bytes, not {len(nonce)}; hash it first")
        quote = super().quote(nonce, registers)
        report = self._report(nonce)
        beside = {"report": report.outblob, "certificates": report.auxblob, "manifest": report.manifestblob}
        return NativeQuote(self.kind, quote.statement, {**quote.beside, **beside}, quote.values)

    def _report(self, nonce: bytes) -> TsmReport:
        """The report of the vTPM's service, over a nonce of 64 bytes, with its manifest."""
        report = request_report(nonce, options=_SERVICE, directory=self._reports)
        if not report.manifestblob:
            raise MissingComponent("the report has no manifest: this guest has no SVSM with a vTPM; use the tpm driver")
        return report

    def _endorsement_kind(self) -> EndorsementKind:
        """The kind of the endorsement key in the manifest: only a child of that key can be told to be this vTPM's."""
        ek = parse_vtpm_manifest(self._report(bytes(NONCE_SIZE)).manifestblob, _MANIFEST_VERSION)
        return EndorsementKind.RSA_2048 if isinstance(ek.key, RsaKey) else EndorsementKind.ECC_P256


def snp_root(argument: str) -> SnpRoot:
    """``[TCTI][,ak=DIR][,reports=DIR]``. Raises UsageError, MissingComponent."""
    place, options = split_options("snp", argument, ("ak", "reports"), commas=True)
    ak = load_key(Path(options["ak"])) if "ak" in options else None
    return SnpRoot(place or None, ak=ak, reports=Path(options.get("reports", DIRECTORY)))
