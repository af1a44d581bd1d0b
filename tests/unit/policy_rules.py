"""Rules, good and bad, for the tests of the policy language: on this parser, and on a real kernel beside it."""

from dataclasses import dataclass
from pathlib import Path

from imarium.engine import PolicyFile, PolicyRefused

UUID = b"0b1b2b3b-0000-1111-2222-333344445555"
LONG = b"f" * 80


@dataclass(frozen=True)
class Case:
    """A line, the errno of it (0 where it is taken), and how it is shown (None: as written, with a space behind).

    ``kernel`` is the kernel's errno where it takes what cannot be told from user space.
    """

    line: bytes
    errno: int = 0
    shown: bytes | None = None
    kernel: int | None = None

    @property
    def text(self) -> bytes:
        """What the policy file shows of it; nothing if it is refused."""
        if self.errno:
            return b""
        return self.line + b" " if self.shown is None else self.shown


def _good(*lines: bytes) -> list[Case]:
    return [Case(line) for line in lines]


def _bad(*lines: bytes, errno: int = 22) -> list[Case]:
    return [Case(line, errno) for line in lines]


def _unseen(*lines: bytes) -> list[Case]:
    return [Case(line, 22, kernel=0) for line in lines]


CASES = [
    *_good(
        b"measure",
        b"dont_measure",
        b"measure func=FILE_CHECK",
        b"measure func=MMAP_CHECK",
        b"measure func=BPRM_CHECK",
        b"measure func=MODULE_CHECK",
        b"measure func=FIRMWARE_CHECK",
        b"measure func=KEXEC_KERNEL_CHECK",
        b"measure func=KEXEC_INITRAMFS_CHECK",
        b"measure func=POLICY_CHECK",
        b"measure func=KEXEC_CMDLINE",
        b"measure func=KEY_CHECK",
        b"measure func=CRITICAL_DATA",
        b"dont_measure func=CRITICAL_DATA label=a",
        b"dont_measure func=KEY_CHECK keyrings=.ima",
        b"measure mask=MAY_READ",
        b"measure mask=MAY_WRITE",
        b"measure mask=MAY_APPEND",
        b"measure mask=^MAY_EXEC",
        b"measure func=FILE_CHECK mask=^MAY_READ euid=0",
        b"measure func=FILE_CHECK mask=^MAY_READ uid=0",
        b"measure uid>1000",
        b"measure uid<1000",
        b"measure euid>1000",
        b"measure euid<1000",
        b"measure gid=5",
        b"measure gid>5",
        b"measure gid<5",
        b"measure egid=5",
        b"measure egid>5",
        b"measure egid<5",
        b"measure uid=1 gid=2",
        b"measure fowner=0",
        b"measure fowner>0",
        b"measure fowner<7",
        b"measure fgroup=0",
        b"measure fgroup>0",
        b"measure fgroup<7",
        b"measure fowner=1 fgroup=2",
        b"measure fsmagic=0xef53",
        b"measure fsname=ext4",
        b"measure fsname=\xff\xfe",
        b"measure fs_subtype=sshfs",
        b"measure fsname=fuse fs_subtype=sshfs",
        b"measure fsuuid=" + UUID,
        b"measure func=KEY_CHECK keyrings=.ima|.evm",
        b"measure func=KEY_CHECK keyrings=.ima pcr=11",
        b"measure func=CRITICAL_DATA label=a|b|c",
        b"measure func=CRITICAL_DATA label=a uid=0 gid=0",
        b"measure pcr=0",
        b"measure pcr=63",
        b"measure func=KEXEC_CMDLINE fsmagic=0xef53 pcr=4",
        b"measure template=ima",
        b"measure template=ima-ng",
        b"measure template=ima-sig",
        b"measure template=ima-ngv2",
        b"measure template=ima-sigv2",
        b"measure template=ima-buf",
        b"measure template=ima-modsig",
        b"measure template=evm-sig",
        b"measure func=KEY_CHECK template=ima-buf",
        b"measure digest_type=verity",
        b"measure permit_directio",
        b"measure uid=2147483647",
    ),
    Case(b"measure func=PATH_CHECK", shown=b"measure func=FILE_CHECK "),
    Case(b"measure func=FILE_MMAP", shown=b"measure func=MMAP_CHECK "),
    Case(b"func=FILE_CHECK measure", shown=b"measure func=FILE_CHECK "),
    Case(b"uid=3 fsname=xfs mask=MAY_READ measure", shown=b"measure mask=MAY_READ fsname=xfs uid=3 "),
    Case(b"  measure\t\tfunc=FILE_CHECK  ", shown=b"measure func=FILE_CHECK "),
    Case(b"measure func=FILE_CHECK # why", shown=b"measure func=FILE_CHECK "),
    Case(b"measure #func=NOTHING", shown=b"measure "),
    Case(b"measure fsmagic=EF53", shown=b"measure fsmagic=0xef53 "),
    Case(b"measure fsmagic=0XEF53", shown=b"measure fsmagic=0xef53 "),
    Case(b"measure fsmagic=+ef53", shown=b"measure fsmagic=0xef53 "),
    Case(b"measure fsmagic=0", shown=b"measure fsmagic=0x0 "),
    Case(b"measure fsmagic=0 fsmagic=5", shown=b"measure fsmagic=0x5 "),
    Case(b"measure fsmagic=ffffffffffffffff", shown=b"measure fsmagic=0xffffffffffffffff "),
    Case(b"measure fsname=a fsname=b", shown=b"measure fsname=b "),
    Case(b"measure fsname=" + LONG, shown=b"measure fsname=" + LONG[:63] + b" "),
    Case(b"measure fs_subtype=" + LONG, shown=b"measure fs_subtype=" + LONG[:63] + b" "),
    Case(b"measure fsuuid=" + UUID.upper(), shown=b"measure fsuuid=" + UUID + b" "),
    Case(b"measure fsuuid=" + UUID + b"-and-more", shown=b"measure fsuuid=" + UUID + b" "),
    Case(b"measure uid=+7", shown=b"measure uid=7 "),
    Case(b"measure uid=007", shown=b"measure uid=7 "),
    Case(b"measure uid=4294967294", shown=b"measure uid=-2 "),
    Case(b"measure fgroup>2147483648", shown=b"measure fgroup>-2147483648 "),
    Case(b"measure pcr=+9", shown=b"measure pcr=9 "),
    Case(b"measure pcr=-0", shown=b"measure pcr=0 "),
    Case(b"measure pcr=1 pcr=2", shown=b"measure pcr=2 "),
    Case(b"pcr=5 measure", shown=b"measure pcr=5 "),
    Case(b"measure template=d|n", shown=b"measure template=ima "),
    Case(b"measure template=d-ng|n-ng|sig", shown=b"measure template=ima-sig "),
    Case(b"measure appraise_flag=anything", shown=b"measure "),
    Case(
        b"measure digest_type=verity pcr=3 func=FILE_CHECK", shown=b"measure func=FILE_CHECK pcr=3 digest_type=verity "
    ),
    Case(
        b"measure permit_directio template=ima-ng fgroup=1 fowner=2 gid=3 uid=4 fsuuid="
        + UUID
        + b" pcr=5 fs_subtype=s fsname=n fsmagic=6 mask=MAY_READ func=FILE_CHECK",
        shown=b"measure func=FILE_CHECK mask=MAY_READ fsmagic=0x6 fsname=n fs_subtype=s pcr=5 fsuuid="
        + UUID
        + b" uid=4 gid=3 fowner=2 fgroup=1 template=ima-ng permit_directio ",
    ),
    Case(b"# a comment", shown=b""),
    Case(b"", shown=b""),
    Case(b" \t", shown=b""),
    *_bad(
        b"nonsense",
        b"measure nonsense",
        b"measure nonsense=5",
        b"measures",
        b"Measure",
        b"measure measure",
        b"measure dont_measure",
        b"func=FILE_CHECK",
        b"measure func=",
        b"measure func=file_check",
        b"measure func=NONE",
        b"measure func=POST_SETATTR",
        b"measure func=FILE_CHECK func=FILE_CHECK",
        b"measure func=FILE_CHECK\r",
        b"measure,func=FILE_CHECK",
        b"measure mask=READ",
        b"measure mask=",
        b"measure mask=^",
        b"measure mask=^^MAY_READ",
        b"measure mask=MAY_READ|MAY_EXEC",
        b"measure mask=MAY_READ mask=MAY_EXEC",
        b"measure uid=",
        b"measure uid=root",
        b"measure uid=-1",
        b"measure uid=0x10",
        b"measure uid>=5",
        b"measure uid!=5",
        b"measure uid=4294967295",
        b"measure uid=4294967296",
        b"measure uid=1 uid=2",
        b"measure uid=1 euid=2",
        b"measure gid=1 egid=2",
        b"measure fowner=1 fowner=2",
        b"measure fgroup=a",
        b"measure fsmagic=",
        b"measure fsmagic=0x",
        b"measure fsmagic=-1",
        b"measure fsmagic=xyz",
        b"measure fsmagic=5 fsmagic=6",
        b"measure fsname=",
        b"measure fs_subtype=a fs_subtype=b",
        b"measure fsuuid=1234",
        b"measure fsuuid=" + UUID.replace(b"-", b""),
        b"measure fsuuid=" + UUID + b" fsuuid=" + UUID,
        b"measure keyrings=.ima",
        b"measure label=a",
        b"measure func=FILE_CHECK label=a",
        b"measure func=KEY_CHECK label=a",
        b"measure func=CRITICAL_DATA keyrings=.ima",
        b"measure func=CRITICAL_DATA label=a||b",
        b"measure func=CRITICAL_DATA label=|a",
        b"measure func=CRITICAL_DATA label=a label=b",
        b"measure func=CRITICAL_DATA mask=MAY_READ",
        b"measure func=CRITICAL_DATA euid=0",
        b"measure func=CRITICAL_DATA fowner=0",
        b"measure func=KEY_CHECK fsmagic=0xef53",
        b"measure func=KEXEC_CMDLINE mask=MAY_READ",
        b"measure func=KEXEC_CMDLINE digest_type=verity",
        b"measure func=MODULE_CHECK digest_type=verity",
        b"measure digest_type=ima",
        b"measure digest_type=",
        b"measure pcr=64",
        b"measure pcr=-1",
        b"measure pcr=+",
        b"measure pcr=-+5",
        b"measure pcr=ten",
        b"measure pcr=99999999999999999999",
        b"dont_measure pcr=10",
        b"template=ima-ng measure",
        b"dont_measure template=ima-ng",
        b"measure template=ima-ng template=ima-sig",
        b"measure template=nothing",
        b"measure template=d-ng|n-ng|sig|sig",
        b"measure template=",
        b"measure appraise_type=imasig",
        b"measure appraise_algos=sha256",
        b"measure appraise_flag=",
        b"measure permit_directio=1",
        b"measure func=SETXATTR_CHECK",
        b"measure euid!=0",
    ),
    *_bad(
        b"measure uid=99999999999999999999",
        b"measure fgroup=18446744073709551616",
        b"measure fsmagic=10000000000000000",
        errno=34,
    ),
    *_unseen(
        b"appraise func=FILE_CHECK fsmagic=0x1",
        b"dont_appraise",
        b"audit",
        b"dont_audit",
        b"hash",
        b"dont_hash",
        b"appraise func=FILE_CHECK appraise_type=imasig fsmagic=0x1",
        b"measure func=CREDS_CHECK",
        b"measure func=MMAP_CHECK_REQPROT",
        b"measure obj_user=system_u",
        b"measure obj_role=object_r",
        b"measure obj_type=bin_t",
        b"measure subj_user=system_u",
        b"measure subj_role=r",
        b"measure subj_type=init_t",
    ),
]
"""What happens to rules once a custom policy is loaded. (Before that the kernel checks labels of security modules.)"""


@dataclass(frozen=True)
class Session:
    """One opening of the policy file: what is written, and what each write gives: bytes taken, or minus the errno."""

    writes: tuple[bytes, ...]
    results: tuple[int, ...]
    added: bytes = b""
    offset: int = 0


FILES = {
    "good": b"# rules\n\n  measure uid=8 # first\nmeasure func=CRITICAL_DATA gid=4242\nmeasure func=POLICY_CHECK\n",
    "no-newline": b"measure uid=9",
    "one-bad": b"measure uid=9\nnonsense\n",
    "empty": b"",
    "comments": b"# nothing\n",
}
"""Files of rules, in the directory that stands for ``@`` in the writes."""

SESSIONS = [
    Session((), ()),
    Session((b"nonsense\n",), (-22,)),
    Session((b"# only a comment\n",), (17,)),
    Session((b"measure uid=1\nmeasure uid=2\n",), (14,), b"measure uid=1 \n"),
    Session((b"measure uid=2\n", b"measure uid=3\n"), (14, 14), b"measure uid=2 \nmeasure uid=3 \n"),
    Session((b"measure uid=4\n", b"nonsense\n"), (14, -22)),
    Session((b"nonsense\n", b"measure uid=4\n"), (-22, 14)),
    Session((b"measure uid=5\0nonsense\n",), (14,), b"measure uid=5 \n"),
    Session((b"measure uid=6\n",), (-22,), offset=1),
    Session((b"#" + b"x" * 5000 + b"\n",), (4096,)),
    Session((b"measure uid=7 #" + b"x" * 5000 + b"\n",), (4096,), b"measure uid=7 \n"),
    Session(
        (b"@/good\n",), (7,), b"measure uid=8 \nmeasure func=CRITICAL_DATA gid=4242 \nmeasure func=POLICY_CHECK \n"
    ),
    Session((b"@/good",), (6,), b"measure uid=8 \nmeasure func=CRITICAL_DATA gid=4242 \nmeasure func=POLICY_CHECK \n"),
    Session((b"@/no-newline\n",), (-22,)),
    Session((b"@/one-bad\n",), (-22,)),
    Session((b"@/empty\n",), (-22,)),
    Session((b"@/comments\n",), (11,)),
    Session((b"@/missing\n",), (-2,)),
    Session((b"@\n",), (-22,)),
    Session((b"/dev/null\n",), (-22,)),
    Session((b"relative/good\n",), (-22,)),
    Session((b"@/comments\nmeasure uid=9\n",), (25,)),
    Session((b"measure uid=10\n", b"@/comments\n"), (15, 11), b"measure uid=10 \n"),
]
"""In this order, from the built-in ``tcb`` policy on. ``@`` is the directory of FILES, counted as one byte."""


def run_session(file: PolicyFile, session: Session, place: Path) -> list[int]:
    """Do a session with the files of rules in ``place``; bytes taken by each write, or minus the errno."""
    results = []
    update = file.begin()
    for data in session.writes:
        try:
            results.append(update.write(data.replace(b"@", str(place).encode()), session.offset))
        except PolicyRefused as error:
            results.append(-error.number)
    update.release()
    return results
