"""From what was measured to template data: each field as the kernel's ``ima_template_lib.c`` makes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from imarium.errors import UsageError
from imarium.formats import ByteOrder, FieldKind, FieldSpec, Template, template
from imarium.formats.fields import MalformedField, check_field, join_fields
from imarium.hashes import SHA1, HashAlgorithm

__all__ = ["Event", "event_data", "find_template"]

MAX_LEGACY_NAME = 255
"""The field ``n`` holds no longer name (the kernel's IMA_EVENT_NAME_LEN_MAX)."""


@dataclass(frozen=True, slots=True)
class Event:
    """What was measured.

    ``digest`` is of ``algorithm``; ``sha1`` is the content's SHA-1 digest where a template has the field ``d``.
    ``verity`` says that it is the digest of fs-verity. ``signature`` is the ``security.ima`` attribute if that is a
    signature. ``more`` has the raw bytes of other fields by name; one that is not there is empty. The digests of a
    violation do not count.
    """

    name: bytes
    algorithm: HashAlgorithm
    digest: bytes = b""
    sha1: bytes = b""
    verity: bool = False
    signature: bytes = b""
    buffer: bytes = b""
    violation: bool = False
    more: Mapping[str, bytes] = field(default_factory=dict)


def find_template(name: str) -> Template:
    """The template of this name or format. Raises UsageError."""
    found = template(name.encode(errors="replace"))
    if found is None:
        raise UsageError(f"unknown template {name!r}; give a built-in one such as ima-ng, or fields such as d-ng|n-ng")
    return found


def event_data(found: Template, event: Event, byte_order: ByteOrder) -> bytes:
    """The template data of a record for this event. Raises UsageError for one that does not fit the template."""
    values = dict(event.more) | _values(found, event)
    return join_fields(found, tuple(_checked(spec, values.get(spec.name, b"")) for spec in found.fields), byte_order)


def _values(found: Template, event: Event) -> dict[str, bytes]:
    digest, name = _named_digest(event), _listed(event.name)
    short = _listed(_short(event.name))
    return {
        "d": bytes(SHA1.size) if event.violation else event.sha1,
        "d-ng": digest,
        "d-ngv2": (b"verity:" if event.verity else b"ima:") + digest,
        "n": short if found.is_legacy else short + b"\0",
        "n-ng": name + b"\0",
        "sig": event.signature,
        "buf": event.buffer,
    }


def _checked(spec: FieldSpec, raw: bytes) -> bytes:
    """The field's bytes. Raises UsageError for what no reader would take."""
    if spec.kind is not FieldKind.STRING:
        try:
            check_field(spec, raw)
        except MalformedField as error:
            raise UsageError(f"the event does not fit the template: expected {error.expected}") from error
    return raw


def _named_digest(event: Event) -> bytes:
    digest = bytes(event.algorithm.size) if event.violation else event.digest
    return event.algorithm.name.encode() + b":\0" + digest


def _listed(name: bytes) -> bytes:
    """A name as lists have it: spaces would part fields in the ASCII list, and a NUL ends it."""
    return name.partition(b"\0")[0].replace(b" ", b"_")


def _short(name: bytes) -> bytes:
    """A name for the field ``n``: of a longer one the part behind the last slash, cut where that is longer too."""
    if len(name) > MAX_LEGACY_NAME and name.startswith(b"/"):
        name = name.rpartition(b"/")[2]
    return name[:MAX_LEGACY_NAME]
