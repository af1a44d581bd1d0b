"""The tree that serves an engine's lists, without FUSE. What the kernel answers is asked in tests/conformance."""

import errno
import os
import stat
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imarium.engine import Event, Measurement, MeasurementQueue, PolicyFile, event_data, find_template
from imarium.formats import IMA_PCR, ListForm, ListKind, ListLayout, read_list
from imarium.fuse import Caller, Change, ChangeableTree, TreeError
from imarium.hashes import SHA1, SHA256, SHA384, SM3, HashAlgorithm
from imarium.securityfs.tree import ImaTree
from imarium.securityfs.tree.commands import command_current, command_staged
from imarium.securityfs.tree.lock import ListLock

TEMPLATE = find_template("ima-sig")
UNSEEN = Caller(0, 0, 0)
PLAIN, STAGED = "/binary_runtime_measurements_sha1", "/binary_runtime_measurements_sha1_staged"


def me():
    """This thread. It has CAP_SYS_ADMIN where the tests run as root."""
    return Caller(threading.get_native_id(), os.getuid(), os.getgid())


class Administrator(Caller):
    """A caller with every capability, whoever runs the tests."""

    def has_capability(self, _number):
        return True


ADMIN = Administrator(os.getpid(), 0, 0)
OTHER = Administrator(os.getppid(), 0, 0)


def measure(queue, count=1):
    for _ in range(count):
        number = queue.counts.full
        event = Event(b"/file %d" % number, SHA256, SHA256.digest(b"%d" % number))
        queue.add(Measurement(IMA_PCR, TEMPLATE, event_data(TEMPLATE, event, "little")))


@pytest.fixture
def queue():
    found = MeasurementQueue()
    measure(found, 3)
    return found


@pytest.fixture
def tree(queue):
    return ImaTree(queue, [SHA256], PolicyFile())


def failing(number, operation, *arguments):
    with pytest.raises(TreeError) as raised:
        operation(*arguments)
    assert errno.errorcode[raised.value.number] == errno.errorcode[number]


def content(tree, path):
    handle = tree.open(path, os.O_RDONLY, UNSEEN)
    parts, position = [], 0
    while part := handle.read(position, 1 << 20):
        parts.append(part)
        position += len(part)
    handle.release()
    return b"".join(parts)


def command(tree, path, text):
    handle = tree.open(path, os.O_WRONLY, ADMIN)
    try:
        return handle.write(0, text)
    finally:
        handle.release()


def test_every_bank_has_lists_and_sha1_always(queue):
    names = ImaTree(queue, [SHA384, SM3], PolicyFile()).names("/")
    assert len(names) == len(set(names)) == 2 * 2 * (3 + 1) + 3
    assert {"ascii_runtime_measurements_sm3", "binary_runtime_measurements_sha384_staged"} < set(names)
    assert "binary_runtime_measurements_sha256" not in names
    unmapped = HashAlgorithm("_tpm_alg_99", 0x99, 20)
    assert "ascii_runtime_measurements__tpm_alg_99" in ImaTree(queue, [unmapped], PolicyFile()).names("/")


def test_a_bank_that_cannot_be_computed_has_padded_sha1_digests(queue):
    unknown = HashAlgorithm("_tpm_alg_99", 0x99, 32)
    tree = ImaTree(queue, [unknown], PolicyFile())
    layout = ListLayout(unknown, padded=True)
    lists = content(tree, f"/binary_runtime_measurements_{unknown.name}"), content(tree, PLAIN)
    records = list(read_list([lists[0]], ListForm(ListKind.BINARY, layout)))
    plain = list(read_list([lists[1]], ListForm(ListKind.BINARY, ListLayout(SHA1))))
    assert [record.template_digest[:20] for record in records] == [record.template_digest for record in plain]
    assert all(record.digest_is_good for record in records)


def test_without_staging_there_are_no_commands_and_no_lock(queue):
    tree = ImaTree(queue, [SHA256], PolicyFile(), staging=False)
    assert not [name for name in tree.names("/") if name.endswith("_staged")]
    assert stat.S_IMODE(tree.attributes(PLAIN).mode) == 0o440
    reader, writer = tree.open(PLAIN, os.O_RDONLY, UNSEEN), tree.open(PLAIN, os.O_RDWR, UNSEEN)
    failing(errno.EINVAL, writer.write, 0, b"1\n")
    assert len(reader.read(0, 1 << 16)) == len(content(tree, PLAIN))
    failing(errno.ENOENT, tree.open, STAGED, os.O_RDONLY, UNSEEN)


def test_nested_as_below_sys_kernel_security(queue):
    tree = ImaTree(queue, [SHA256], PolicyFile(), nested=True)
    assert (tree.names("/"), tree.names("/integrity")) == (["integrity", "ima"], ["ima"])
    assert tree.readlink("/ima") == "integrity/ima"
    assert len(content(tree, f"/integrity/ima{PLAIN}")) > 0
    assert stat.S_ISLNK(tree.attributes("/ima").mode)
    assert tree.attributes("/integrity/ima").is_directory


def test_paths_that_lead_nowhere(tree):
    failing(errno.ENOENT, tree.attributes, "/none")
    failing(errno.ENOTDIR, tree.attributes, "/violations/x")
    failing(errno.ENOTDIR, tree.names, "/violations")
    failing(errno.EINVAL, tree.readlink, PLAIN)
    failing(errno.EISDIR, tree.open, "/", os.O_RDONLY, ADMIN)
    failing(errno.ENOENT, tree.truncate, "/none", 0)


def test_modes_and_owners_can_be_changed_and_names_cannot(tree):
    assert isinstance(tree, ChangeableTree)
    tree.change(PLAIN, Change(mode=0o600))
    tree.change(PLAIN, Change(uid=7, modified=5))
    found = tree.attributes(PLAIN)
    assert (stat.S_IMODE(found.mode), stat.S_ISREG(found.mode), found.uid, found.gid) == (0o600, True, 7, None)
    assert (found.modified, found.accessed, found.size) == (5, None, None)
    assert stat.S_IMODE(tree.attributes(STAGED).mode) == 0o660
    failing(errno.ENOENT, tree.change, "/none", Change(mode=0o600))


def test_writing_needs_the_capability_reading_does_not(tree):
    for path in (PLAIN, STAGED):
        for flags in (os.O_WRONLY, os.O_RDWR):
            failing(errno.EPERM, tree.open, path, flags, UNSEEN)
        tree.open(path, os.O_RDONLY, UNSEEN).release()
    failing(errno.EPERM, tree.open, "/policy", os.O_RDONLY, UNSEEN)
    if os.geteuid() == 0:
        tree.open(STAGED, os.O_WRONLY, me()).release()


def test_a_task_that_is_not_seen_is_never_the_one_that_writes():
    lock = ListLock()
    lock.enter(None, write=True)
    failing(errno.EBUSY, lambda: lock.enter(None, write=True))
    lock.leave(write=True)
    lock.enter(None, write=False)


def test_the_lock_is_one_for_all_lists_and_goes_with_the_last_release(tree):
    first = tree.open(STAGED, os.O_WRONLY, ADMIN)
    second = tree.open("/ascii_runtime_measurements_sha256", os.O_RDWR, ADMIN)
    failing(errno.EBUSY, tree.open, PLAIN, os.O_WRONLY, OTHER)
    first.release()
    failing(errno.EBUSY, tree.open, PLAIN, os.O_RDONLY, ADMIN)
    second.release()
    reader = tree.open(PLAIN, os.O_RDONLY, UNSEEN)
    failing(errno.EBUSY, tree.open, STAGED, os.O_RDWR, ADMIN)
    reader.release()
    tree.open(STAGED, os.O_WRONLY, OTHER).release()


def test_commands_and_counters(tree, queue):
    assert command(tree, PLAIN, b"1\n") == 2
    assert content(tree, "/runtime_measurements_count") == b"2\n"
    whole = content(tree, PLAIN)
    assert command(tree, STAGED, b"A\n") == 2
    measure(queue, 1)
    assert content(tree, STAGED) == whole
    assert content(tree, "/runtime_measurements_count") == b"1\n"
    queue.suspend()
    for path, text, number in ((STAGED, b"D\n", errno.ESTALE), (PLAIN, b"1\n", errno.ESTALE)):
        failing(number, command, tree, path, text)


def test_a_refused_command_says_why(queue):
    with pytest.raises(TreeError, match="fewer records"):
        command_current(queue, b"4\n")
    with pytest.raises(TreeError, match="nothing is staged"):
        command_staged(queue, b"D\n")


@pytest.mark.parametrize("text", [b"", b"\n", b"1", b"1\n" * 11, b"0\n", b"-1\n", b"x\n", b"\xff\n", b"\0\n", b"+\n"])
def test_what_is_no_number_is_refused_and_deletes_nothing(queue, text):
    failing(errno.EINVAL, command_current, queue, text)
    failing(errno.EINVAL, command_staged, queue, text)
    assert queue.counts.current == 3


@given(st.one_of(st.binary(max_size=30), st.from_regex(rb"\+?[0-9]{1,22}\n{0,2}\0?\n?", fullmatch=True)))
def test_whatever_is_written_is_a_command_or_an_error(text):
    """Nothing but TreeError leaves, and what deletes says exactly how many."""
    queue = MeasurementQueue()
    measure(queue, 3)
    try:
        command_current(queue, text)
    except TreeError as error:
        assert error.number in (errno.EINVAL, errno.ERANGE, errno.ENOENT)
        assert queue.counts.current == 3
    else:
        assert queue.counts.current == 3 - int(text.partition(b"\n")[0].partition(b"\0")[0])
        assert 2 <= len(text) <= 21 and text.endswith(b"\n")


def test_a_list_deleted_under_its_reader_ends(tree, queue):
    """By another way than the files, which would not let it: the lock is theirs."""
    reader = tree.open(PLAIN, os.O_RDONLY, UNSEEN)
    assert reader.read(0, 10)
    queue.delete(3)
    left = reader.read(10, 1 << 20)
    assert reader.read(10 + len(left), 1 << 20) == b""


def test_the_policy_is_written_by_one_and_read_in_lines(tree):
    writer = tree.open("/policy", os.O_WRONLY, UNSEEN)
    failing(errno.EBUSY, tree.open, "/policy", os.O_WRONLY, UNSEEN)
    failing(errno.EACCES, tree.open, "/policy", os.O_RDWR, ADMIN)
    rules = [b"measure func=FILE_CHECK uid=%d \n" % number for number in range(2)]
    assert writer.write(0, rules[0]) == len(rules[0])
    assert writer.write(len(rules[0]), rules[1]) == len(rules[1])
    failing(errno.EINVAL, writer.write, 5, rules[1])
    writer.release()
    writer = tree.open("/policy", os.O_WRONLY, UNSEEN)
    for position, rule in ((0, rules[0]), (len(rules[0]), rules[1])):
        writer.write(position, rule)
    writer.release()
    reader = tree.open("/policy", os.O_RDONLY, ADMIN)
    assert reader.read(0, 1 << 16) == b"".join(rules)
    failing(errno.EBADF, reader.write, 0, rules[0])


def test_records_are_read_right_while_others_are_added_and_deleted():
    """Without a lock: a reader gets the record of a number, or is told that it is gone."""
    queue, ended, wrong = MeasurementQueue(), threading.Event(), []

    def read():
        while not ended.is_set():
            records = queue.current
            for number in range(records.first, records.end, 97):
                try:
                    name = records[number].data.partition(b"/file_")[2].partition(b"\0")[0]
                except IndexError:
                    continue
                if int(name) != number:
                    wrong.append((number, name))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(12):
        measure(queue, 700)
        queue.delete(queue.counts.current - 100)
    ended.set()
    for reader in readers:
        reader.join()
    assert not wrong
