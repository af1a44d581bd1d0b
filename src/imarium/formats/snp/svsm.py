"""What an SVSM attests of its vTPM.

Secure VM Service Module for SEV-SNP Guests (AMD 58019), sections 7 and 8: the manifest of the vTPM service, version 0,
is the TPMT_PUBLIC of its endorsement key, and the report's data is SHA-512 over the nonce and the manifest.
"""

from uuid import UUID

from imarium.errors import MalformedInput
from imarium.formats.tpm import Public, parse_public_area
from imarium.hashes import SHA512

__all__ = [
    "ECC_P256_EK_SIZE",
    "NONCE_SIZE",
    "RSA_2048_EK_SIZE",
    "VTPM_SERVICE",
    "parse_vtpm_manifest",
    "svsm_report_data",
]

VTPM_SERVICE = UUID("c476f1eb-0123-45a5-9641-b4e7dde5bfe3")
"""The GUID of the vTPM service, as configfs-tsm's ``service_guid`` takes it."""

NONCE_SIZE = 64
"""The bytes of a nonce (configfs-tsm's ``inblob``)."""

RSA_2048_EK_SIZE = 314
"""The bytes of a TPMT_PUBLIC made from the TCG's default RSA 2048 template for endorsement keys."""

ECC_P256_EK_SIZE = 122
"""The same for ECC P-256."""


def svsm_report_data(nonce: bytes, manifest: bytes) -> bytes:
    """The data of the report that the SVSM asks for: 64 bytes."""
    return SHA512.digest(nonce + manifest)


def parse_vtpm_manifest(manifest: bytes, version: int) -> Public:
    """The endorsement key in the manifest of a vTPM service. Raises MalformedInput, also for another version."""
    if version != 0:
        raise MalformedInput("SVSM vTPM manifest", offset=0, expected="version 0", found=f"version {version}")
    return parse_public_area(manifest)
