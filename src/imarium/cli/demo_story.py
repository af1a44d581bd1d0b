"""The story that ``imarium demo`` tells: each step is a command that anyone can give."""

import contextlib
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from imarium.errors import DeviceError, MissingComponent
from imarium.formats import read_records
from imarium.formats.evidence import Evidence
from imarium.rot.swtpm import OwnSwtpm

__all__ = ["Story", "tamper", "tell", "tell_without_mount"]

_PROGRAMS = ("ls", "date", "df", "sort", "tail", "head")
_PATIENCE = 60.0


class Story:
    """A place of its own with a TPM simulator in it. Whatever is started or mounted ends with the ``with`` block."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.programs = place / "programs"
        self.files = place / "ima"
        self._swtpm = OwnSwtpm(place / "tpm")
        self.tcti = ""
        self._ends = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._ends.callback(self._swtpm.stop)
        self.tcti = self._swtpm.start()
        self.programs.mkdir()
        self.files.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ends.close()

    def say(self, text: str) -> None:
        """A heading."""
        sys.stdout.write(f"\n== {text}\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """A line between."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def run(self, *arguments: str, status: int = 0, output: Path | None = None) -> None:
        """An imarium command, shown, and held to its exit status."""
        shown = " ".join(("imarium", *(self._short(argument) for argument in arguments)))
        self.note(f"$ {shown}{f' > {output.name}' if output else ''}")
        with contextlib.ExitStack() as stack:
            target = stack.enter_context(output.open("wb")) if output else None
            self._call(_imarium(arguments), status=status, output=target)

    def program(self, name: str, *arguments: str) -> None:
        """Run one of the programs that are measured."""
        self.note(f"$ {shlex.join((name, *arguments))}")
        self._call([str(self.programs / name), *arguments])

    def copy_programs(self) -> None:
        """Programs of this machine, on a file system of their own: nothing else is watched.

        Raises MissingComponent where nothing may be mounted.
        """
        command = ["mount", "-t", "tmpfs", "imarium-demo", str(self.programs)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_PATIENCE)
        if done.returncode:
            said = done.stderr.strip().partition("\n")[0].rpartition(": ")[2].rstrip(".")
            raise MissingComponent(f"no file systems can be mounted here ({said}): run it as root outside a container")
        self._ends.callback(subprocess.run, ["umount", "-l", str(self.programs)], check=False, timeout=_PATIENCE)
        for name in _PROGRAMS:
            found = shutil.which(name)
            if found is not None:
                shutil.copy(found, self.programs / name)

    def start_engine(self, *arguments: str) -> None:
        """An engine in a process of its own, once it is mounted; it ends with the story.

        Raises MissingComponent with what it says where something of the environment is missing, else DeviceError.
        """
        self.note(f"$ imarium engine {' '.join(self._short(argument) for argument in arguments)} &")
        process = subprocess.Popen(_imarium(("engine", *arguments)), stderr=subprocess.PIPE, text=True, cwd=self.place)
        self._ends.callback(_end, process)
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        said = ""
        for line in process.stderr:
            if said:
                self.note(said)
            said = line.rstrip().replace(f"{self.place}/", "")
            if said.startswith("mounted"):
                self.note(said)
                threading.Thread(target=process.stderr.read, daemon=True).start()
                return
        if process.wait(_PATIENCE) == MissingComponent.exit_status:
            raise MissingComponent(said.removeprefix("imarium: "))
        raise DeviceError(f"the demonstration failed: the engine did not start: {said}")

    def held(self) -> None:
        """How many records the engine holds."""
        count = (self.files / "runtime_measurements_count").read_text().strip()
        self.note(f"the engine holds {count} records")

    def _call(self, command: Sequence[str], *, status: int = 0, output: IO[bytes] | None = None) -> None:
        """Run a command in the story's place. Raises DeviceError for another exit status, or if it takes too long."""
        error = None if output else subprocess.STDOUT
        try:
            done = subprocess.run(
                command, check=False, stdout=output, stderr=error, cwd=self.place, timeout=_PATIENCE
            ).returncode
        except (OSError, subprocess.TimeoutExpired) as failure:
            raise DeviceError(f"the demonstration failed: {failure}") from failure
        if done != status:
            raise DeviceError(f"the demonstration failed: exit status {done} instead of {status}; see above")

    def _short(self, argument: str) -> str:
        """An argument as it is shown: without the temporary directory, and no longer than a line."""
        text = shlex.quote(argument).replace(f"{self.place}/", "").replace(self.tcti, "swtpm:...")
        return text if len(text) <= 40 else f"{text[:8]}..."


def tell(story: Story) -> None:
    """The whole story."""
    story.copy_programs()
    story.say("A machine without IMA. An engine measures programs before they run, and shows the kernel's own files")
    engine = ("--state", "engine", "--rot", f"tpm:{story.tcti}")
    story.start_engine("--mount", "ima", "--watch", "programs", *engine)
    story.held()

    story.say("Programs run, and the list grows")
    story.program("ls", "/etc/hostname", "/etc/passwd")
    story.program("date", "-u", "+%F")
    story.program("ls", "/etc/hostname")
    for line in (story.files / "ascii_runtime_measurements").read_bytes().splitlines()[-2:]:
        story.note(line.decode(errors="backslashreplace").replace(f"{story.place}/", ""))
    story.held()

    kept = ("--store", "store", "--source", "ima", "--tcti", story.tcti)
    story.say("Custody takes the records: staged, read, synced to disk, proved against the TPM, then deleted")
    story.run("keep", "--once", *kept)
    story.held()
    story.program("sort", "/etc/hostname")
    story.program("tail", "-n", "1", "/etc/passwd")
    story.run("keep", "--once", *kept)

    nonce = secrets.token_hex(32)
    story.say("The verifier asks with a nonce. The TPM signs its registers, and the log goes along")
    story.run("attest", "--nonce", nonce, *kept, "-o", "evidence.cbor")

    story.say("Elsewhere, the verifier has the evidence and the TPM's key, and trusts nothing else")
    verifier = ("--nonce", nonce, "--ak", "store/ak/ak.pub")
    story.run("verify", "evidence.cbor", *verifier)

    story.say("Someone with root hides what ran: one byte of the kept list is changed")
    victim = os.fsencode(story.programs / "sort")
    said, changed = tamper(story.place / "evidence.cbor", story.place / "store" / "logs" / "0000" / "list", victim)
    story.note(said.replace(f"{story.place}/", ""))
    story.run("replay", "store/logs/0000/list", status=1)
    story.run("verify", changed.name, *verifier, status=1)
    story.run("engine", "--stop", "--state", "engine")
    story.say("Measured, kept, proved, and tampering found. 'imarium --help' shows the commands")


def tell_without_mount(story: Story) -> None:
    """What can be shown without root and FUSE: measuring in explicit calls, and replay against the TPM."""
    story.say("An engine measures what it is told to, and extends a TPM. Nothing is mounted or watched")
    found = [path for name in _PROGRAMS if (path := shutil.which(name))]
    measured = [part for path in found for part in ("--measure", path)]
    story.run("engine", "--once", "--rot", f"tpm:{story.tcti}", *measured, output=story.place / "list")
    story.run("show", "list")

    story.say("The list leads to what the TPM holds")
    story.run("rot", "read", "--tcti", story.tcti, output=story.place / "pcrs")
    story.run("replay", "list", "--pcrs", "pcrs")

    story.say("One character of the list is changed, and it leads there no more")
    data = (story.place / "list").read_bytes()
    place = data.rindex(b"/sort")
    (story.place / "tampered").write_bytes(data[:place] + b"/soru" + data[place + 5 :])
    story.run("replay", "tampered", "--pcrs", "pcrs", status=1)
    story.say("As root, with FUSE, 'imarium demo' shows the kernel's files, custody, and a verifier")


def tamper(evidence: Path, kept: Path, victim: bytes) -> tuple[str, Path]:
    """Change one byte of a name in the kept list, and send that list with the TPM's untouched quote.

    Returns what was changed, and the evidence that was made of it.
    """
    claim = Evidence.decode(evidence.read_bytes())
    record = next(each for each in read_records([claim.log.records], claim.log.layout) if each.name == victim)
    place = record.offset + record.size - len(record.data) + record.data.rindex(victim) + len(victim) - 1
    records = bytearray(claim.log.records)
    records[place] ^= 1
    with kept.open("r+b") as file:
        file.seek(place)
        file.write(records[place : place + 1])
    name = bytes(records[place + 1 - len(victim) : place + 1])
    changed = evidence.with_name("tampered.cbor")
    changed.write_bytes(replace(claim, log=replace(claim.log, records=bytes(records))).encode())
    return f"record {record.number} said {os.fsdecode(victim)}, now it says {os.fsdecode(name)}", changed


def _imarium(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "imarium", *arguments]


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
