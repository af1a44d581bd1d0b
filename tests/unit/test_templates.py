"""Templates: built in, custom, and what is neither."""

import pytest
from tests.unit.builders import TEMPLATES

from imarium.formats.templates import BUILTIN_TEMPLATES, FIELD_KINDS, FieldKind, template


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_every_template_has_the_fields_of_the_kernel(name):
    found = template(name.encode())
    assert found is not None
    assert tuple(spec.name for spec in found.fields) == TEMPLATES[name]
    assert found.name == name
    assert found.is_legacy is (name == "ima")


def test_all_built_in_templates_are_covered():
    assert set(BUILTIN_TEMPLATES) == {name for name in TEMPLATES if "|" not in name}


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"ima-xx",
        b"d-ng|",
        b"|d-ng",
        b"d-ng||n-ng",
        b"d-ng|nope",
        b"ima|n",
        b"IMA",
        b"ima\0",
        b"\xff",
        b"d-ng n-ng",
    ],
)
def test_unknown_names_have_no_template(name):
    assert template(name) is None


def test_a_custom_template_has_at_most_fifteen_fields():
    assert template(b"|".join([b"sig"] * 15)) is not None
    assert template(b"|".join([b"sig"] * 16)) is None


def test_integer_fields_have_the_kernels_widths():
    widths = {name: spec.width for name, spec in FIELD_KINDS.items() if spec.kind is FieldKind.UINT}
    assert widths == {"iuid": 4, "igid": 4, "imode": 2}
