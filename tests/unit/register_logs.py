"""Registers for tests of their event logs, and values computed the plain way."""

from imarium import hashes
from imarium.registers import (
    Access,
    EventLog,
    Register,
)
from imarium.registers.text import Kind, read_lines

SHA256 = hashes.SHA256
RTMR = Register("rtmr", 32, SHA256, Access.RTMR | Access.W)
STATIC = Register("static", 32, SHA256, Access.R)


def chain(value: bytes, *digests: bytes) -> bytes:
    for digest in digests:
        value = SHA256.digest(value + digest)
    return value


def events(value: bytes, *lines: bytes) -> bytes:
    return chain(value, *map(SHA256.digest, lines))


def last_sync(log: EventLog) -> int:
    lines = read_lines([log.read()], SHA256)
    return [line.number for line in lines if line.kind is Kind.SYNC][-1]
