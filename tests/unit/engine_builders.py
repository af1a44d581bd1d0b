"""Measurements for tests of the engine, and what its lists say."""

from imarium.chain import replay
from imarium.engine import (
    Measurement,
    builtin_policy,
    list_layout,
)
from imarium.formats import BUILTIN_TEMPLATES, IMA_PCR, PcrIndex, encode_record, template
from imarium.formats.fields import join_fields
from imarium.hashes import SHA1, SHA384

EVERYTHING = builtin_policy(["tcb", "critical_data"])


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


def names(engine):
    """Of all records that an engine has."""
    records = [*engine.queue.staged, *engine.queue.current]
    return [measured.record(0, SHA1).name for measured in records]


def listed(*lists):
    """The records of several lists, as the kernel would list them."""
    return b"".join(encode_record(m.record(0, SHA1)) for records in lists for m in records)


def reached(data, bank=SHA384):
    """What the list's replay leads to: all of it goes to one register, whatever its number."""
    result = replay([data], list_layout(SHA1, "little"), [bank])
    assert not result.bad_digests
    assert set(result.state.values) == {IMA_PCR}
    return result.state.values[IMA_PCR][bank]
