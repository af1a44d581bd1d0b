"""AMD SEV-SNP: attestation reports, the certificates of the keys that sign them, and an SVSM's vTPM manifest.

Bytes to values, bounded and exact, with no device and no I/O. Parsed values are claims: only
:mod:`imarium.verifier.snp` says whether to believe them.
"""

from imarium.formats.snp.certificate import AMD_ARC, KeyCertificate, parse_key_extensions
from imarium.formats.snp.report import (
    REPORT_SIZE,
    SIGNED_SIZE,
    FirmwareVersion,
    GuestPolicy,
    PlatformInfo,
    SigningKey,
    SnpReport,
    TcbVersion,
    parse_snp_report,
)
from imarium.formats.snp.svsm import (
    ECC_P256_EK_SIZE,
    NONCE_SIZE,
    RSA_2048_EK_SIZE,
    VTPM_SERVICE,
    parse_vtpm_manifest,
    svsm_report_data,
)
from imarium.formats.snp.table import MAX_CERTIFICATE_TABLE, CertificateTable, parse_certificate_table

__all__ = [
    "AMD_ARC",
    "ECC_P256_EK_SIZE",
    "MAX_CERTIFICATE_TABLE",
    "NONCE_SIZE",
    "REPORT_SIZE",
    "RSA_2048_EK_SIZE",
    "SIGNED_SIZE",
    "VTPM_SERVICE",
    "CertificateTable",
    "FirmwareVersion",
    "GuestPolicy",
    "KeyCertificate",
    "PlatformInfo",
    "SigningKey",
    "SnpReport",
    "TcbVersion",
    "parse_certificate_table",
    "parse_key_extensions",
    "parse_snp_report",
    "parse_vtpm_manifest",
    "svsm_report_data",
]
