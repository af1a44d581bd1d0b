"""What happens inside the guest in the tests of evidence: ``evidence_session.py SESSION``, results in /shared.

Commands run in forked children of a Python that has imported everything, for speed. The verifier's part, here only to
learn where to go on, is done again outside.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from imarium import cli
from imarium.attester import make_evidence
from imarium.custody import Custody, Whole
from imarium.custody.machine import boot_id, registers_of
from imarium.formats.registers import IMA_PCR
from imarium.formats.tpm import parse_public
from imarium.hashes import SHA1, SHA256
from imarium.rot import TpmRoot, load_key
from imarium.securityfs import ImaDirectory
from imarium.verifier import TpmTrust, VerifierState, appraise

SHARED = Path("/shared")
STORE = Path("/var/lib/imarium-test-store")
IMA = ImaDirectory(patience=5.0)
REGISTERS = registers_of(IMA.path)
PROGRAMS = Path("/opt/imarium-test")


def run_program(name: str) -> None:
    """Run a program that was never run before, so that it is measured."""
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    path = PROGRAMS / name
    shutil.copy("/bin/true", path)
    with path.open("ab") as file:
        file.write(name.encode())
    subprocess.run([path], check=True)


def imarium(*arguments: str) -> dict[str, object]:
    """Run the command line in a child; its exit status and the JSON document it printed."""
    output = Path("/run/imarium.out")
    child = os.fork()
    if child == 0:
        with output.open("w") as file:
            os.dup2(file.fileno(), 1)
        sys.argv = ["imarium", *arguments]
        cli.main()
    _, status = os.waitpid(child, 0)
    text = output.read_text()
    return {"status": os.waitstatus_to_exitcode(status), "document": json.loads(text) if text else None}


def save_lists() -> None:
    """The kernel's list in each form, and the registers, all of one moment."""
    files = [f"{form}_runtime_measurements_{bank}" for form in ("ascii", "binary") for bank in ("sha1", "sha256")]
    while True:
        before = IMA.count(), REGISTERS([IMA_PCR])
        contents = {name: (IMA.path / name).read_bytes() for name in files}
        if (IMA.count(), REGISTERS([IMA_PCR])) == before:
            break
    for name, content in contents.items():
        (SHARED / name).write_bytes(content)
    values = {bank.name: value.hex() for bank, value in before[1][IMA_PCR].items()}
    (SHARED / "registers.json").write_text(json.dumps(values))


def view() -> Whole:
    """The log as it is now."""
    return Custody(STORE).whole(IMA, boot_id=boot_id(), registers=REGISTERS)


def attest(number: int, nonce: str, *arguments: str) -> VerifierState:
    """Makes evidence, and appraises it as a verifier without a state would, to learn where to go on."""
    output = SHARED / f"evidence-{number}.cbor"
    done = imarium("attest", "--json", "--nonce", nonce, "--store", str(STORE), "-o", str(output), *arguments)
    assert done["status"] == 0, done
    state = STATES[-1] if arguments else None
    ak = parse_public((STORE / "ak" / "ak.pub").read_bytes())
    result = appraise(output.read_bytes(), nonce=bytes.fromhex(nonce), trust=[TpmTrust(ak)], state=state)
    assert result.state is not None, result.reasons
    STATES.append(result.state)
    return result.state


STATES: list[VerifierState] = []


def story(nonces: list[str]) -> dict[str, object]:
    """Two drains, two pieces of evidence, the second from where the first ended, and a third with a list ahead."""
    save_lists()
    keep = [imarium("keep", "--once", "--json", "--store", str(STORE))]
    for name in ("one", "two"):
        run_program(name)
    keep.append(imarium("keep", "--once", "--json", "--store", str(STORE)))
    run_program("not-kept-yet")
    state = attest(1, nonces[0])
    for name in ("three", "four"):
        run_program(name)
    keep.append(imarium("keep", "--once", "--json", "--store", str(STORE)))
    run_program("five")
    attest(2, nonces[1], "--from", str(state.chain.records))
    ahead(nonces[2])
    shutil.copy(STORE / "ak" / "ak.pub", SHARED / "ak.pub")
    return {"keep": keep, "first": state.chain.records, "exported": export()}


def ahead(nonce: str) -> None:
    """Evidence whose list was read after two more programs ran: the quote cannot cover them."""

    def later() -> Whole:
        for name in ("late-one", "late-two"):
            run_program(name)
        return view()

    with TpmRoot(ak=load_key(STORE / "ak")) as rot:
        evidence = make_evidence(rot, later, nonce=bytes.fromhex(nonce))
    (SHARED / "evidence-3.cbor").write_bytes(evidence.encode())


def export() -> dict[str, str]:
    """The whole log as a list file, and the registers at that moment."""
    while True:
        before = REGISTERS([IMA_PCR])[IMA_PCR]
        content = b"".join(view().blocks())
        values = {bank: (Path("/sys/class/tpm/tpm0") / f"pcr-{bank}" / "10").read_text() for bank in ("sha1", "sha256")}
        if REGISTERS([IMA_PCR])[IMA_PCR] == before:
            break
    (SHARED / "exported").write_bytes(content)
    assert {SHA1, SHA256} <= set(before)
    return values


def late(nonces: list[str]) -> dict[str, object]:
    """One piece of evidence, with no program run but what the boot ran."""
    keep = imarium("keep", "--once", "--json", "--store", str(STORE))
    attest(1, nonces[0])
    shutil.copy(STORE / "ak" / "ak.pub", SHARED / "ak.pub")
    return {"keep": keep}


SESSIONS: dict[str, Callable[[list[str]], dict[str, object]]] = {"story": story, "late": late}

if __name__ == "__main__":
    (SHARED / "out.json").write_text(json.dumps(SESSIONS[sys.argv[1]](sys.argv[2:])))
