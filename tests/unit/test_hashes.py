"""Hash algorithms by name and identifier."""

import hashlib

import pytest
from tests.unit.builders import SIZES, hashed

from imarium import hashes
from imarium.errors import MissingComponent, UsageError


@pytest.mark.parametrize("name", sorted(SIZES))
def test_register_banks(name):
    algorithm = hashes.by_name(name)
    assert algorithm.name == name
    assert algorithm.size == SIZES[name]
    assert algorithm.computable
    assert algorithm.digest(b"abc") == hashed(name, b"abc")
    assert algorithm.constructor()(b"abc").digest() == hashed(name, b"abc")
    assert hashes.by_tcg_id(algorithm.tcg_id) is algorithm


def test_tcg_identifiers():
    identifiers = {a.name: a.tcg_id for a in hashes.ALGORITHMS if a.tcg_id}
    assert identifiers == {
        "sha1": 0x4,
        "sha256": 0xB,
        "sha384": 0xC,
        "sha512": 0xD,
        "sm3": 0x12,
        "sha3-256": 0x27,
        "sha3-384": 0x28,
        "sha3-512": 0x29,
    }
    assert hashes.by_tcg_id(0x10) is None
    assert hashes.by_tcg_id(0) is None


@pytest.mark.parametrize(
    ("name", "means"), [("SHA256", "sha256"), ("sm3_256", "sm3"), ("sha3_384", "sha3-384"), ("sm3-256", "sm3")]
)
def test_names_of_other_tools(name, means):
    assert hashes.by_name(name).name == means


@pytest.mark.parametrize("name", ["", "sha", "sha257", "new", "md5\n", "tpm_alg_27"])
def test_unknown_names_are_refused(name):
    with pytest.raises(UsageError, match="unknown hash algorithm") as caught:
        hashes.by_name(name)
    assert "\n" not in str(caught.value)


def test_sizes_are_those_of_the_digests():
    for algorithm in hashes.ALGORITHMS:
        if algorithm.computable:
            assert len(algorithm.digest(b"")) == algorithm.size


def test_what_openssl_lacks_is_missing():
    assert not hashes.by_name("tgr192").computable
    with pytest.raises(MissingComponent, match="cannot compute tgr192"):
        hashes.by_name("tgr192").digest(b"")


def test_md5_is_computed_as_no_security_use():
    assert hashes.by_name("md5").digest(b"") == hashlib.md5(b"", usedforsecurity=False).digest()
