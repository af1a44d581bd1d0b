"""A record as a JSON document, for people and programs that do not read the kernel's forms."""

from imarium.formats.ascii import display_name
from imarium.formats.fields import field_name, field_text
from imarium.formats.records import Record
from imarium.formats.templates import FieldKind

__all__ = ["record_document"]


def record_document(record: Record) -> dict[str, object]:
    """A record as a JSON document. A name that is no printable text has its bytes in hexadecimal beside it.

    Raises MalformedRecord for fields that are broken.
    """
    fields: dict[str, str] = {}
    order = record.layout.byte_order
    for spec, raw in zip(record.template.fields, record.fields, strict=True):
        if spec.kind is FieldKind.STRING:
            name = field_name(spec, raw)
            fields[spec.name] = display_name(name)
            if display_name(name).encode() != name:
                fields[f"{spec.name}_hex"] = name.hex()
        else:
            fields[spec.name] = field_text(spec, raw, order).decode("ascii")
    return {
        "record": record.number,
        "offset": record.offset,
        "pcr": record.pcr,
        "template_digest": record.template_digest.hex(),
        "template": record.template.name,
        "violation": record.is_violation,
        "digest_is_good": record.digest_is_good,
        "fields": fields,
    }
