"""Templates of the IMA measurement list: which fields a record has, by the name it carries.

See the kernel's ``Documentation/security/IMA-templates.rst``. A template is one of eight built-in ones, or a custom
one that is named by its format string: field names joined by ``|``.
"""

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

__all__ = [
    "BUILTIN_TEMPLATES",
    "FIELD_KINDS",
    "MAX_TEMPLATE_NAME",
    "FieldKind",
    "FieldSpec",
    "Template",
    "template",
]

MAX_TEMPLATE_NAME = 255
"""Longest template name accepted, in bytes. The kernel's own longest is 67."""

MAX_FIELDS = 15
"""Most fields in a template (the kernel's TEMPLATE_NUM_FIELDS_MAX)."""


class FieldKind(Enum):
    """How a field's bytes are made up, and so how the kernel prints them in ASCII."""

    DIGEST = "digest"
    """A bare digest."""
    DIGEST_WITH_ALGO = "algo:digest"
    """``algo:`` NUL digest."""
    DIGEST_WITH_TYPE_AND_ALGO = "type:algo:digest"
    """``type:algo:`` NUL digest."""
    STRING = "string"
    """Text ended by a NUL."""
    HEX = "hex"
    """Any bytes."""
    UINT = "uint"
    """An unsigned integer of 1, 2, 4 or 8 bytes in the list's byte order."""


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """A field of a template. ``width`` is the size the kernel gives an integer field, in bytes, else 0."""

    name: str
    kind: FieldKind
    width: int = 0


FIELD_KINDS: dict[str, FieldSpec] = {
    spec.name: spec
    for spec in (
        FieldSpec("d", FieldKind.DIGEST),
        FieldSpec("n", FieldKind.STRING),
        FieldSpec("d-ng", FieldKind.DIGEST_WITH_ALGO),
        FieldSpec("d-ngv2", FieldKind.DIGEST_WITH_TYPE_AND_ALGO),
        FieldSpec("n-ng", FieldKind.STRING),
        FieldSpec("sig", FieldKind.HEX),
        FieldSpec("buf", FieldKind.HEX),
        FieldSpec("d-modsig", FieldKind.DIGEST_WITH_ALGO),
        FieldSpec("modsig", FieldKind.HEX),
        FieldSpec("evmsig", FieldKind.HEX),
        FieldSpec("xattrnames", FieldKind.STRING),
        FieldSpec("xattrlengths", FieldKind.HEX),
        FieldSpec("xattrvalues", FieldKind.HEX),
        FieldSpec("iuid", FieldKind.UINT, width=4),
        FieldSpec("igid", FieldKind.UINT, width=4),
        FieldSpec("imode", FieldKind.UINT, width=2),
    )
}

BUILTIN_TEMPLATES: dict[str, str] = {
    "ima": "d|n",
    "ima-ng": "d-ng|n-ng",
    "ima-sig": "d-ng|n-ng|sig",
    "ima-ngv2": "d-ngv2|n-ng",
    "ima-sigv2": "d-ngv2|n-ng|sig",
    "ima-buf": "d-ng|n-ng|buf",
    "ima-modsig": "d-ng|n-ng|sig|d-modsig|modsig",
    "evm-sig": "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",
}


@dataclass(frozen=True, slots=True)
class Template:
    """A template: the name a record carries and the fields it stands for."""

    name: str
    fields: tuple[FieldSpec, ...]

    @property
    def is_legacy(self) -> bool:
        """Whether this is the original ``ima`` template, whose data has a layout of its own."""
        return self.name == "ima"


@lru_cache(maxsize=256)
def template(name: bytes) -> Template | None:
    """The template a record names, or None if the name is neither built in nor a format of known fields."""
    if not 0 < len(name) <= MAX_TEMPLATE_NAME or not name.isascii():
        return None
    text = name.decode("ascii")
    names = BUILTIN_TEMPLATES.get(text, text).split("|")
    if len(names) > MAX_FIELDS or not all(field in FIELD_KINDS for field in names):
        return None
    return Template(text, tuple(FIELD_KINDS[field] for field in names))
