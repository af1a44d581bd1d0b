"""The PCK certificate chain in a quote: PEM, and no byte of it without meaning."""

import base64
import binascii
import re

from imarium.errors import MalformedInput

__all__ = ["MAX_CERTIFICATES", "parse_pem_chain"]

MAX_CERTIFICATES = 8
"""Intel's chains have three: the PCK, the CA that issued it, and the root."""

_WHAT = "PCK certificate chain"
_CERTIFICATE = re.compile(
    rb"-----BEGIN CERTIFICATE-----\r?\n(?P<lines>(?:[A-Za-z0-9+/=]{1,76}\r?\n)+)-----END CERTIFICATE-----(?:\r?\n|\Z)"
)


def parse_pem_chain(data: bytes) -> tuple[bytes, ...]:
    """The certificates of a PEM chain, in DER, in order. One zero byte, a string's end, may follow them.

    Raises MalformedInput for anything between or behind the certificates, for base64 that is not canonical, and for
    more than MAX_CERTIFICATES. Whether the DER is a certificate is not looked at.
    """
    text = data.removesuffix(b"\0")
    found: list[bytes] = []
    at = 0
    while at < len(text):
        match = _CERTIFICATE.match(text, at)
        if match is None or len(found) == MAX_CERTIFICATES:
            expected = f"at most {MAX_CERTIFICATES} PEM certificates and nothing else"
            raise MalformedInput(_WHAT, offset=at, expected=expected, found=repr(text[at : at + 32]))
        found.append(_decode(match["lines"], match.start("lines")))
        at = match.end()
    if not found:
        raise MalformedInput(_WHAT, offset=0, expected="PEM certificates", found="none")
    return tuple(found)


def _decode(lines: bytes, at: int) -> bytes:
    digits = b"".join(lines.split())
    try:
        der = base64.b64decode(digits, validate=True)
    except binascii.Error as error:
        raise MalformedInput(_WHAT, offset=at, expected="base64", found=str(error)) from error
    if base64.b64encode(der) != digits:
        raise MalformedInput(_WHAT, offset=at, expected="canonical base64", found="stray bits at its end")
    return der
