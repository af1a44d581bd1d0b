"""The public API is what each package exports; a change of it is a decision, made here too."""

import importlib

import pytest

EXPORTS = {
    "imarium": {"__version__"},
    "imarium.attester": {"LogView", "make_evidence", "make_native_evidence"},
    "imarium.chain": {
        "BOOT_AGGREGATE_NAMES",
        "BootAggregate",
        "ChainState",
        "Matches",
        "RegisterValues",
        "Replay",
        "ReplayResult",
        "extend",
        "initial_value",
        "replay",
        "violation_digest",
    },
    "imarium.formats": {
        "BUILTIN_TEMPLATES",
        "IMA_PCR",
        "LIST_PCRS",
        "ByteOrder",
        "FieldDigest",
        "FieldKind",
        "FieldSpec",
        "Frame",
        "KexecHeader",
        "ListForm",
        "ListKind",
        "ListLayout",
        "PcrIndex",
        "Record",
        "RecordFramer",
        "Template",
        "ascii_line",
        "detect_form",
        "display_line",
        "display_name",
        "encode_record",
        "list_in_kexec_buffer",
        "parse_pcr_option",
        "parse_pcrread",
        "read_ascii",
        "read_frames",
        "read_list",
        "read_records",
        "template",
    },
    "imarium.verifier": {
        "CcaTrust",
        "LogIdentity",
        "Reason",
        "Result",
        "SoftwareTrust",
        "TdxTrust",
        "TpmTrust",
        "Trust",
        "VerifierState",
        "VirtccaTrust",
        "appraise",
    },
}


@pytest.mark.parametrize("name", sorted(EXPORTS))
def test_a_package_exports_what_is_agreed(name):
    module = importlib.import_module(name)
    assert set(module.__all__) == EXPORTS[name]
    assert all(hasattr(module, member) for member in module.__all__)
