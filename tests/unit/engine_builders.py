"""Measurements for tests of the engine."""

from imarium.engine import Measurement
from imarium.formats import BUILTIN_TEMPLATES, IMA_PCR, PcrIndex, template
from imarium.formats.fields import join_fields


def measurement(
    number: int, *, name: str = "", pcr: int = IMA_PCR, template_name: str = "ima-ng", violation: bool = False
) -> Measurement:
    """A measurement of a file whose digest is its number."""
    found = template(template_name.encode())
    assert found is not None
    digest = bytes(32) if violation else number.to_bytes(32, "big")
    values = {
        "d": digest[-20:],
        "n": (name or f"/usr/bin/program{number}").encode(),
        "d-ng": b"sha256:\0" + digest,
        "n-ng": (name or f"/usr/bin/program{number}").encode() + b"\0",
        "d-ngv2": b"ima:sha256:\0" + digest,
        "buf": b"data",
    }
    fields = tuple(values.get(spec.name, b"") for spec in found.fields)
    return Measurement(PcrIndex(pcr), found, join_fields(found, fields, "little"), violation)


def every_template() -> list[Measurement]:
    """One measurement in each built-in template."""
    return [measurement(number, template_name=name) for number, name in enumerate(BUILTIN_TEMPLATES, 1)]
