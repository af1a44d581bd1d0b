"""Fuzz what devices of guests say: ``python tests/fuzz/fuzz_guests.py TARGET [libFuzzer options]``.

Quotes, tokens, reports, event logs and the logs of measurement registers come from a machine nobody trusts. Nothing but
imarium's own errors may leave a parser, in one line.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
with atheris.instrument_imports(include=["imarium"]):
    from imarium.errors import ImariumError
    from imarium.formats.cca import parse_cca_token, parse_cose_key, parse_jwk
    from imarium.formats.eventlog import (
        CC_LOG,
        TPM_LOG,
        LogKind,
        application_events,
        parse_ccel_table,
        parse_event_log,
        replay_events,
        rtmr_values,
    )
    from imarium.formats.snp import parse_certificate_table, parse_snp_report, parse_vtpm_manifest
    from imarium.formats.software import SoftwareStatement
    from imarium.formats.tdx import parse_td_report, parse_tdx_quote
    from imarium.formats.tpm import parse_credential
    from imarium.hashes import SHA384
    from imarium.registers.text import event_lines, read_lines


def guests(data: bytes) -> None:
    """Any bytes, to each parser of what a guest's device says."""
    parsers: tuple[Callable[[bytes], object], ...] = (
        parse_tdx_quote,
        parse_td_report,
        parse_cca_token,
        parse_cose_key,
        parse_snp_report,
        parse_certificate_table,
        parse_ccel_table,
        parse_jwk,
        lambda given: parse_vtpm_manifest(given, 0),
    )
    for parse in parsers:
        _tried(parse, data)
    statement = _tried(SoftwareStatement.decode, data)
    assert statement is None or statement.encode() == data
    credential = _tried(parse_credential, data)
    assert credential is None or credential.encode() == data


def eventlog(data: bytes) -> None:
    """A log of firmware's, replayed."""
    for parse, registers in ((partial(_replayed, CC_LOG), rtmr_values), (partial(_replayed, TPM_LOG), dict)):
        values = _tried(parse, data)
        if values is not None:
            registers(values)


def _replayed(kind: LogKind[Any], data: bytes) -> object:
    log = parse_event_log(data, kind)
    list(application_events(log))
    return replay_events(log, (SHA384,))


def registerlog(data: bytes) -> None:
    """The event log of a measurement register, and text to append to one."""
    middle = len(data) // 2
    whole = _tried(lambda given: list(read_lines([given], SHA384)), data)
    halves = _tried(lambda given: list(read_lines([given[:middle], given[middle:]], SHA384)), data)
    assert whole == halves, "a log reads otherwise in blocks"
    for line in _tried(event_lines, data) or ():
        assert line.strip(b" \t\v\f") == line
        assert line
        assert b"\n" not in line


def _tried(parse: Callable[[bytes], Any], data: bytes) -> Any:
    """What the parser makes of it; None where it refuses."""
    try:
        return parse(data)
    except ImariumError as error:
        assert "\n" not in str(error), "an error of more than one line"
        return None


TARGETS = {target.__name__: target for target in (guests, eventlog, registerlog)}


def main() -> None:
    """Fuzz the target named first on the command line."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: fuzz_guests.py {'|'.join(TARGETS)} [libFuzzer options] [corpus directory]")
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
