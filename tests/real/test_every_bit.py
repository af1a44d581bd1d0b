"""Every bit of what roots of trust sign counts: all of them here, where the quick tests take samples."""

import pytest
from tests.unit import test_appraise_snp, test_cca_real, test_quote, test_snp_real


def test_of_a_real_snp_report() -> None:
    test_snp_real.assert_each_bit_counts(step=1)


def test_of_a_real_cca_token() -> None:
    test_cca_real.assert_each_bit_counts(step=7)


@pytest.mark.parametrize("kind", test_quote.KEYS)
def test_of_a_quote_and_its_signature(kind: str) -> None:
    test_quote.assert_each_bit_counts(kind, step=1)


@pytest.mark.parametrize("name", test_appraise_snp.MEMBERS)
def test_of_a_guests_evidence(name: str) -> None:
    test_appraise_snp.assert_each_bit_counts(name, step=7)
