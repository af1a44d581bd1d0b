"""Names, modes, links, and what may be done with names."""

import os
import stat
from typing import Any

from tests.conformance.bench import RD, WR, Bench, attempt, opened, outcome
from tests.conformance.registry import Checks

CHECKS = Checks()
check = CHECKS


def _names(bench: Bench) -> list[str]:
    return sorted(os.listdir(bench.root))


@check
def names_of_the_directory(bench: Bench) -> Any:
    return _names(bench)


@check
def modes_of_files(bench: Bench) -> Any:
    return {name: stat.filemode(os.lstat(bench.root / name).st_mode) for name in _names(bench)}


@check
def mode_of_the_directory(bench: Bench) -> Any:
    return stat.filemode(os.stat(bench.root).st_mode)


@check
def owners_of_files(bench: Bench) -> Any:
    found = [os.lstat(bench.root / name) for name in _names(bench)]
    return sorted({(status.st_uid, status.st_gid) for status in found})


@check
def sizes_of_files_are_told(bench: Bench) -> Any:
    bench.measure(2)
    return {name: os.lstat(bench.root / name).st_size for name in _names(bench)}


@check
def sizes_of_open_files_are_told(bench: Bench) -> Any:
    bench.measure(2)
    with opened(bench.plain, RD) as descriptor:
        before = os.fstat(descriptor).st_size
        os.read(descriptor, 4096)
        return [before, os.fstat(descriptor).st_size]


@check
def counts_of_hard_links(bench: Bench) -> Any:
    return {name: os.lstat(bench.root / name).st_nlink for name in _names(bench)}


@check
def targets_of_links(bench: Bench) -> Any:
    return {name: os.readlink(bench.root / name) for name in _names(bench) if (bench.root / name).is_symlink()}


@check
def links_lead_to_the_same_file(bench: Bench) -> Any:
    links = [bench.root / name for name in _names(bench) if (bench.root / name).is_symlink()]
    return [os.path.samefile(link, bench.root / os.readlink(link)) for link in links]


@check
def reading_a_file_as_a_link(bench: Bench) -> Any:
    return attempt(os.readlink, bench.plain)


@check
def names_that_are_not_there(bench: Bench) -> Any:
    names = ("none", "binary_runtime_measurements_sha512", "ascii_runtime_measurements_", "violations/x")
    return [outcome(os.stat, bench.root / name) for name in names]


@check
def creating_by_open(bench: Bench) -> Any:
    return outcome(os.open, bench.root / "new", WR | os.O_CREAT)


@check
def creating_what_is_there(bench: Bench) -> Any:
    return outcome(os.open, bench.plain, WR | os.O_CREAT | os.O_EXCL)


@check
def making_a_directory(bench: Bench) -> Any:
    return [outcome(os.mkdir, bench.root / name) for name in ("new", "violations")]


@check
def making_nodes(bench: Bench) -> Any:
    kinds = (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK)
    return [outcome(os.mknod, bench.root / "new", 0o600 | kind) for kind in kinds]


@check
def making_links(bench: Bench) -> Any:
    return [
        outcome(os.symlink, "violations", bench.root / "new"),
        outcome(os.link, bench.plain, bench.root / "new"),
    ]


@check
def renaming(bench: Bench) -> Any:
    return [
        outcome(os.rename, bench.plain, bench.root / "new"),
        outcome(os.rename, bench.plain, bench.staged),
    ]


@check
def removing(bench: Bench) -> Any:
    return [
        outcome(os.unlink, bench.plain),
        outcome(os.unlink, bench.root / "binary_runtime_measurements"),
        outcome(os.rmdir, bench.root / "violations"),
        outcome(os.unlink, bench.root / "none"),
    ]


@check
def changing_modes(bench: Bench) -> Any:
    """Undone at once."""
    mode = stat.S_IMODE(os.stat(bench.plain).st_mode)
    changed = outcome(os.chmod, bench.plain, 0o600)
    seen = oct(os.stat(bench.plain).st_mode)
    return [changed, seen, outcome(os.chmod, bench.plain, mode), oct(os.stat(bench.plain).st_mode)]


@check
def changing_owners(bench: Bench) -> Any:
    """Undone at once."""
    changed = outcome(os.chown, bench.plain, 7, 8)
    seen = os.stat(bench.plain)
    return [changed, seen.st_uid, seen.st_gid, outcome(os.chown, bench.plain, 0, 0), os.stat(bench.plain).st_uid]


@check
def changing_times(bench: Bench) -> Any:
    changed = outcome(os.utime, bench.plain, (1000, 2000))
    seen = os.stat(bench.plain)
    return [changed, int(seen.st_atime), int(seen.st_mtime)]


@check
def truncating_by_path(bench: Bench) -> Any:
    bench.measure(2)
    return [outcome(os.truncate, bench.plain, 0), os.stat(bench.plain).st_size, bench.counters()]


@check
def truncating_an_open_file(bench: Bench) -> Any:
    bench.measure(2)
    with opened(bench.plain, WR) as descriptor:
        result = outcome(os.ftruncate, descriptor, 0)
    with opened(bench.plain, RD) as descriptor:
        return [result, outcome(os.ftruncate, descriptor, 0), bench.counters()]


@check
def extended_attributes(bench: Bench) -> Any:
    return [
        attempt(os.listxattr, bench.plain),
        outcome(os.getxattr, bench.plain, "user.x"),
        outcome(os.getxattr, bench.plain, "security.ima"),
        outcome(os.setxattr, bench.plain, "user.x", b"1"),
        outcome(os.removexattr, bench.plain, "user.x"),
    ]


@check
def access_of_root(bench: Bench) -> Any:
    modes = (os.R_OK, os.W_OK, os.X_OK)
    return {name: [os.access(bench.root / name, mode) for mode in modes] for name in _names(bench)}
