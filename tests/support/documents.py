"""Code blocks and tables of the documents, for the tests that run or check them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
DOCS = TESTS.parent / "docs"


def tracked_files() -> list[Path]:
    """The files that git tracks or would add; without git the test is skipped."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.decode("utf-8").split("\0") if name and (path := ROOT / name).is_file()]


def python_blocks(document: str, heading: str = "", language: str = "python") -> list[str]:
    """The Python (or other) blocks of a document, of one section of it (``## heading``) if that is named."""
    text = (DOCS / document).read_text("utf-8")
    if heading:
        text = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(rf"^( *)```{language}\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", code, flags=re.MULTILINE) for indent, code in blocks]


def run(code: str) -> dict[str, Any]:
    """Execute a block as a module of its own; return the names that it defines."""
    names: dict[str, Any] = {"__name__": "block"}
    # without this file's own "from __future__ import annotations"
    exec(compile(code, "block", "exec", dont_inherit=True), names)  # noqa: S102
    return names


def table_rows(document: str, first_cell: str) -> list[list[str]]:
    """The rows of the table whose first column is headed ``first_cell``."""
    lines = (DOCS / document).read_text("utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first_cell} |")) + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return rows


def names_of_tests() -> set[str]:
    """The names of all test functions."""
    found = (re.findall(r"^def (test_\w+)", file.read_text("utf-8"), re.MULTILINE) for file in TESTS.rglob("test_*.py"))
    return {name for names in found for name in names}
