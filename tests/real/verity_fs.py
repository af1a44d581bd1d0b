"""A file system of two files that answers FS_IOC_MEASURE_VERITY for one of them, as one with fs-verity does.

    verity_fs.py DIR

It stands in for such a file system where the running kernel has none: the question passes through the kernel.
"""

import ctypes
import errno
import stat
import sys

import mfusepy

CONTENT = b"content"
DIGEST = bytes(range(32))
MEASURE = 0xC0046686


class VerityFiles(mfusepy.Operations):
    """``/sealed`` has a digest, ``/plain`` has none."""

    use_ns = True

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        del fh
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path not in {"/sealed", "/plain"}:
            raise mfusepy.FuseOSError(errno.ENOENT)
        return {"st_mode": stat.S_IFREG | 0o644, "st_nlink": 1, "st_size": len(CONTENT)}

    def readdir(self, path: str, fh: int) -> list[str]:
        del path, fh
        return [".", "..", "sealed", "plain"]

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        del path, fh
        return CONTENT[offset : offset + size]

    def ioctl(self, path: str, cmd: int, arg: object, fip: object, flags: int, data: int) -> int:
        del arg, fip, flags
        if cmd & 0xFFFFFFFF != MEASURE:
            raise mfusepy.FuseOSError(errno.ENOTTY)
        if path != "/sealed":
            raise mfusepy.FuseOSError(errno.ENODATA)
        ctypes.memmove(data, (1).to_bytes(2, "little") + len(DIGEST).to_bytes(2, "little") + DIGEST, 4 + len(DIGEST))
        return 0


if __name__ == "__main__":
    mfusepy.FUSE(VerityFiles(), sys.argv[1], foreground=True, nothreads=True)
