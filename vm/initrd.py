"""The initial RAM disk: a static busybox, and a script that turns this machine's root into the guest's.

It is an uncompressed cpio archive in the format the kernel calls *newc* (Documentation/driver-api/early-userspace/
buffer-format.rst): unpacking takes longer under emulation than reading. Its files lie
on tmpfs, which IMA's built-in policies measure only when executed: the list begins with the boot aggregate, ``/init``
and two busybox, then tells of the command alone.
"""

import shlex
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["COMMAND_STARTS", "FRESH", "archive", "command_script"]

FRESH = (Path("/tmp"), Path("/run"), Path("/dev"), Path("/proc"), Path("/sys"))  # noqa: S108 - the guest's own
COMMAND_STARTS = "command starts"
TRAILER = "TRAILER!!!"

# {visible} are the directories of the host, below /tmp and the like, that stay to be seen.
INIT = """\
#!/bin/busybox sh
b=/bin/busybox
fail() {{ echo "init: $*"; echo "failed $*" >/dev/ttyS1; $b poweroff -f; }}
p9=trans=virtio,version=9p2000.L,msize=524288
$b mount -t devtmpfs dev /dev
$b stty -F /dev/console -opost
$b mount -t 9p -o $p9,ro,cache=loose root /host || fail cannot mount the root of the host
$b mount -t tmpfs tmpfs /writes
$b mkdir /writes/upper /writes/work
$b mount -t overlay -o lowerdir=/host,upperdir=/writes/upper,workdir=/writes/work overlay /root ||
  fail cannot lay a tmpfs over the root of the host
cd /root
$b mkdir -p proc sys dev run tmp
$b mount -t proc proc proc
$b mount -t sysfs sys sys
$b mount --move /dev dev
$b mkdir -p dev/pts dev/shm
$b mount -t devpts -o ptmxmode=0666 devpts dev/pts 2>/dev/null
for m in run tmp dev/shm; do $b mount -t tmpfs tmpfs $m; done
$b chmod 1777 tmp dev/shm
$b chmod 755 run
$b ln -s /proc/self/fd dev/fd
for n in 0:stdin 1:stdout 2:stderr; do $b ln -s "/proc/self/fd/${{n%:*}}" "dev/${{n#*:}}"; done
$b mount -t securityfs securityfs sys/kernel/security
$b mount -t configfs configfs sys/kernel/config 2>/dev/null
$b mkdir -p run/vm run/guest run/lock
$b mount -t 9p -o $p9,ro vm run/vm || fail cannot mount the directory of the kernel
if $b grep -qw imarium.share proc/cmdline; then
  $b mkdir -p shared
  $b mount -t 9p -o $p9 share shared || fail cannot mount the shared directory
fi
for d in {visible}; do $b mkdir -p ./"$d"; $b mount -o bind "/host$d" ./"$d"; done
$b ip link set lo up
$b hostname guest
$b cp /bin/busybox /command /main run/guest/
cd /
exec $b switch_root -c /dev/console /root /run/guest/busybox sh /run/guest/main
"""

MAIN = """\
b=/run/guest/busybox
$b stty -F /dev/console -opost
echo '{starts}' >/dev/ttyS1
exec 3>&2 2>/dev/null
(exec $b setsid /bin/sh /run/guest/command </dev/null 2>&3 3>&-)
status=$?
$b sync
echo 0 >/proc/sys/kernel/printk
$b stty -F /dev/console opost
echo "status $status" >/dev/ttyS1
$b poweroff -f
"""


def command_script(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """A shell script that runs a command with exactly this environment, in ``/``."""
    settings = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(environment.items()))
    return f"{settings}cd /\nexec {shlex.join(command)}\n"


def archive(busybox: Path, command: str, visible: Sequence[Path]) -> bytes:
    """The initial RAM disk.

    Args:
        busybox: a statically linked busybox.
        command: the shell script that runs the command, see :func:`command_script`.
        visible: directories of the host to show inside even where they lie below one of :data:`FRESH`.
    """
    shown = [str(path) for path in visible if any(path.is_relative_to(fresh) for fresh in FRESH)]
    init = INIT.format(visible=shlex.join(shown))
    directories = ("bin", "dev", "host", "writes", "root")
    entries = [_entry(name, stat.S_IFDIR | 0o755) for name in directories]
    entries += [
        _entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        _entry("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes()),
        _entry("init", stat.S_IFREG | 0o755, init.encode()),
        _entry("main", stat.S_IFREG | 0o644, MAIN.format(starts=COMMAND_STARTS).encode()),
        _entry("command", stat.S_IFREG | 0o644, command.encode()),
        _entry(TRAILER, 0),
    ]
    return b"".join(entries)


def _entry(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """One member: a header of thirteen hexadecimal fields, the name and the data, each padded to four bytes."""
    path = name.encode() + b"\0"
    inode = owner = group = mtime = check = 0
    links = 1
    fields = (inode, mode, owner, group, links, mtime, len(data), 0, 0, *device, len(path), check)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
