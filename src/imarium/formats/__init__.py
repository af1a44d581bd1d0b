"""Bytes to values and back: bounded, total, without I/O.

Here are the measurement list's formats; :mod:`imarium.formats.tpm` has the TPM's structures and
:mod:`imarium.formats.evidence` the evidence file. What is parsed is a claim; only appraisal gives facts.
"""

from imarium.formats.ascii import ascii_line, display_line, display_name, read_ascii
from imarium.formats.fields import ByteOrder, FieldDigest
from imarium.formats.kexec import KexecHeader, list_in_kexec_buffer
from imarium.formats.lists import ListForm, ListKind, detect_form, read_frames, read_list
from imarium.formats.pcrs import parse_pcr_option, parse_pcrread
from imarium.formats.records import Frame, ListLayout, Record, RecordFramer, encode_record, read_records
from imarium.formats.registers import IMA_PCR, LIST_PCRS, PcrIndex
from imarium.formats.templates import BUILTIN_TEMPLATES, FieldKind, FieldSpec, Template, template

__all__ = [
    "BUILTIN_TEMPLATES",
    "IMA_PCR",
    "LIST_PCRS",
    "ByteOrder",
    "FieldDigest",
    "FieldKind",
    "FieldSpec",
    "Frame",
    "KexecHeader",
    "ListForm",
    "ListKind",
    "ListLayout",
    "PcrIndex",
    "Record",
    "RecordFramer",
    "Template",
    "ascii_line",
    "detect_form",
    "display_line",
    "display_name",
    "encode_record",
    "list_in_kexec_buffer",
    "parse_pcr_option",
    "parse_pcrread",
    "read_ascii",
    "read_frames",
    "read_list",
    "read_records",
    "template",
]
