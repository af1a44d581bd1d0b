"""Telling the form of a list from its beginning, and refusing to guess."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import BANKS, Made, ascii_line, binary, kexec, ng

from imarium.errors import ImariumError, MalformedInput, MalformedRecord, MissingComponent, UsageError
from imarium.formats.lists import ListForm, ListKind, detect_form, peek, read_frames, read_list
from imarium.formats.records import ListLayout
from imarium.hashes import SHA1, SHA256, by_name

MADE = [ng(b"boot_aggregate"), Made("ima-sig", (b"sha1:\0" + bytes(20), b"/x\0", b"")), ng(b"/v", violation=True)]
VIOLATIONS = [ng(b"/v", violation=True)]


def detect(head, **known):
    return detect_form(head, complete=known.pop("complete", True), **known)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("bank", BANKS)
def test_binary_lists(bank, order, complete):
    form = detect(binary(MADE, bank, order), complete=complete)
    assert form == ListForm(ListKind.BINARY, ListLayout(by_name(bank), order))
    cut = detect(binary(MADE, bank, order)[:-5], complete=False)
    assert cut == form


@pytest.mark.parametrize("bank", BANKS)
def test_ascii_lists(bank):
    text = b"".join(ascii_line(made, bank) for made in MADE)
    assert detect(text) == ListForm(ListKind.ASCII, ListLayout(by_name(bank)))
    assert detect(text[:-9], complete=False) == ListForm(ListKind.ASCII, ListLayout(by_name(bank)))


def test_the_byte_order_of_a_text_list_is_told_by_its_digests():
    text = b"".join(ascii_line(made, "sha1", "big") for made in MADE)
    assert detect(text).layout.byte_order == "big"


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("made", [MADE, VIOLATIONS, []])
def test_kexec_buffers(order, made):
    assert detect(kexec(made, order)) == ListForm(ListKind.KEXEC, ListLayout(byte_order=order))
    assert detect(kexec(made, order, b"\0" * 100), complete=False).kind is ListKind.KEXEC


@pytest.mark.parametrize("bank", ["sha256", "sha384", "sha512"])
def test_padded_columns(bank):
    form = detect(binary(MADE, bank, padded=True))
    assert form.layout.padded
    assert form.layout.digest.size == by_name(bank).size
    assert all(record.digest_is_good for record in read_list([binary(MADE, bank, padded=True)], form))


def test_a_list_for_register_one_is_no_kexec_buffer():
    for made in ([ng(b"/x", 1)], [ng(b"/x", 1, violation=True), *MADE]):
        assert detect(binary(made)).kind is ListKind.BINARY


def test_an_empty_list_is_an_empty_binary_one():
    assert detect(b"") == ListForm()
    assert list(read_list([], ListForm())) == []


def test_where_two_layouts_remain_it_is_not_guessed():
    data = binary(VIOLATIONS, "sha256")
    with pytest.raises(UsageError, match=r"template digests of sha256, sm3, sha3-256.*--digest"):
        detect(data)
    assert detect(data, digest=SHA256).layout == ListLayout(SHA256)
    assert detect(binary(VIOLATIONS)).layout == ListLayout(SHA1)


@pytest.mark.parametrize("bank", ["sha1", "sha256", "sha512"])
def test_a_list_broken_early_is_still_told(bank):
    """So the complaint is about the record that is broken, not about the layout."""
    broken = binary(MADE[:2], bank) + b"\xff" * 200
    form = detect(broken)
    assert form.layout.digest.name == bank
    with pytest.raises(MalformedRecord) as caught:
        list(read_list([broken], form))
    assert caught.value.record == 2


def test_a_list_of_violations_broken_early_is_still_told():
    broken = binary(VIOLATIONS, "sha512") + b"\xff" * 200
    assert detect(broken).layout.digest.name == "sha512"


def test_a_list_with_broken_fields_first_is_still_told():
    broken = Made("ima-ng", (b"what:\0" + bytes(20), b"/x\0"))
    form = detect(binary([broken, *MADE], "sha384"))
    assert form.layout.digest.name == "sha384"


def test_a_broken_text_list_is_complained_about_in_its_own_bank():
    text = ascii_line(MADE[0], "sha256").replace(b" ima-ng ", b" ima-xx ")
    form = detect(text)
    assert form.layout.digest is SHA256
    with pytest.raises(MalformedRecord, match="the name of a known template"):
        list(read_list([text], form))


def test_a_digest_this_machine_cannot_compute_is_missing():
    with pytest.raises(MissingComponent, match="cannot compute tgr128"):
        detect(binary(MADE), digest=by_name("tgr128"))


@given(st.binary(max_size=300), st.booleans(), st.sampled_from([None, *ListKind]))
def test_anything_at_all_has_a_form_or_an_error_of_ours(head, complete, kind):
    try:
        form = detect_form(head, complete=complete, kind=kind)
        list(read_list([head], form))
    except ImariumError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("kind", list(ListKind))
def test_frames_and_records_agree(kind):
    data = {
        ListKind.BINARY: binary(MADE),
        ListKind.ASCII: b"".join(map(ascii_line, MADE)),
        ListKind.KEXEC: kexec(MADE),
    }[kind]
    form = ListForm(kind)
    for step in (1, 7, len(data)):
        blocks = [data[i : i + step] for i in range(0, len(data), step)]
        frames = [frame for batch in read_frames(blocks, form) for frame in batch]
        assert frames == [record.frame for record in read_list(blocks, form)]
    with pytest.raises(MalformedInput):
        list(read_frames([data[:-3]], form))


def test_peek_gives_the_beginning_and_everything_again():
    head, blocks = peek(iter([b"ab", b"cd", b"ef"]), 3)
    assert head == b"abcd"
    assert b"".join(blocks) == b"abcdef"
    head, blocks = peek(iter([b"ab"]), 3)
    assert (head, list(blocks)) == (b"ab", [b"ab"])
