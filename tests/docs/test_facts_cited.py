"""Every fact that a line cites stands in docs/facts*.md with its source, and every named document in the repository."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documents import ROOT, tracked_files

SUFFIXES = {".py", ".yaml", ".yml", ".md", ".toml", ".sh", ".sbatch"}
WRITTEN_BY_US = {"results.md"}  # by the report, into a results folder

NUMBER = r"(?:Q\d++|\d++(?:\.\d++)*+)"  # possessive: never a part of one
HEADING = re.compile(rf"^(#+) ({NUMBER})\.? ", re.MULTILINE)
# "facts 4.1", "facts 3, Q17", "Facts 1.2 to 1.5", "facts methods 2.1"; a line may end anywhere in between
CITATION = re.compile(
    rf"\b[Ff]acts\s+(?:#\s+)?(?:(dnal|methods)\s+)?({NUMBER}(?:(?:,|,?\s+(?:and|to|or))\s+{NUMBER})*+)(?![\w-]|,\d)"
)
PLAIN_QUIRK = re.compile(r"\bQ\d+\b")
# what means a section and is not written so: "facts_dnal 2.3", "facts: 4.1", "facts.md, section 2", "facts 1.2-1.5"
OTHERWISE = re.compile(
    rf"\b[Ff]acts(?:_[a-z]+)?(?:\.md\b)?[\s,:(§#]*(?:[Ss]ection\s+)?{NUMBER}|\b[Ff]acts_[a-z]+\b(?!\.md)"
)
DOCUMENT = re.compile(r"[\w./-]*\b[\w-]+\.md\b")
OUTSIDE = re.compile(r"\.\./shared\b")


def facts() -> dict[str, str]:
    """The text of each numbered section by its number: "4.1", "Q19", of facts_methods.md "methods 2.1"."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "docs").glob("facts*.md")):
        prefix = path.stem.removeprefix("facts").removeprefix("_")
        text = path.read_text("utf-8")
        headings = list(HEADING.finditer(text))
        for heading, after in zip(headings, [*headings[1:], None], strict=True):
            number = f"{prefix} {heading[2]}".strip()
            assert number not in found, f"{path.name} has two sections {heading[2]}"
            is_leaf = after is None or len(after[1]) <= len(heading[1])
            found[number] = text[heading.end() : after.start() if after else None] if is_leaf else ""
    return found


def cited(text: str) -> Iterator[tuple[int, str]]:
    """Position and number of every fact that a text cites; a quirk within a citation comes at both positions."""
    for match in CITATION.finditer(text):
        for number in re.findall(NUMBER, match[2]):
            yield match.start(), f"{match[1] or ''} {number}".strip()
    for match in PLAIN_QUIRK.finditer(text):
        yield match.start(), match[0]


def complaints(text: str, known: set[str], documents: set[str]) -> list[str]:
    """What is wrong with the references of a text, each as "line: what"."""
    wrong = [(at, f"facts {number}: no such section") for at, number in cited(text) if number not in known]
    readable = {match.start() for match in CITATION.finditer(text)}
    for match in OTHERWISE.finditer(text):
        if match.start() not in readable:
            wrong.append((match.start(), f"{match[0]!r}: write 'facts 4.1', 'facts Q19' or 'facts methods 2.1'"))
    for match in DOCUMENT.finditer(text):
        if Path(match[0]).name not in documents | WRITTEN_BY_US:
            wrong.append((match.start(), f"{match[0]}: not in the repository"))
    wrong += [(match.start(), f"{match[0]}: outside the repository") for match in OUTSIDE.finditer(text)]
    return list(dict.fromkeys(f"{text.count(chr(10), 0, at) + 1}: {what}" for at, what in sorted(wrong)))


def tracked() -> list[Path]:
    """The text files that git tracks or would add, this one left out."""
    return [path for path in tracked_files() if path.suffix in SUFFIXES and path != Path(__file__).resolve()]


def test_every_reference_leads_to_something_in_the_repository() -> None:
    """Facts by number, documents by name."""
    files = tracked()
    known, documents = set(facts()), {path.name for path in files if path.suffix == ".md"}
    wrong = [
        f"{path.relative_to(ROOT)}:{complaint}"
        for path in files
        for complaint in complaints(path.read_text("utf-8"), known, documents)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_fact_has_a_source() -> None:
    """A section without numbered sections in it says something, and then where that comes from."""
    sections = {number: text for number, text in facts().items() if text}
    assert {"0.1", "1.1", "4.2", "6.1", "Q19", "methods 2.1"} <= set(sections)
    assert [number for number, text in sections.items() if not re.search(r"\n\n\S[^\0]*\n\nSource: \S", text)] == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("as facts 9.9 has it", ["1: facts 9.9: no such section"]),
        ("\nfacts 4.1, 9.8 and Q77", ["2: facts 9.8: no such section", "2: facts Q77: no such section"]),
        ("(facts\n9)", ["1: facts 9: no such section"]),
        ("# facts\n# 1.1 to 1.99", ["1: facts 1.99: no such section"]),
        ("facts methods 2.9", ["1: facts methods 2.9: no such section"]),
        ("Q78: odd", ["1: facts Q78: no such section"]),
        ("facts_methods 2.1", ["1: 'facts_methods 2.1': write 'facts 4.1', 'facts Q19' or 'facts methods 2.1'"]),
        ("facts.md, section 2", ["1: 'facts.md, section 2': write 'facts 4.1', 'facts Q19' or 'facts methods 2.1'"]),
        ("facts 1.2-1.5", ["1: 'facts 1.2': write 'facts 4.1', 'facts Q19' or 'facts methods 2.1'"]),
        ("see design.md", ["1: design.md: not in the repository"]),
        ("--data-dir ../shared/data", ["1: ../shared: outside the repository"]),
        ("facts 3, Q17 and Facts 1.2 to 1.5: 98 steps; facts 6; docs/facts.md; the facts, after 100 steps", []),
    ],
)
def test_a_reference_that_leads_nowhere_is_found(text: str, wrong: list[str]) -> None:
    """The check itself, on planted references."""
    assert complaints(text, set(facts()), {"facts.md"}) == wrong
