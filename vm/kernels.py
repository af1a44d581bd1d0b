"""Finding the test kernels, and building them where there are none.

There are two: ``staging``, and ``staging-latesync``, which differs by CONFIG_IMA_INIT_LATE_SYNC. They come from, in
this order: the directory named by IMARIUM_KERNEL_DIR, ``../shared/vm`` beside the project, the cache, a build from
Debian's source package. A build takes about ten minutes on two processors and is kept, by version of the source and
digest of ``kernel.config``, in ``${IMARIUM_CACHE:-${XDG_CACHE_HOME:-~/.cache}/imarium}/kernel``.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vm.debian import Suite, install_missing
from vm.errors import VmError

__all__ = [
    "FRAGMENT",
    "LATESYNC",
    "PROJECT",
    "STAGING",
    "build",
    "cache_directory",
    "cached",
    "find",
    "kernel",
    "not_effective",
]

STAGING = "staging"
LATESYNC = "staging-latesync"
SUITE = "trixie-backports"
OLDEST_SOURCE = (7, 3)
BUILD_PACKAGES = ("bc", "bison", "flex", "gcc", "libelf-dev", "libssl-dev", "make", "xz-utils")
PROJECT = Path(__file__).resolve().parent.parent
FRAGMENT = Path(__file__).resolve().parent / "kernel.config"
SCRATCH = "building-"
REPORT_EVERY = 20.0  # seconds between lines of progress


def cache_directory() -> Path:
    """Where things are kept that cost time to make. It is never inside the repository."""
    if chosen := os.environ.get("IMARIUM_CACHE"):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "imarium"


def cached(name: str) -> Path:
    """A directory below :func:`cache_directory`, made if it is not there.

    Raises:
        VmError: it cannot be made.
    """
    directory = cache_directory() / name
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VmError(f"{error.strerror}: {directory}: set IMARIUM_CACHE to a directory that you can write") from error
    return directory


def kernel(flavour: str = STAGING, *, prebuilt: bool = True, update: bool = False) -> Path:
    """The path of a kernel, built first if it has to be.

    Args:
        flavour: :data:`STAGING` or :data:`LATESYNC`.
        prebuilt: whether one that somebody else built will do.
        update: ask the archive for a newer source even if there is a build of an older one.

    Raises:
        VmError: it can be neither found nor built.
    """
    found = None if update else find(flavour, prebuilt=prebuilt)
    return found or build() / f"bzImage-{flavour}"


def find(flavour: str, *, prebuilt: bool = True) -> Path | None:
    """The path of a kernel that is already there, or None."""
    if prebuilt:
        chosen = os.environ.get("IMARIUM_KERNEL_DIR")
        directory = Path(chosen) if chosen else PROJECT.parent / "shared" / "vm"
        candidates = sorted(directory.glob(f"bzImage*-{flavour}"), key=_version)
        if candidates:
            return candidates[-1].absolute()
        if chosen:
            raise VmError(f"no bzImage*-{flavour} in {directory}: correct or unset IMARIUM_KERNEL_DIR")
    builds = (cache_directory() / "kernel").glob(f"*_{_fragment_digest()}/bzImage-{flavour}")
    return max(builds, key=lambda path: _version(path.parent), default=None)


def build() -> Path:
    """Build both kernels from the newest source there is, unless that is in the cache; their directory.

    Raises:
        VmError: the source cannot be had, or an option of ``kernel.config`` did not take effect, or the compiler
            failed.
    """
    cache = cached("kernel")
    with _locked(cache / "lock"), _scratch(cache) as work:
        _say(f"asking the Debian archive for a kernel source in {SUITE}")
        suite = Suite(SUITE, work / "apt")
        suite.update()
        package, version = _newest(suite.versions(r"linux-source-\d+\.\d+"))
        target = cache / f"{version}_{_fragment_digest()}"
        if target.exists():
            return target
        install_missing(BUILD_PACKAGES)
        _say(f"fetching {package} {version}")
        suite.unpack(package, version, work / "package")
        tree = _unpack_tree(work, package)
        result = work / "result"
        result.mkdir()
        fragment = FRAGMENT.read_text()
        _compile(tree, fragment, STAGING, result)
        _compile(tree, f"{fragment}\nCONFIG_IMA_INIT_LATE_SYNC=y\n", LATESYNC, result)
        result.rename(target)
        return target


def not_effective(wanted: str, config: str) -> list[str]:
    """The lines of a configuration fragment that a kernel's ``.config`` does not honour.

    ``CONFIG_X=n`` is honoured by an option that is unset or not there at all.
    """
    have = dict(re.findall(r"^(CONFIG_\w+)=(.*)$", config, re.MULTILINE))
    asked = re.findall(r"^(CONFIG_\w+)=(.*)$", wanted, re.MULTILINE)
    return [f"{name}={value}" for name, value in asked if have.get(name, "n") != value]


def _compile(tree: Path, fragment: str, flavour: str, result: Path) -> None:
    _make(tree, "tinyconfig")
    config = tree / ".config"
    config.write_text(config.read_text() + fragment)
    _make(tree, "olddefconfig")
    if lost := not_effective(fragment, config.read_text()):
        raise VmError(f"options of {FRAGMENT.name} that this kernel's Kconfig did not accept: {' '.join(lost)}")
    _say(f"building the {flavour} kernel")
    _make(tree, "bzImage")
    shutil.copy(config, result / f"config-{flavour}")
    shutil.copy(tree / "arch/x86/boot/bzImage", result / f"bzImage-{flavour}")


def _make(tree: Path, target: str) -> None:
    environment = os.environ | {
        "KBUILD_BUILD_USER": "imarium",
        "KBUILD_BUILD_HOST": "imarium",
        "KBUILD_BUILD_TIMESTAMP": "1970-01-01",
        "LC_ALL": "C",
    }
    command = ("nice", "make", f"-j{os.cpu_count() or 1}", target)
    tail: deque[str] = deque(maxlen=40)
    began = reported = time.monotonic()
    with subprocess.Popen(
        command,
        cwd=tree,
        env=environment,
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        try:
            for steps, line in enumerate(process.stdout):
                tail.append(line)
                if time.monotonic() - reported > REPORT_EVERY:
                    reported = time.monotonic()
                    _say(f"  {reported - began:.0f} s, {steps} steps: {line.strip()}")
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        sys.stderr.writelines(tail)
        raise VmError(f"make {target} failed with status {process.returncode}; the end of its output is above")


def _unpack_tree(work: Path, package: str) -> Path:
    archive = next((work / "package" / "usr" / "src").glob(f"{package}.tar.*"), None)
    if archive is None:
        raise VmError(f"{package} holds no source archive below /usr/src: its layout changed, look at vm/kernels.py")
    _say(f"unpacking {archive.name}")
    tree = work / "tree"
    tree.mkdir()
    command = ("tar", "--extract", "--strip-components=1", "--file", str(archive), "--directory", str(tree))
    if subprocess.run(command, check=False).returncode:
        raise VmError(f"{archive.name} cannot be unpacked: about 2 GB must be free in {work.parent}")
    archive.unlink()
    return tree


def _newest(versions: dict[str, str]) -> tuple[str, str]:
    """The newest linux-source-X.Y that is new enough, as (package, version)."""
    by_release = {tuple(map(int, re.findall(r"\d+", name))): name for name in versions}
    release = max(by_release, default=(0, 0))
    if release < OLDEST_SOURCE:
        wanted = ".".join(map(str, OLDEST_SOURCE))
        raise VmError(
            f"{SUITE} has no linux-source of {wanted} or later: set IMARIUM_DEBIAN_MIRROR to a current mirror"
        )
    return by_release[release], versions[by_release[release]]


def _version(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", path.name.partition("_")[0])]


def _fragment_digest() -> str:
    return hashlib.sha256(FRAGMENT.read_bytes()).hexdigest()[:16]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock, so that two builds at once become one build and one wait."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    """A directory to build in. Those that killed builds left behind go first: the lock is held."""
    for left in cache.glob(f"{SCRATCH}*"):
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=cache, prefix=SCRATCH) as scratch:
        yield Path(scratch)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
