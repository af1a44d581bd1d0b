"""What a verifier's nonce becomes where a device binds exactly 64 bytes to its quote: TDX, CCA and SEV-SNP.

The data is the SHA-512 digest of the nonce, for nonces of every size, those of 64 bytes included: nothing is padded
or cut.
"""

from imarium.hashes import SHA512

__all__ = ["report_data"]


def report_data(nonce: bytes) -> bytes:
    """The 64 bytes to ask a device with, and to expect in its quote."""
    return SHA512.digest(nonce)
