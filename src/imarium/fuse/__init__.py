"""Trees of files, mounted: what a tree must offer, and the adapter that serves it through FUSE."""

from imarium.fuse.adapter import mount, require_library, require_mountable
from imarium.fuse.caller import CAP_SYS_ADMIN, Caller, Task
from imarium.fuse.place import unmount
from imarium.fuse.thread import Mount, mounted
from imarium.fuse.tree import Attributes, Change, ChangeableTree, FileTree, Handle, TreeError

__all__ = [
    "CAP_SYS_ADMIN",
    "Attributes",
    "Caller",
    "Change",
    "ChangeableTree",
    "FileTree",
    "Handle",
    "Mount",
    "Task",
    "TreeError",
    "mount",
    "mounted",
    "require_library",
    "require_mountable",
    "unmount",
]
