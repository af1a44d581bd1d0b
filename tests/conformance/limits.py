"""Where the engine's files are not like the kernel's because FUSE does not let them be, and why.

The kernel's answer to each check in :mod:`tests.conformance.checks.limits`, and what the engine's may be: more than one
where that depends on which kernel FUSE is of. Any other answer of either is told by the test.
"""

from typing import Any

Limit = tuple[Any, tuple[Any, ...]]

LIMIT_ANSWERS: dict[str, Limit] = {
    # the kernel's side of FUSE answers it, without asking
    "limit_writing_nothing": (["EINVAL", "EINVAL"], ([0, 0],)),
    "limit_direct_access": ("EINVAL", ("ok",)),
    "limit_epoll": ("EPERM", ("ok",)),
    "limit_mapping_for_oneself": ("ENODEV", ("ok",)),
    "limit_kind_of_file_system": ("securityfs", ("fuseblk",)),
    # FUSE copies what is written before it asks
    "limit_unreadable_text_of_a_wrong_length": (["EINVAL", "EINVAL"], (["EFAULT", "EFAULT"],)),
    # FUSE joins the buffers of one call; the kernel's file takes them one by one
    "limit_writing_from_several_buffers": (["EINVAL", "2\n"], ([2, "0\n"],)),
    # FUSE moves the position by what was written and does not tell pwrite(2) from write(2)
    "limit_writing_apart_from_the_position": ("ESPIPE", ("ok",)),
    "limit_position_after_a_command": (0, (2,)),
    "limit_policy_at_the_end_of_what_was_written": (["ok", "EINVAL"], (["ok", "ok"],)),
    # the kernel says it took one byte more than it was given, which FUSE would not pass on
    "limit_policy_rule_without_newline": (1, (0,)),
    # since Linux 6.5 sendfile(2) asks FUSE's page cache, which goes by the size that stat(2) shows: 0
    "limit_sendfile": ("EINVAL", ("nothing", "everything")),
    "limit_copying_with_shutil": (True, (False, True)),
    # lseek(2) does not reach the engine, and a position that was never read is like any other
    "limit_reading_after_a_seek_beyond_the_end": (160, (0,)),
    # not worth the trouble: truncate(2) of the kernel's files changes what stat(2) shows, and nothing else
    "limit_size_after_truncation": (5, (0,)),
}
