"""Text that cannot break the report, and numbers that people can read."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from reports.text import (
    code,
    code_block,
    count,
    count_of,
    duration,
    escape,
    lines,
    number,
    plus_minus,
    share,
    signed,
    slug,
)

HOSTILE = [
    "a|b | c",
    "<script>alert(1)</script>",
    "![x](http://127.0.0.1/x.png) [y](file:///etc)",
    "`code` ``more`` *bold* _it_ ~~gone~~ $x$",
    "# heading",
    "1. list",
    "- item",
    "\\| \\` &amp; &lt;b&gt;",
    "|||```|||",
    "`",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_stays_in_its_cell(text: str) -> None:
    """A hostile text in a table, escaped or as code, is rendered as exactly that text and nothing else."""
    markdown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    tokens = markdown.parse(f"| a | b | c |\n|---|---|---|\n| {escape(text)} | {code(text)} | end |\n")
    cells = [tokens[i + 1] for i, token in enumerate(tokens) if token.type == "td_open"]
    assert len(cells) == 3
    shown, as_code, _ = cells
    assert {child.type for child in shown.children or []} <= {"text", "text_special"}
    assert "".join(child.content for child in shown.children or []) == text
    assert [child.type for child in as_code.children or []] == ["code_inline"]
    assert (as_code.children or [])[0].content.strip() == text


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_stays_a_paragraph(text: str) -> None:
    """At the start of a line too, escaped text opens no heading, list or HTML block."""
    tokens = MarkdownIt("commonmark", {"html": True}).parse(escape(text))
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]


def test_line_breaks_and_control_characters_go() -> None:
    """A label with line breaks, terminal colours and a right-to-left override becomes one plain line."""
    assert escape("a\nb\x1b[31mred\u202etxt") == "a b \\[31mredtxt"
    assert lines("one\n\x1b[31mtwo\r\nthree\x00") == "one\n [31mtwo\nthree"


def test_a_log_cannot_close_its_block() -> None:
    """A log that holds fences is fenced by a longer one."""
    block = code_block("```\n# out\n````")
    tokens = MarkdownIt("commonmark").parse(block)
    assert [token.type for token in tokens] == ["fence"]
    assert tokens[0].content == "```\n# out\n````\n"


@pytest.mark.parametrize("name", ["../../etc/passwd", "/abs", "..", ".", "", "a/b", "a\\b", "CON:", "x" * 400, "ä\0b"])
def test_a_file_name_is_only_a_file_name(name: str) -> None:
    """Hostile ids become short, visible names without a separator."""
    stem = slug("tiny", name)
    assert not set(stem) - set("abcdefghijklmnopqrstuvwxyz0123456789._-")
    assert not stem.startswith((".", "-"))
    assert ".." not in stem or "/" not in stem
    assert len(stem) <= 90


def test_altered_names_do_not_collide() -> None:
    """Names that look the same once cleaned, also on a file system that ignores case, stay apart."""
    names = ["a b", "a/b", "a?b", "A-b", "a-b"]
    assert len({slug(name) for name in names}) == len(names)
    assert slug("tiny", "static-dnw") == "tiny-static-dnw"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (912, "912"), (1000, "1.00k"), (41_458, "41.5k"), (999_949, "1.00M"), (153_600, "154k"),
     (12_300_000, "12.3M"), (4.09e9, "4.09G"), (32.5, "32.5"), (None, "–"), (float("nan"), "–")],
)  # fmt: skip
def test_counts(value: float | None, text: str) -> None:
    """Counts have three digits and the unit that fits."""
    assert count(value) == text


def test_numbers() -> None:
    """Fixed digits, true minus signs, a dash for nothing, times in the unit people use."""
    assert (number(1.25, 1), number(-0.4), number(None)) == ("1.2", "−0.4", "–")
    assert (signed(0.42), signed(-1.16), signed(float("nan"))) == ("+0.4", "−1.2", "–")
    assert (plus_minus(80.91, 0.58), plus_minus(80.91, None), plus_minus(None, None)) == ("80.9 ± 0.6", "80.9", "–")
    assert [duration(s) for s in (4.21, 59.97, 192, 7500, None)] == ["4.2 s", "1 min 00 s", "3 min 12 s", "2 h 05 min", "–"]  # fmt: skip  # noqa: E501


def test_mean_counts_and_shares() -> None:
    """A mean count has a digit only where it needs one; only a whole is 100.00 %."""
    values = (0, 0.2, 31.64, 50_000, 12_345.6, None, float("nan"))
    assert [count_of(value) for value in values] == ["0", "0.2", "31.6", "50,000", "12,346", "–", "–"]
    assert [share(value) for value in (100, 99.9999, 85, 0, None)] == ["100.00", "99.99", "85.00", "0.00", "–"]
