"""A story of files that are used, for whoever measures them: run with the directory to do it in.

After each step its name is printed as JSON, and a line is read before the next: time to note what was measured.
"""

import ctypes
import json
import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PLACE = Path(sys.argv[1])
OWNER = 4242
OTHER = 4243
TEMPLATES = {5001: "ima", 5002: "ima-ng", 5003: "ima-ngv2", 5004: "ima-sigv2", 5005: "ima-modsig", 5006: "evm-sig"}
SIGNED = bytes.fromhex("03020601020304000461626364")
PORTABLE = bytes.fromhex("05020601020304000461626364")
ATTRIBUTES = {
    "signed-sha512": SIGNED,
    "signed-sha1": SIGNED[:2] + b"\2" + SIGNED[3:],
    "signed-v1": b"\3\1" + SIGNED[2:],
    "signed-v3": b"\3\3" + SIGNED[2:],
    "signed-unknown": SIGNED[:2] + b"\x55" + SIGNED[3:],
    "signed-short": SIGNED[:3],
    "signed-9": SIGNED[:9],
    "digest-sha512": b"\4\6" + bytes(64),
    "digest-unknown": b"\4\x55" + bytes(64),
    "digest-short": b"\4",
    "hmac": b"\2" + bytes(20),
    "portable": PORTABLE,
    "verity-signed": b"\6\3" + SIGNED[2:],
}


def new(name: str, data: bytes, owner: int = OWNER) -> Path:
    """A file that the rules are about."""
    path = PLACE / name
    path.write_bytes(data)
    path.chmod(0o755)
    os.chown(path, owner, owner)
    return path


def run(*command: str, **environment: str) -> int:
    """Execute; the errno where that is refused."""
    try:
        subprocess.run(command, env=environment, check=False)
    except OSError as error:
        return error.errno or 0
    return 0


@contextmanager
def opened(path: Path | str, flags: int = os.O_RDONLY) -> Iterator[int]:
    """An open descriptor of a file."""
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read(path: Path | str) -> None:
    """Open for reading, and close."""
    with opened(path):
        pass


def in_child(work: Callable[[], None]) -> None:
    """Do it in a process of its own."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def step(name: str) -> None:
    """Say what has been done, and wait."""
    print(json.dumps(name), flush=True)
    if not sys.stdin.readline():
        raise SystemExit(1)


def plain() -> None:
    """Content, and what stands for it."""
    path = new("plain", b"one")
    step("created")
    read(path)
    step("read")
    read(path)
    step("read again")
    path.write_bytes(b"two")
    read(path)
    step("changed")
    os.utime(path)
    read(path)
    step("touched")
    path.write_bytes(b"one")
    read(path)
    step("changed back")
    read(new("empty", b""))
    step("empty")
    read(new("big", bytes(range(256)) * 12345))
    step("big")
    for name in ("copy1", "copy2"):
        read(new(name, b"copy"))
    step("two of the same content")
    path = new("linked", b"linked")
    read(path)
    os.link(path, PLACE / "linked2")
    read(PLACE / "linked2")
    path.rename(PLACE / "renamed")
    read(PLACE / "renamed")
    step("links and renames")
    path.write_bytes(b"linked")
    os.chown(path, OWNER, OWNER)
    read(path)
    step("a new file under an old name")
    for name in ("inode1", "inode2"):
        read(new(name, b"inode"))
        (PLACE / name).unlink()
    step("a new file with an old inode")


def rules() -> None:
    """Registers, templates and masks that rules name."""
    path = new("by-others", b"x", OTHER)
    read(path)
    step("another register and template")
    with opened(path, os.O_RDWR):
        step("another mask")
    for owner, template in TEMPLATES.items():
        path = new(f"in {template}", template.encode(), owner)
        os.setxattr(path, "security.evm", PORTABLE)
        read(path)
        step(f"in template {template}")
    name = "m" * 200
    (PLACE / name).mkdir()
    read(new(f"{name}/{name}", b"long", 5001))
    step("a long name in template ima")
    read(new("unowned", b"x", 1))
    step("no rule")


def names() -> None:
    """Names as they are written."""
    for name in ("with space", "new\nline", "\udcff\udcfe", "like (deleted)", "back\\slash"):
        read(new(name, name.encode(errors="surrogateescape")))
        step(repr(name))
    path = new("deleted", b"deleted")
    with opened(path) as held:
        path.unlink()
        step("held")
        read(f"/proc/self/fd/{held}")
    step("deleted")
    path = new("deleted later", b"deleted later", 1)
    with opened(path) as held:
        os.chown(path, OWNER, OWNER)
        path.unlink()
        read(f"/proc/self/fd/{held}")
    step("deleted, not measured before")
    directory = PLACE
    for _ in range(3):
        directory /= "n" * 200
        directory.mkdir()
    read(new(str(directory.relative_to(PLACE) / ("f" * 250)), b"long"))
    step("long")
    os.chdir(directory)
    for _ in range(20):
        Path("n" * 200).mkdir()
        os.chdir("n" * 200)
    Path("beyond").write_bytes(b"beyond")
    os.chown("beyond", OWNER, OWNER)
    read("beyond")
    os.chdir("/")
    step("longer than paths can be")
    (PLACE / "sub").mkdir()
    new("sub/bound", b"bound")
    Path("/run/bound").mkdir()
    subprocess.run(["mount", "--bind", str(PLACE / "sub"), "/run/bound"], check=True)
    read("/run/bound/bound")
    step("bound")
    (PLACE / "jail").mkdir()
    new("jail/inside", b"inside")

    def jailed() -> None:
        os.chroot(PLACE / "jail")
        read("/inside")

    in_child(jailed)
    step("in a jail")


def races() -> None:
    """Writers beside readers."""
    path = new("writers", b"w")
    with opened(path, os.O_WRONLY) as writer:
        read(path)
        step("read beside a writer")
        read(path)
        step("again")
        os.write(writer, b"changed")
        read(path)
        step("it has written")
    read(path)
    step("it has gone")
    with opened(path, os.O_WRONLY):
        read(path)
        step("beside another writer")
    path = new("measured", b"m")
    read(path)
    step("measured")
    with opened(path, os.O_WRONLY) as writer:
        os.write(writer, b"changed")
        read(path)
        step("measured, then read beside a writer")
    read(path)
    step("measured anew")
    path = new("read", b"r")
    with opened(path):
        step("a reader")
        with opened(path, os.O_WRONLY):
            step("a writer beside it")
            with opened(path, os.O_WRONLY):
                step("a second one")
        with opened(path, os.O_WRONLY):
            step("a third one")
        with opened(path):
            step("another reader")
            with opened(path, os.O_RDWR):
                step("one that reads and writes")
    with opened(path, os.O_WRONLY):
        step("a writer alone")


def writers() -> None:
    """Writers, and those who might be."""
    path = new("mapped", b"m" * 4096)
    with opened(path) as descriptor:
        mapped = mmap.mmap(descriptor, 4096, prot=mmap.PROT_READ)
    step("mapped")
    with opened(path, os.O_WRONLY):
        step("a writer of what is mapped")
    mapped.close()
    with opened(new("both", b"both"), os.O_RDWR):
        step("opened for both")
    with opened(new("written", b"written"), os.O_WRONLY):
        step("opened for writing")
    with opened(new("truncated", b"truncated"), os.O_RDONLY | os.O_TRUNC):
        step("opened for reading and truncated")
    with opened(PLACE / "made", os.O_RDWR | os.O_CREAT | os.O_EXCL):
        step("made")
    os.chown(PLACE / "made", OWNER, OWNER)
    with opened(PLACE / "made", os.O_RDWR | os.O_CREAT):
        step("opened as if to be made")
    path = new("signed and read", b"s")
    os.setxattr(path, "security.ima", SIGNED)
    os.setxattr(path, "security.evm", PORTABLE)
    with opened(path):
        step("signed, a reader")
        with opened(path, os.O_WRONLY):
            step("signed, a writer beside it")


def openat2() -> None:
    """The way of opening that hides its flags in memory."""
    path = new("openat2", b"o")
    how = (ctypes.c_uint64 * 3)(os.O_WRONLY, 0, 0)
    with opened(path):
        descriptor = ctypes.CDLL(None).syscall(437, -100, os.fsencode(path), how, 24)
        assert descriptor >= 0
        step("openat2 beside a reader")
        os.close(descriptor)


def programs() -> None:
    """What is executed."""
    new("script", b"#!/bin/true\n")
    run(str(PLACE / "script"))
    step("a script")
    shutil.copy("/bin/true", PLACE / "true")
    os.chown(PLACE / "true", OWNER, OWNER)
    run(str(PLACE / "true"))
    step("a program")
    run(str(PLACE / "true"))
    step("a program again")
    library = PLACE / "library.so"
    shutil.copy("/lib/x86_64-linux-gnu/libm.so.6", library)
    os.chown(library, OWNER, OWNER)
    run("/bin/true", LD_PRELOAD=str(library))
    step("a library")
    with opened(library, os.O_WRONLY):
        run("/bin/true", LD_PRELOAD=str(library))
        step("a library beside a writer")
    with opened(PLACE / "true", os.O_WRONLY):
        run(str(PLACE / "true"))
        step("a program beside a writer")
    path = new("direct", b"d" * 4096)
    with opened(path, os.O_RDONLY | os.O_DIRECT):
        step("read directly")


def attributes() -> None:
    """What security attributes change."""
    for name, value in ATTRIBUTES.items():
        path = new(name, b"attributes")
        os.setxattr(path, "security.ima", value)
        read(path)
        step(name)
    path = new("evm", b"evm")
    os.setxattr(path, "security.evm", PORTABLE)
    read(path)
    step("portable EVM signature")


def main() -> None:
    """All parts."""
    for part in (plain, rules, names, races, writers, openat2, programs, attributes):
        part()


main()
