"""TDX quotes of version 4 and 5. Intel TDX DCAP Quoting Library API, appendix 3.

A quote is a header, a body that describes the TD, and signature data: an ECDSA signature of an attestation key over
header and body, the report of the quoting enclave (QE) that vouches for that key, the signature of the platform's
PCK over this report, and the PCK's certificates. Parsing gives claims; :mod:`imarium.verifier.tdx` gives facts.
"""

from dataclasses import dataclass

from imarium.errors import MalformedInput
from imarium.formats.tdx.body import REPORT_DATA_SIZE, TdBody, read_quote_body
from imarium.formats.tdx.certificates import parse_pem_chain
from imarium.formats.tdx.cursor import LittleEndianCursor

__all__ = ["MAX_QUOTE_SIZE", "P256_POINT_SIZE", "QeReport", "TdxQuote", "parse_tdx_quote"]

MAX_QUOTE_SIZE = 64 << 10
"""No quote comes near this many bytes, padding included; longer input is refused before it is looked at."""

P256_POINT_SIZE = 64
"""A P-256 key is x and y, a signature r and s: 32 bytes each, big-endian."""

_WHAT = "TDX quote"
_ECDSA_P256 = 2
_TDX_TEE = 0x81
_QE_REPORT_SIZE = 384
_QE_REPORT_CERTIFICATION = 6
_PCK_CHAIN_CERTIFICATION = 5
_BODY_TYPES = {2: 584, 3: 648}
"""Version 5: the type of a body and its size. 2 is TDX 1.0, 3 is TDX 1.5."""


@dataclass(frozen=True, slots=True)
class QeReport:
    """The SGX report of the quoting enclave. ``data`` is the report's 384 bytes: what the PCK signs."""

    data: bytes
    misc_select: bytes
    attributes: bytes
    mr_enclave: bytes
    mr_signer: bytes
    isv_prod_id: int
    isv_svn: int
    report_data: bytes


@dataclass(frozen=True, slots=True)
class TdxQuote:
    """A TDX quote.

    ``data`` is the quote without padding, ``signed`` its part under the attestation key's signature. ``signature`` is
    r and s, ``attestation_key`` x and y of a P-256 key. ``pck_chain`` is in DER, the PCK first.
    """

    data: bytes
    version: int
    qe_vendor_id: bytes
    user_data: bytes
    body: TdBody
    signed: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: QeReport
    qe_report_signature: bytes
    qe_auth_data: bytes
    pck_chain: tuple[bytes, ...]


def parse_tdx_quote(data: bytes) -> TdxQuote:
    """The TDX quote that ``data`` starts with; zeros may follow it, and nothing else.

    Raises MalformedInput, also for a quote of an SGX enclave, for an attestation key other than ECDSA P-256, for
    certification data other than a QE report with a PCK chain, and for a body of a type imarium does not know.
    """
    cursor = LittleEndianCursor(data, _WHAT)
    if len(data) > MAX_QUOTE_SIZE:
        raise cursor.fail(f"at most {MAX_QUOTE_SIZE} bytes", f"{len(data)}")
    version, vendor, user_data = _header(cursor)
    body = _body(cursor, version)
    signed = data[: cursor.offset]
    size = cursor.u32("the size of the signature data")
    if size > cursor.remaining:
        raise cursor.fail(f"{size} bytes of signature data", f"{cursor.remaining}")
    end = cursor.offset + size
    if data[end:].strip(b"\0"):
        raise cursor.fail("nothing but zeros behind the quote", f"{len(data) - end} bytes", at=end)
    quote = data[:end]
    signatures = LittleEndianCursor(quote, _WHAT)
    signatures.offset = cursor.offset
    signature = signatures.take(P256_POINT_SIZE, "signature")
    key = signatures.take(P256_POINT_SIZE, "attestation key")
    _certification(signatures, _QE_REPORT_CERTIFICATION, "a QE report")
    report = _qe_report(signatures)
    report_signature = signatures.take(P256_POINT_SIZE, "QE report signature")
    auth_data = signatures.take(signatures.u16("the size of the QE authentication data"), "QE authentication data")
    _certification(signatures, _PCK_CHAIN_CERTIFICATION, "a PCK certificate chain")
    chain = _pck_chain(signatures)
    return TdxQuote(
        data=quote,
        version=version,
        qe_vendor_id=vendor,
        user_data=user_data,
        body=body,
        signed=signed,
        signature=signature,
        attestation_key=key,
        qe_report=report,
        qe_report_signature=report_signature,
        qe_auth_data=auth_data,
        pck_chain=chain,
    )


def _header(cursor: LittleEndianCursor) -> tuple[int, bytes, bytes]:
    """The version, the QE vendor's identifier and its user data: 48 bytes."""
    version = cursor.u16("version")
    if version not in (4, 5):
        raise cursor.fail("version 4 or 5", f"{version}", at=0)
    at = cursor.offset
    key_type = cursor.u16("attestation key type")
    if key_type != _ECDSA_P256:
        raise cursor.fail(f"an ECDSA P-256 attestation key, type {_ECDSA_P256}", f"type {key_type}", at=at)
    at = cursor.offset
    tee = cursor.u32("TEE type")
    if tee != _TDX_TEE:
        raise cursor.fail(f"a quote of a TD, TEE type {_TDX_TEE:#x}", f"TEE type {tee:#x}", at=at)
    cursor.take(4, "reserved bytes")
    return version, cursor.take(16, "QE vendor"), cursor.take(20, "user data")


def _body(cursor: LittleEndianCursor, version: int) -> TdBody:
    if version == 4:
        return read_quote_body(cursor, tdx_1_5=False)
    at = cursor.offset
    kind, size = cursor.u16("body type"), cursor.u32("body size")
    if _BODY_TYPES.get(kind) != size:
        expected = "a TDX 1.0 body, type 2 of 584 bytes, or a TDX 1.5 body, type 3 of 648"
        raise cursor.fail(expected, f"type {kind} of {size}", at=at)
    return read_quote_body(cursor, tdx_1_5=kind == 3)


def _certification(cursor: LittleEndianCursor, kind: int, name: str) -> None:
    """The head of certification data, which must be of type ``kind`` and reach to the quote's end."""
    at = cursor.offset
    found, size = cursor.u16("certification data type"), cursor.u32("the size of the certification data")
    if found != kind:
        raise cursor.fail(f"{name}, certification data type {kind}", f"type {found}", at=at)
    if size != cursor.remaining:
        raise cursor.fail(f"{cursor.remaining} bytes of certification data", f"a size of {size}", at=at)


def _qe_report(cursor: LittleEndianCursor) -> QeReport:
    """An SGX REPORTBODY. Intel SDM, volume 3D, section 38.15."""
    data = cursor.take(_QE_REPORT_SIZE, "QE report")
    return QeReport(
        data=data,
        misc_select=data[16:20],
        attributes=data[48:64],
        mr_enclave=data[64:96],
        mr_signer=data[128:160],
        isv_prod_id=int.from_bytes(data[256:258], "little"),
        isv_svn=int.from_bytes(data[258:260], "little"),
        report_data=data[-REPORT_DATA_SIZE:],
    )


def _pck_chain(cursor: LittleEndianCursor) -> tuple[bytes, ...]:
    """The rest of the quote, as certificates; offsets in errors are the quote's."""
    at = cursor.offset
    try:
        return parse_pem_chain(cursor.take(cursor.remaining, "PCK certificate chain"))
    except MalformedInput as error:
        raise cursor.fail(error.expected, error.found, at=at + error.offset) from error
