"""Fetching a package from a Debian suite that this machine's own apt sources do not list.

apt does the work, in a private directory: its own sources, package lists and cache. Nothing is installed, and the
machine's apt sees nothing of it. The mirror is the one the machine itself uses; signatures are checked with the
Debian archive keyring, and the package by the digest in the signed index.
"""

import os
import platform
import re
import subprocess
from pathlib import Path

from vm.errors import VmError

__all__ = ["Suite", "install_missing", "mirror"]

KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
)
PRIVATE_CONF = """\
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "{root}/sources";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "{root}/state";
Dir::State::status "{root}/state/status";
Dir::Cache "{root}/cache";
Dir::Log "{root}/log";
APT::Sandbox::User "";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Update::Error-Mode "any";
Acquire::Languages "none";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
"""
SOURCE = """\
Types: deb
URIs: {uri}
Suites: {suite}
Components: main
Signed-By: {keyring}
"""


class CommandFailed(VmError):
    """A program ended with an error. ``said`` is all that it printed about that."""

    def __init__(self, command: tuple[str, ...], said: str, status: int) -> None:
        self.said = said
        last = "; ".join(said.splitlines()[-3:]) or f"exit status {status}"
        super().__init__(f"{' '.join((command[0], *command[-2:]))}: {last}")


def _output(*command: str, cwd: Path | None = None) -> str:
    """Run a command that is expected to succeed and return its standard output."""
    try:
        done = subprocess.run(command, cwd=cwd, check=True, text=True, capture_output=True)
    except FileNotFoundError:
        raise VmError(f"{command[0]} not found: the kernels are built from a Debian package with apt") from None
    except subprocess.CalledProcessError as error:
        raise CommandFailed(command, (error.stderr or error.stdout).strip(), error.returncode) from error
    return done.stdout


def mirror() -> str:
    """The address of the Debian archive that this machine's apt sources name (or IMARIUM_DEBIAN_MIRROR).

    Raises:
        VmError: none is named.
    """
    if chosen := os.environ.get("IMARIUM_DEBIAN_MIRROR"):
        return chosen
    release = platform.freedesktop_os_release()
    own = {release.get("VERSION_CODENAME"), "stable", "testing", "unstable", "sid"} - {None}
    if release.get("ID") == "debian":
        listed = _output("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages")
        for line in listed.splitlines():
            uri, _, suite = line.partition(" ")
            if suite in own and "security" not in uri:
                return uri
    raise VmError("no Debian archive in this machine's apt sources: set IMARIUM_DEBIAN_MIRROR to a mirror's address")


class Suite:
    """One suite of the Debian archive, seen through a private apt below ``root``."""

    def __init__(self, name: str, root: Path) -> None:
        keyring = next((path for path in KEYRINGS if path.exists()), None)
        if keyring is None:
            raise VmError("no Debian archive keyring: apt-get install debian-archive-keyring")
        self.name = name
        self._conf = root / "apt.conf"
        for part in ("sources", "state/lists/partial", "cache/archives/partial", "log"):
            (root / part).mkdir(parents=True, exist_ok=True)
        (root / "state/status").touch()
        self._conf.write_text(PRIVATE_CONF.format(root=root))
        source = SOURCE.format(uri=mirror(), suite=name, keyring=keyring)
        (root / "sources" / "private.sources").write_text(source)

    def update(self) -> None:
        """Fetch the suite's index and check its signature.

        Raises:
            VmError: it cannot be fetched, or is signed with a key that the keyring lacks.
        """
        try:
            self._apt("apt-get", "-q", "update")
        except CommandFailed as error:
            if re.search("NO_PUBKEY|EXPKEYSIG|not signed", error.said):
                raise VmError(
                    f"the keyring has no key for {self.name}: apt-get install debian-archive-keyring "
                    "(2023.3+deb12u2 or later)"
                ) from error
            raise

    def versions(self, pattern: str) -> dict[str, str]:
        """The packages whose whole name matches the regular expression, with the version on offer."""
        names = self._apt("apt-cache", "pkgnames").split()
        found = sorted(name for name in names if re.fullmatch(pattern, name))
        shown = self._apt("apt-cache", "show", "--no-all-versions", *found) if found else ""
        fields = dict.fromkeys(found, "")
        for stanza in shown.split("\n\n"):
            package = re.search("^Package: (.*)$", stanza, re.MULTILINE)
            version = re.search("^Version: (.*)$", stanza, re.MULTILINE)
            if package and version:
                fields[package[1]] = version[1]
        return {name: version for name, version in fields.items() if version}

    def unpack(self, package: str, version: str, into: Path) -> None:
        """Download a package, check it, and unpack its files below ``into``. It is not installed."""
        into.mkdir(parents=True, exist_ok=True)
        self._apt("apt-get", "-q", "download", f"{package}={version}", cwd=into)
        (archive,) = into.glob(f"{package}_*.deb")
        _output("dpkg-deb", "--extract", str(archive), str(into))
        archive.unlink()

    def _apt(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        return _output(program, "-c", str(self._conf), *arguments, cwd=cwd)


def install_missing(packages: tuple[str, ...]) -> None:
    """Install those of the packages that are not installed yet, with the machine's own apt.

    Raises:
        VmError: that did not work; the packages are named.
    """
    query = ("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *packages)
    listed = subprocess.run(query, check=False, text=True, capture_output=True).stdout.splitlines()
    installed = {line.split()[0] for line in listed if line.endswith(" installed")}
    missing = [name for name in packages if name not in installed]
    if not missing:
        return
    sudo = () if os.geteuid() == 0 else ("sudo", "-n")
    install = (*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qy", "install", "--no-install-recommends")
    try:
        try:
            _output(*install, *missing)
        except VmError:
            _output(*sudo, "apt-get", "-q", "update")
            _output(*install, *missing)
    except VmError as error:
        raise VmError(f"building a kernel needs more packages: apt-get install {' '.join(missing)}") from error
