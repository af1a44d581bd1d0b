"""The directory of the kernel's measurement lists, served from an engine's queue. No FUSE in here.

=========================================== ===== ==================================================================
``{ascii,binary}_runtime_measurements_ALG``  0660  the current list, with the template digests of a bank; takes numbers
``..._ALG_staged``                           0660  the staged list; takes ``A`` and ``D``
the same without ``_ALG``                    link  to those with SHA-1
``runtime_measurements_count``               0440  how many current records there are
``violations``                               0440  how many violations there were since the start
``policy``                                   0600  the rules, one a line
=========================================== ===== ==================================================================

Without staging the lists have the mode 0440, there is no staged one, nothing is locked and no command is taken.
"""

import errno
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from imarium.engine import MeasurementQueue, PolicyFile
from imarium.fuse import Attributes, Caller, Change, Handle, TreeError
from imarium.hashes import SHA1, HashAlgorithm
from imarium.securityfs.tree.files import Counter, ListFile, PolicyNode
from imarium.securityfs.tree.listing import ascii_of, binary_of
from imarium.securityfs.tree.lock import ListLock

__all__ = ["ImaTree"]

NESTED = ("integrity", "ima")
"""Where the directory is below ``/sys/kernel/security``. A link ``ima`` to it is for those who know the older place."""

_LIST = "runtime_measurements"
_FORMS = {"ascii": ascii_of, "binary": binary_of}


@dataclass(frozen=True, slots=True)
class _Link:
    target: str


@dataclass(frozen=True, slots=True)
class _Directory:
    nodes: "Mapping[str, _Node]" = field(default_factory=dict)


_File = Counter | ListFile | PolicyNode
_Node = _Directory | _Link | _File


class ImaTree:
    """The files of one engine, a :class:`~imarium.fuse.ChangeableTree`.

    ``banks`` get lists of their own, and SHA-1 always. With ``nested`` the directory is below ``integrity/ima``, as on
    securityfs, and not the root of the tree. Modes, owners and times can be changed, for as long as the tree is there.
    Methods raise TreeError.
    """

    def __init__(
        self,
        queue: MeasurementQueue,
        banks: Iterable[HashAlgorithm],
        policy: PolicyFile,
        *,
        staging: bool = True,
        nested: bool = False,
    ) -> None:
        directory = _Directory(_lists(queue, banks, staging=staging) | _others(queue, policy))
        for name in reversed(NESTED if nested else ()):
            directory = _Directory({name: directory})
        if nested:
            directory = _Directory({**directory.nodes, NESTED[-1]: _Link("/".join(NESTED))})
        self._root = directory
        self._changed: dict[str, Attributes] = {}

    def attributes(self, path: str) -> Attributes:
        """What stat(2) shows."""
        node = self._node(path)
        return self._changed.get(path) or _attributes(node)

    def names(self, path: str) -> list[str]:
        """The names in a directory."""
        node = self._node(path)
        if not isinstance(node, _Directory):
            raise TreeError(errno.ENOTDIR)
        return list(node.nodes)

    def readlink(self, path: str) -> str:
        """Where a link points."""
        node = self._node(path)
        if not isinstance(node, _Link):
            raise TreeError(errno.EINVAL)
        return node.target

    def open(self, path: str, flags: int, caller: Caller) -> Handle:
        """Open a file, for a caller whom its mode lets."""
        node = self._node(path)
        if isinstance(node, _Directory):
            raise TreeError(errno.EISDIR)
        if isinstance(node, _Link):
            raise TreeError(errno.ELOOP)
        return node.open(flags, caller)

    def truncate(self, path: str, _length: int) -> None:
        """Changes nothing. Securityfs lets anybody do it who may write."""
        self._node(path)

    def change(self, path: str, change: Change) -> None:
        """Keep what is asked for, until the tree is gone."""
        found = self._changed.get(path) or _attributes(self._node(path))
        self._changed[path] = Attributes(
            found.mode if change.mode is None else stat.S_IFMT(found.mode) | change.mode,
            found.size,
            found.syncs,
            found.uid if change.uid is None else change.uid,
            found.gid if change.gid is None else change.gid,
            found.accessed if change.accessed is None else change.accessed,
            found.modified if change.modified is None else change.modified,
        )

    def _node(self, path: str) -> _Node:
        node: _Node = self._root
        for part in filter(None, path.split("/")):
            if not isinstance(node, _Directory):
                raise TreeError(errno.ENOTDIR)
            if part not in node.nodes:
                raise TreeError(errno.ENOENT)
            node = node.nodes[part]
        return node


def _lists(queue: MeasurementQueue, banks: Iterable[HashAlgorithm], *, staging: bool) -> dict[str, _Node]:
    lock = ListLock() if staging else None
    permissions = 0o660 if staging else 0o440
    nodes: dict[str, _Node] = {}
    for staged in (False, True) if staging else (False,):
        end = "_staged" if staged else ""
        for form, encode in _FORMS.items():
            for bank in dict.fromkeys([SHA1, *banks]):
                file = ListFile(permissions, queue, bank, encode, staged, lock)
                nodes[f"{form}_{_LIST}_{bank.name}{end}"] = file
            nodes[f"{form}_{_LIST}{end}"] = _Link(f"{form}_{_LIST}_{SHA1.name}{end}")
    return nodes


def _others(queue: MeasurementQueue, policy: PolicyFile) -> dict[str, _Node]:
    return {
        "runtime_measurements_count": Counter(0o440, lambda: len(queue.current)),
        "violations": Counter(0o440, lambda: queue.violations),
        "policy": PolicyNode(0o600, policy),
    }


def _attributes(node: _Node) -> Attributes:
    if isinstance(node, _Directory):
        return Attributes(stat.S_IFDIR | 0o755)
    if isinstance(node, _Link):
        return Attributes(stat.S_IFLNK | 0o444)
    return Attributes(stat.S_IFREG | node.permissions, 0 if node.has_end else None, syncs=False)
