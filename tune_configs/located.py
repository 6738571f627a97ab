"""YAML as a tree in which every value knows its location.

Design: PyYAML composes the nodes (safely, it constructs nothing) and this module resolves the scalars itself,
by the YAML 1.2 core rules: ``1e-4`` is a number and ``no`` is a word, as anyone who writes a recipe expects.
Duplicate keys, anchors, tags and merge keys are refused: a recipe must read the same to a person and a program.
The nesting depth is checked first: libyaml's composer ends the process when its stack overflows.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dnw_core.errors import UserError
from dnw_core.files import read_text

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it
_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")} | {
    "tag:yaml.org,2002:timestamp",  # what PyYAML takes for one is a plain word here
    "tag:yaml.org,2002:value",
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "true": True, "false": False}
_LARGEST_FILE = 4 << 20  # bytes; the tables of the papers have some 20,000
_DEEPEST = 32  # sections in each other; a row's deepest has 7
_MOST_DIGITS = 18  # of a whole number: what fits into 64 bits
_NOT_FINITE = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)


@dataclass(frozen=True)
class Located:
    """A value and its location: ``tiny.yaml:12``, or the option that gave it.

    ``value`` is a scalar, a list of ``Located`` or a dict of ``Located``. ``key_where`` is the place of the key
    that names the value (of the value itself where there is no key).
    """

    value: Any
    where: str
    key_where: str

    def get(self, key: str) -> Located | None:
        """Return the entry of a mapping, or None when there is none."""
        return self.value.get(key) if isinstance(self.value, dict) else None

    def plain(self) -> Any:
        """Return the value as ordinary Python objects."""
        if isinstance(self.value, dict):
            return {key: inner.plain() for key, inner in self.value.items()}
        if isinstance(self.value, list):
            return [inner.plain() for inner in self.value]
        return self.value


def read_yaml(path: Path) -> str:
    """Return the text of a YAML file.

    Raises:
        OSError: if it cannot be read, is not a plain file, or is far larger than any table.
        UnicodeDecodeError: if it is not UTF-8.
    """
    return read_text(path, _LARGEST_FILE)


def parse_yaml(text: str, name: str) -> Located:
    """Parse one YAML document.

    Args:
        text: the document.
        name: the text before the line number in errors (the file's name).

    Raises:
        UserError: if it is not YAML, is empty, or holds a duplicate key, an anchor used twice, or a tag.
    """
    try:
        root = _compose(text, lambda line: f"{name}:{line}")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{name}{line}: not valid YAML ({error.problem or error.context})") from None
    except yaml.YAMLError as error:
        raise UserError(f"{name}: not valid YAML ({str(error).splitlines()[0]})") from None
    if root is None:
        raise UserError(f"{name}: the file is empty; a table needs id, title, source, recipe, scales and rows")
    return _convert(root, name, lambda line: f"{name}:{line}", set())


def parse_value(text: str, where: str) -> Located:
    """Parse the value of a ``--set key=value`` option; every error names ``where`` and no line."""
    try:
        root = _compose(text, lambda _line: where)
    except yaml.YAMLError:
        raise UserError(f"{where}: {text!r} is not a value; write a number, a word, true, false or [1, 2]") from None
    if root is None:
        raise UserError(f"{where}: the value is empty; write key=value")
    return _convert(root, where, lambda _line: where, set())


def _compose(text: str, place: Any) -> Any:
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise UserError(f"{place(line)}: more than {_DEEPEST} nested sections")
    return yaml.compose(text, Loader=_LOADER)


def _convert(node: Any, name: str, place: Any, seen: set[int], key_where: str | None = None) -> Located:
    where = place(node.start_mark.line + 1)
    _refuse_hidden(node, where, seen)
    if isinstance(node, yaml.ScalarNode):
        value: Any = _scalar(node, where)
    elif isinstance(node, yaml.SequenceNode):
        value = [_convert(inner, name, place, seen) for inner in node.value]
    else:
        value = {}
        for key_node, inner in node.value:
            here = place(key_node.start_mark.line + 1)
            if not isinstance(key_node, yaml.ScalarNode):
                raise UserError(f"{here}: a key must be a word")
            _refuse_hidden(key_node, here, seen)
            key = key_node.value
            _refuse_control(key, here)
            if key in value:
                raise UserError(f"{here}: duplicate key {key!r}; it is already given at {value[key].key_where}")
            value[key] = _convert(inner, name, place, seen, here)
    return Located(value, where, key_where or where)


def _refuse_hidden(node: Any, where: str, seen: set[int]) -> None:
    """Refuse what makes a node mean something else than it says: a tag, or a place under an anchor."""
    if node.tag not in _PLAIN_TAGS:
        raise UserError(f"{where}: the tag {node.tag.removeprefix('tag:yaml.org,2002:')!r} is not allowed here")
    if id(node) in seen:
        raise UserError(f"{where}: anchors and aliases (& and *) are not allowed here; write the value out")
    seen.add(id(node))


def _refuse_control(text: str, where: str) -> None:
    """Refuse characters that act on a terminal or turn the reading direction; line breaks and tabs are text."""
    for character in text:
        if character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cf", "Cs"):
            raise UserError(f"{where}: the character U+{ord(character):04X} is not allowed here")


def _scalar(node: Any, where: str) -> Any:
    text: str = node.value
    _refuse_control(text, where)
    if node.style:  # quoted or a block: always text (plain is None, or "" from libyaml)
        return text
    if text.lower() in _WORDS and text in (text.lower(), text.capitalize(), text.upper()):
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        if len(text) > _MOST_DIGITS:
            raise UserError(f"{where}: {text[:20]}… is too large a number")
        return int(text)
    number = float(text) if _FLOAT.fullmatch(text) else 0.0
    if _NOT_FINITE.fullmatch(text) or not math.isfinite(number):
        raise UserError(f"{where}: {text[:20]} is not a finite number")
    if _FLOAT.fullmatch(text):
        return number
    return text
