"""The driver on a real kernel's resource manager, in a virtual machine, while IMA extends the register it quotes."""

import shlex
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]

# Runs inside. Programs that were never run before are measured: each is one more extend of PCR 10.
INSIDE = """
import shutil, subprocess, sys, threading
from pathlib import Path
from imarium.formats.registers import PcrIndex
from imarium.formats.tpm import SignatureScheme
from imarium.hashes import SHA1, SHA256
from imarium.rot import KeyKind, Tpm, load_key, read_sysfs, save_key
from imarium.verifier.quote import check_quote

every = tuple(PcrIndex(index) for index in range(24))
with Tpm() as tpm:
    assert tpm.banks() == (SHA1, SHA256), tpm.banks()
    assert tpm.read(every) == read_sysfs()
    key = tpm.create_ak(KeyKind(SignatureScheme.ECDSA))
save_key(Path("/run/ak"), key)
stop = threading.Event()
measured = 0

def disturb():
    global measured
    while not stop.is_set():
        program = Path(f"/run/true{measured}")
        program.write_bytes(Path("/bin/true").read_bytes() + str(measured).encode())
        program.chmod(0o700)
        subprocess.run([program], check=True)
        program.unlink()
        measured += 1

thread = threading.Thread(target=disturb)
thread.start()
seen = set()
try:
    with Tpm(None, load_key(Path("/run/ak"))) as tpm:
        for number in range(10):
            nonce = bytes([number]) * 20
            quote = tpm.quote(nonce, {SHA256: every, SHA1: every})
            outcome = check_quote(quote.attest, quote.signature, quote.ak, trusted_name=key.name, nonce=nonce,
                                  values=quote.values, required={SHA256: (PcrIndex(10),)})
            assert outcome.good, outcome.reasons
            seen.add(quote.values[SHA256][PcrIndex(10)])
finally:
    stop.set()
    thread.join()
print("measured", measured, "seen", len(seen))
"""


def test_quotes_agree_with_their_values_while_the_kernel_measures(tmp_path: Path) -> None:
    (tmp_path / "inside.py").write_text(INSIDE)
    python = ["env", f"PYTHONPATH={PROJECT / 'src'}", "PYTHONDONTWRITEBYTECODE=1", sys.executable]
    arguments = [
        "--timeout",
        "240",
        "--append",
        "ima_policy=tcb",
        "--share",
        str(tmp_path),
        "--visible",
        sys.prefix,
        "--",
    ]
    finished = subprocess.run(
        [str(PROJECT / "vm" / "run"), *arguments, "sh", "-c", f"{shlex.join(python)} /shared/inside.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    word, measured, _, seen = finished.stdout.split()[-4:]
    assert word == "measured"
    assert int(measured) > 3
    assert int(seen) > 1, "the register never changed while it was quoted"
