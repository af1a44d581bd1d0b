"""From an open file to what a record says of it."""

import os
from collections.abc import Mapping

from imarium.engine.content import fingerprint, hash_content
from imarium.engine.naming import file_name
from imarium.engine.template_data import Event
from imarium.engine.verity import verity_digest
from imarium.engine.xattrs import (
    EVM,
    IMA,
    algorithm_of,
    evm_attributes,
    evm_signature_field,
    read_attribute,
    signature_field,
)
from imarium.errors import ImariumError
from imarium.formats import ByteOrder, Template
from imarium.hashes import SHA1, HashAlgorithm

__all__ = ["ContentChanging", "NoVerityDigest", "collect", "violation"]

_ATTEMPTS = 3
_EVM_FIELDS = frozenset({"evmsig", "xattrnames", "xattrlengths", "xattrvalues", "iuid", "igid", "imode"})


class NoVerityDigest(ImariumError):
    """A rule asks for the digest of fs-verity, and the file has none: it is not measured, as by the kernel."""

    code = "no_verity_digest"

    def __init__(self, name: bytes) -> None:
        super().__init__(f"{os.fsdecode(name)!r} is not measured: a rule asks for fs-verity, which it has not enabled")


class ContentChanging(ImariumError):
    """A file that changed each time it was hashed."""

    code = "content_changing"

    def __init__(self, name: bytes) -> None:
        super().__init__(f"{os.fsdecode(name)!r} is not measured: it changes while it is read")


def collect(
    descriptor: int,
    default: HashAlgorithm,
    template: Template,
    order: ByteOrder,
    *,
    verity: bool = False,
    content: bytes | None = None,
) -> Event:
    """What to record of the file's content. It is hashed anew while it changes; not if it is given as it was read.

    Raises OSError where it cannot be read, NoVerityDigest, ContentChanging.
    """
    name = file_name(descriptor)
    ima = read_attribute(descriptor, IMA)
    algorithm = algorithm_of(ima, default)
    algorithms = (algorithm, SHA1) if _has(template, "d") else (algorithm,)
    signature = signature_field(ima, read_attribute(descriptor, EVM))
    more = _more(descriptor, template, order)
    if verity:
        found = verity_digest(descriptor)
        if found is None:
            raise NoVerityDigest(name)
        sha1 = hash_content(descriptor, (SHA1,))[0] if _has(template, "d") else b""
        return Event(name, *found, sha1=sha1, verity=True, signature=signature, more=more)
    if content is not None:
        digest, *old = (one.digest(content) for one in algorithms)
        return Event(name, algorithm, digest, sha1=b"".join(old), signature=signature, more=more)
    for _ in range(_ATTEMPTS):
        before = fingerprint(os.fstat(descriptor))
        digest, *old = hash_content(descriptor, algorithms)
        if fingerprint(os.fstat(descriptor)) == before:
            return Event(name, algorithm, digest, sha1=b"".join(old), signature=signature, more=more)
    raise ContentChanging(name)


def violation(descriptor: int, algorithm: HashAlgorithm, template: Template, order: ByteOrder) -> Event:
    """What to record where the content stands for nothing: name and attributes alone."""
    evm = signature_field(b"", read_attribute(descriptor, EVM))
    more = _more(descriptor, template, order)
    return Event(file_name(descriptor), algorithm, signature=evm, violation=True, more=more)


def _has(template: Template, name: str) -> bool:
    return any(spec.name == name for spec in template.fields)


def _more(descriptor: int, template: Template, order: ByteOrder) -> Mapping[str, bytes]:
    """The fields that only few templates have."""
    if not any(spec.name in _EVM_FIELDS for spec in template.fields):
        return {}
    status = os.fstat(descriptor)
    names, lengths, values = evm_attributes(descriptor, order)
    return {
        "evmsig": evm_signature_field(read_attribute(descriptor, EVM)),
        "xattrnames": names and names + b"\0",
        "xattrlengths": lengths,
        "xattrvalues": values,
        "iuid": status.st_uid.to_bytes(4, order),
        "igid": status.st_gid.to_bytes(4, order),
        "imode": status.st_mode.to_bytes(2, order),
    }
