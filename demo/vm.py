"""imarium on a real kernel, told as a story: measured, kept, proved, appraised, tampered with, caught."""

import os
import secrets
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from vm.errors import VmError  # noqa: E402
from vm.kernels import kernel  # noqa: E402
from vm.machine import Setup, run  # noqa: E402

from imarium.cli.demo_story import tamper  # noqa: E402

PROGRAMS = Path(sys.executable).parent
VICTIM = b"/usr/bin/sort"
POLICY = "ima_policy=tcb ima_policy=critical_data"
TIMEOUT = 600


def say(text: str) -> None:
    """A heading of the story."""
    print(f"\n== {text}", flush=True)


def call(*arguments: str, status: int) -> None:
    """Run imarium here, outside the machine, and hold it to its exit status."""
    print(f"$ {shlex.join(('imarium', *arguments))}", flush=True)
    done = subprocess.run([str(PROGRAMS / "imarium"), *arguments], check=False)
    if done.returncode != status:
        sys.exit(f"the demonstration failed: exit status {done.returncode} instead of {status}")


def in_the_machine(share: Path, nonce: str) -> None:
    """The machine's part, up to the evidence it leaves in ``share``."""
    say("Booting a virtual machine with a TPM; it runs from this machine's own files and changes none")
    environment = {
        "NONCE": nonce,
        "PATH": f"{PROGRAMS}:{os.environ.get('PATH', os.defpath)}",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
    }
    setup = Setup(
        kernel=kernel(),
        command=(str(PROJECT / "demo" / "guest"),),
        append=POLICY,
        share=share,
        environment=environment,
    )

    def show(chunk: bytes) -> None:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()

    done = run(setup, TIMEOUT, show)
    if done.status:
        sys.exit(f"the demonstration failed in the machine: exit status {done.status}")


def main() -> None:
    """The whole story."""
    with tempfile.TemporaryDirectory(prefix="imarium-demo-") as name:
        share, nonce = Path(name), secrets.token_hex(32)
        in_the_machine(share, nonce)
        evidence, ak = share / "evidence.cbor", share / "store" / "ak" / "ak.pub"

        say("Outside, the verifier has the evidence and the TPM's key, and trusts nothing else")
        options = ("--nonce", nonce, "--ak", str(ak))
        call("verify", str(evidence), *options, status=0)

        say("Someone with root hides what ran: one byte of the kept list is changed")
        kept = share / "store" / "logs" / "0000" / "list"
        said, changed = tamper(evidence, kept, VICTIM)
        print(said, flush=True)
        call("replay", str(kept), status=1)
        call("verify", str(changed), *options, status=1)
    say("Kept, proved, and tampering found. 'imarium --help' shows the commands; README.md goes on from here")


if __name__ == "__main__":
    try:
        main()
    except VmError as error:
        sys.exit(f"demo: {error}")
