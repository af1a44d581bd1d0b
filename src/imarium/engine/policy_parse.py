"""Rules from text: the kernel's policy language, as far as it is about measuring.

What the kernel refuses is refused, with the same errno. What it takes but what cannot be told from user space (labels
of a security module, some hooks), or is not about measuring, is refused too, saying so, rather than never coming true.
"""

import errno
import re
import uuid
from collections.abc import Callable
from typing import Any

from imarium.engine.hooks import UNSEEN_HOOKS, Access, Hook
from imarium.engine.policy_errors import PolicyRefused
from imarium.engine.policy_rule import Comparison, IdTest, Rule, Verb
from imarium.formats import BUILTIN_TEMPLATES, LIST_PCRS, PcrIndex

__all__ = ["parse_line", "parse_rule"]

_Fields = dict[str, Any]

_OTHER_VERBS = {b"appraise", b"dont_appraise", b"audit", b"dont_audit", b"hash", b"dont_hash"}
_APPRAISING = {b"appraise_type", b"appraise_algos"}
_UNSEEN = {b"obj_user", b"obj_role", b"obj_type", b"subj_user", b"subj_role", b"subj_type"}
_HOOKS = {hook.value: hook for hook in Hook} | {b"PATH_CHECK": Hook.FILE_CHECK, b"FILE_MMAP": Hook.MMAP_CHECK}
_MASKS = {b"MAY_" + str(access.name).encode(): access for access in Access if access}
_TEMPLATES = {name.encode(): name for name in BUILTIN_TEMPLATES} | {
    fields.encode(): name for name, fields in BUILTIN_TEMPLATES.items()
}
_DECIMAL = re.compile(rb"\+?([0-9]+)")
_SIGNED = re.compile(rb"(\+|-)?([0-9]+)")
_HEXADECIMAL = re.compile(rb"\+?(?:0[xX])?([0-9a-fA-F]+)")
_UUID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_WORD = re.compile(rb"([a-z_]+)([=<>])(.+)", re.DOTALL)
_NOBODY = (1 << 32) - 1
_MOST_DIGITS = len(str(1 << 64))
"""Numbers of 64 bits have no more, but for zeros before them."""

_FILE_CONDITIONS = frozenset({"fsmagic", "fsname", "fs_subtype", "fsuuid", "euid", "egid", "fowner", "fgroup"})
_ALLOWED: dict[Hook | None, frozenset[str]] = {
    Hook.KEXEC_CMDLINE: _FILE_CONDITIONS | {"uid", "gid", "pcr"},
    Hook.KEY_CHECK: frozenset({"uid", "gid", "pcr", "keyrings"}),
    Hook.CRITICAL_DATA: frozenset({"uid", "gid", "pcr", "labels"}),
}
_ALLOWED_ELSEWHERE = _FILE_CONDITIONS | {"uid", "gid", "pcr", "mask", "inside", "permit_directio", "verity"}
_WITHOUT_VERITY = {Hook.MODULE_CHECK, Hook.KEXEC_KERNEL_CHECK, Hook.KEXEC_INITRAMFS_CHECK}


def parse_line(line: bytes) -> Rule | None:
    """The rule on a line, or None where there is only a comment or nothing. Raises PolicyRefused."""
    words = line.lstrip(b" \t")
    return None if not words or words.startswith(b"#") else parse_rule(words)


def parse_rule(text: bytes) -> Rule:
    """A rule from its text, without the newline. A word that begins with ``#`` starts a comment.

    Raises:
        PolicyRefused: it is malformed (EINVAL, ERANGE), or not something this engine could do.
    """
    fields: _Fields = {}
    for word in re.split(rb"[ \t]", text):
        if word.startswith(b"#"):
            break
        if word:
            _take(fields, word)
    if "verb" not in fields:
        raise PolicyRefused("the rule says neither measure nor dont_measure")
    _check_together(fields)
    return Rule(**fields)


def _take(fields: _Fields, word: bytes) -> None:
    """Add what one word says."""
    if word in _OTHER_VERBS:
        raise PolicyRefused(f"{_show(word)} is not about measuring, and this engine does nothing else")
    if word in {b"measure", b"dont_measure"}:
        _once(fields, "verb", word)
        fields["verb"] = Verb(word)
        return
    if word == b"permit_directio":
        fields["permit_directio"] = True
        return
    split = _WORD.fullmatch(word)
    key, sign, value = split.groups() if split else (b"", b"", b"")
    if key in _IDENTITIES and sign:
        _identity(fields, word, key, Comparison(sign), value)
    elif sign == b"=" and key in _CONDITIONS:
        _CONDITIONS[key](fields, value)
    elif sign == b"=" and key in _UNSEEN:
        raise PolicyRefused(f"{_show(key)} is about a security module's labels, which user space cannot see here")
    elif sign == b"=" and key in _APPRAISING:
        raise PolicyRefused(f"{_show(key)} is about appraising, and this engine only measures")
    else:
        raise PolicyRefused(f"unknown word {_show(word)}")


def _show(word: bytes) -> str:
    return repr(word[:60])[1:]


def _once(fields: _Fields, name: str, word: bytes) -> None:
    if name in fields:
        raise PolicyRefused(f"{_show(word)} comes second: a rule takes one of its kind")


def _number(digits: re.Match[bytes] | None, base: int, limit: int, word: bytes) -> int:
    if digits is None:
        raise PolicyRefused(f"{_show(word)} is not a number")
    significant = digits[1].lstrip(b"0")[: _MOST_DIGITS + 1]
    number = int(significant or b"0", base)
    if len(significant) > _MOST_DIGITS or number >= 1 << 64:
        raise PolicyRefused(f"{_show(word)} does not fit in 64 bits", number=errno.ERANGE)
    if number >= limit:
        raise PolicyRefused(f"{_show(word)} is too large")
    return number


_IDENTITIES = {b"uid": "euid", b"euid": "uid", b"gid": "egid", b"egid": "gid", b"fowner": "", b"fgroup": ""}
"""Conditions on users and groups, each with the one the kernel keeps in the same place."""


def _identity(fields: _Fields, word: bytes, key: bytes, comparison: Comparison, value: bytes) -> None:
    for name in (key.decode(), _IDENTITIES[key]):
        _once(fields, name, word)
    number = _number(_DECIMAL.fullmatch(value), 10, _NOBODY, word)
    fields[key.decode()] = IdTest(comparison, number)


def _func(fields: _Fields, value: bytes) -> None:
    _once(fields, "hook", value)
    if value in UNSEEN_HOOKS:
        raise PolicyRefused(f"func={value.decode()} cannot be seen from user space: {UNSEEN_HOOKS[value]}")
    if value not in _HOOKS:
        raise PolicyRefused(f"unknown func {_show(value)}")
    fields["hook"] = _HOOKS[value]


def _mask(fields: _Fields, value: bytes) -> None:
    _once(fields, "mask", value)
    name = value.removeprefix(b"^")
    if name not in _MASKS:
        raise PolicyRefused(f"unknown mask {_show(value)}; masks are {b' '.join(_MASKS).decode()}")
    fields["mask"] = _MASKS[name]
    fields["inside"] = name != value


def _fsmagic(fields: _Fields, value: bytes) -> None:
    if fields.get("fsmagic"):
        _once(fields, "fsmagic", value)
    fields["fsmagic"] = _number(_HEXADECIMAL.fullmatch(value), 16, 1 << 64, value)


def _fsname(fields: _Fields, value: bytes) -> None:
    """The kernel lets a later name replace an earlier one."""
    fields["fsname"] = value


def _fs_subtype(fields: _Fields, value: bytes) -> None:
    _once(fields, "fs_subtype", value)
    fields["fs_subtype"] = value


def _fsuuid(fields: _Fields, value: bytes) -> None:
    """The kernel does not look beyond the 36th character."""
    if any(fields.get("fsuuid") or b""):
        _once(fields, "fsuuid", value)
    found = _UUID.match(value)
    if found is None:
        raise PolicyRefused(f"fsuuid {_show(value)} is not a UUID")
    fields["fsuuid"] = uuid.UUID(found[0].decode()).bytes


def _alternatives(name: str) -> Callable[[_Fields, bytes], None]:
    def take(fields: _Fields, value: bytes) -> None:
        _once(fields, name, value)
        found = tuple(value.split(b"|"))
        if not all(found):
            raise PolicyRefused(f"an empty name in {_show(value)}")
        fields[name] = found

    return take


def _pcr(fields: _Fields, value: bytes) -> None:
    found = _SIGNED.fullmatch(value)
    digits = found[2].lstrip(b"0") if found else b""
    number = int(digits[:_MOST_DIGITS] or b"0")
    if found is None or number >= LIST_PCRS or (found[1] == b"-" and number):
        raise PolicyRefused(f"pcr {_show(value)} is not a number below {LIST_PCRS}")
    fields["pcr"] = PcrIndex(number)


def _template(fields: _Fields, value: bytes) -> None:
    if fields.get("verb") is not Verb.MEASURE:
        raise PolicyRefused("template= has its place after measure")
    _once(fields, "template", value)
    if value not in _TEMPLATES:
        raise PolicyRefused(f"unknown template {_show(value)}; templates are {' '.join(BUILTIN_TEMPLATES)}")
    fields["template"] = _TEMPLATES[value]


def _digest_type(fields: _Fields, value: bytes) -> None:
    if value != b"verity":
        raise PolicyRefused(f"unknown digest_type {_show(value)}; it can be verity")
    fields["verity"] = True


def _appraise_flag(_fields: _Fields, _value: bytes) -> None:
    """The kernel takes any value and does nothing with it."""


_CONDITIONS: dict[bytes, Callable[[_Fields, bytes], None]] = {
    b"func": _func,
    b"mask": _mask,
    b"fsmagic": _fsmagic,
    b"fsname": _fsname,
    b"fs_subtype": _fs_subtype,
    b"fsuuid": _fsuuid,
    b"keyrings": _alternatives("keyrings"),
    b"label": _alternatives("labels"),
    b"pcr": _pcr,
    b"template": _template,
    b"digest_type": _digest_type,
    b"appraise_flag": _appraise_flag,
}


def _check_together(fields: _Fields) -> None:
    """Refuse what does not go together (the kernel's ``ima_validate_rule``)."""
    hook = fields.get("hook")
    if "pcr" in fields and fields["verb"] is not Verb.MEASURE:
        raise PolicyRefused("pcr= goes with measure")
    allowed = _ALLOWED.get(hook, _ALLOWED_ELSEWHERE)
    if hook in _WITHOUT_VERITY:
        allowed = allowed - {"verity"}
    for name in fields.keys() - {"verb", "hook", "template"} - allowed:
        what = {"labels": "label", "inside": "mask", "verity": "digest_type"}.get(name, name)
        raise PolicyRefused(f"{what} does not go with {'no func' if hook is None else 'func=' + hook.value.decode()}")
