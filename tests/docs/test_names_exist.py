"""Every file, module, function and class of ours that a document, a comment or a docstring names exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

from tests.support.documents import ROOT, tracked_files

CODE = ("py", "yaml", "yml", "toml", "sh", "sbatch")
OTHER_SCRIPTS = (".ci/run", "deploy/Dockerfile")
OF_OTHER_REPOSITORIES = ("docs/facts.md", "docs/facts_methods.md")  # their files and functions are not ours
NOT_THERE = (
    "dnw_core.wiring.rules.hardest_pulled",  # docs/how_to_add.md's, which its reader makes
    "dnw_core.models.my_net",
    "pipelines/NAME.py",
    "found/*.yaml",  # made by a search
)
# what documents and comments name of libraries and of ImageNet, and no code of ours does
ELSEWHERE = (
    *(
        "MultiheadAttention",
        "normal_",
        "reset_parameters",
        "clamp_",
        "add_graph",
        "get_pickled_error",
    ),
    *("ILSVRC2012_img_train", "ILSVRC2012_img_val", "ILSVRC2012_devkit_t12"),
)

ANYTHING = r"<[\w-]+>|\{[\w,]+\}|\.\.\.|…"  # as in found/<table>.<row>.yaml, tests/…/test_x.py
PART = rf"(?:[\w.*-]|{ANYTHING})+"
PATH = re.compile(rf"(?<![\w./~$%@-])(?:\.{{1,2}}/)*({PART}(?:/{PART})*/?)")
IS_CODE = re.compile(rf"\.(?:{'|'.join(CODE)})$")
# of Python code: docstrings and comments, and the strings that could hold something that looks like one
LONG, SHORT = r'"""(?:[^\\]|\\.)*?"""', r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'"""
LITERAL = re.compile(rf"(?P<prose>^[ ]*r?{LONG}|\#[^\n]*)|{LONG}|{SHORT}", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r"(`+)([^`\n]+)\1")
NAME = re.compile(r"(\w+(?:\.\w+)*)(\(.*\))?")


@cache
def files() -> frozenset[str]:
    """The tracked files, relative to the repository's root."""
    return frozenset(path.relative_to(ROOT).as_posix() for path in tracked_files())


@cache
def places() -> frozenset[str]:
    """The tracked files and the folders that hold them."""
    return files() | {str(parent) for file in files() for parent in PurePosixPath(file).parents}


@cache
def endings() -> frozenset[str]:
    """Every place as it may be written: from the root, or from any folder on the way to it."""
    return frozenset(
        "/".join(parts[at:]) for place in places() for parts in [place.split("/")] for at in range(len(parts))
    )


@cache
def top_folders() -> frozenset[str]:
    """The folders at the repository's root."""
    return frozenset(file.split("/", 1)[0] for file in files() if "/" in file)


@cache
def modules() -> re.Pattern[str]:
    """A dotted name that begins with a package of ours."""
    packages = "|".join(folder for folder in sorted(top_folders()) if f"{folder}/__init__.py" in files())
    return re.compile(rf"(?<![\w./-])(?:{packages})(?:\.[A-Za-z_]\w*)+(?![\w/-])")


@cache
def read(file: str) -> tuple[tuple[tuple[int, str], ...], frozenset[str]]:
    """A file's comments and docstrings with their lines, and all its other words.

    Of a file that is not Python: its whole text, and, unless it is a document, its words.
    """
    text = (ROOT / file).read_text("utf-8")
    if not file.endswith(".py"):
        return ((1, text),), frozenset() if file.endswith(".md") else frozenset(re.findall(r"\w+", text))
    prose = [found for found in LITERAL.finditer(text) if found["prose"]]
    code = LITERAL.sub(lambda found: " " if found["prose"] else found[0], text)
    return tuple((text.count("\n", 0, found.start()) + 1, found[0]) for found in prose), frozenset(
        re.findall(r"\w+", code)
    )


@cache
def readable() -> tuple[str, ...]:
    """The files whose text is checked: all but this one, which plants names."""
    kinds = (*CODE, "md")
    chosen = {file for file in files() if file.rpartition(".")[2] in kinds or file in OTHER_SCRIPTS}
    return tuple(sorted(chosen - {Path(__file__).resolve().relative_to(ROOT).as_posix()}))


@cache
def words_of_code() -> frozenset[str]:
    """Every word of our code and settings, comments and docstrings left out, and the names of our modules."""
    return frozenset().union(*(read(file)[1] for file in readable())) | {PurePosixPath(file).stem for file in places()}


@cache
def names_in(file: str) -> frozenset[str]:
    """The names that a module defines or imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found.update((alias.asname or alias.name).split(".")[0] for alias in names)
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
    return frozenset(found)


def leads_nowhere(path: str) -> bool:
    """Whether nothing has this path, counted from the root or, if it begins with no folder there, from any folder."""
    pattern = re.sub(r"\*+", "*", re.sub(ANYTHING, "*", path)).rstrip("/")
    known = places() if pattern.split("/", 1)[0] in top_folders() else endings()
    if "<" in path:  # a file that the reader makes, in a folder that is there
        return pattern.partition("*")[0].rpartition("/")[0] not in known
    return pattern not in known and not ("*" in pattern and any(fnmatchcase(place, pattern) for place in known))


def names_nothing(dotted: str) -> bool:
    """Whether a dotted name that begins with a package of ours is neither a module nor a name in one."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        base = "/".join(parts[:length])
        if module := next((file for file in (f"{base}.py", f"{base}/__init__.py") if file in files()), None):
            return length < len(parts) and parts[length] not in names_in(module)
        if base in places():
            break
    return length < len(parts)


def complaints(text: str, *, only_paths_of_ours: bool = False) -> Iterator[tuple[int, str]]:
    """What a text names and the repository has not, each with its line, counted from 0.

    In a text about other repositories only paths and modules that begin with a folder of ours are ours.
    """
    for match in PATH.finditer(text):
        path = match[1].split("::")[0].rstrip(".:")
        ours = "/" in path and path.split("/", 1)[0] in top_folders()
        code = IS_CODE.search(path) and path[0] != "*" and not only_paths_of_ours
        if (ours or code) and path not in NOT_THERE and leads_nowhere(path):
            yield text.count("\n", 0, match.start()), path
    for match in modules().finditer(text):
        if match[0] not in NOT_THERE and not IS_CODE.search(match[0]) and names_nothing(match[0]):
            yield text.count("\n", 0, match.start()), match[0]
    for match in QUOTED.finditer(text):
        name = NAME.fullmatch(match[2])
        # a plain word may be anything; one with a dot, an underscore, a call or CamelCase is a name
        if name and not only_paths_of_ours and re.search(r"[._(]|[a-z][A-Z]|^[A-Z][a-z]", match[2]):
            for word in name[1].split("."):
                if word not in words_of_code() and word not in ELSEWHERE:
                    yield text.count("\n", 0, match.start()), f"`{match[2]}`: {word}"


def test_everything_that_is_named_exists() -> None:
    """In documents, settings and scripts; in comments and docstrings of Python files."""
    wrong = [
        f"{file}:{start + line}: {what}"
        for file in readable()
        for start, passage in read(file)[0]
        for line, what in complaints(passage, only_paths_of_ours=file in OF_OTHER_REPOSITORIES)
    ]
    assert not wrong, "\n".join(dict.fromkeys(wrong))


def test_no_exception_is_kept_in_vain() -> None:
    """What is excepted is named somewhere, and not in our code."""
    text = "\n".join(passage for file in readable() for _, passage in read(file)[0])
    assert [name for name in (*ELSEWHERE, *NOT_THERE) if name not in text or name in words_of_code()] == []


@pytest.mark.parametrize(
    "wrong",
    [
        "dnw_core/wiring/twice.py",
        "pipelines/schedules/",
        "tests/…/test_nothing.py",
        "tests/store/test_nothing_*.py",
        "tune_configs/lost/<table>.yaml",
        "store_actor.py",
        "storage/actors.py",
        "data/resident.py",
        "pipelines.store.actor",
        "dnw_core.training.run_trials",
        "`no_such_function()`",
        "`WiringRule.no_such_method`",
        "`masking.no_such_name(weight)`",
        "``NoSuchClass``",
    ],
)
def test_a_name_of_nothing_is_found(wrong: str) -> None:
    """The check itself, on planted names."""
    found = list(complaints(f"\nas {wrong}, (as {wrong}) and ``{wrong.strip('`')}``."))
    assert [line for line, _ in found][:2] == [1, 1]


@pytest.mark.parametrize(
    "text",
    [
        "`dnw_core/wiring/once.py`, once.py, wiring/once.py:12, ../docs/cluster.md, ./.ci/run, tests/docs/",
        "tests/docs/test_names_exist.py::test_x, tests/…/test_names_*.py, tune_configs/found/<table>.<row>.yaml",
        "`dnw_core.training.run_trial`, dnw_core.wiring.rules. And dnw_core.wiring.",
        "`WiringRule.decides_at`, ``top_k_mask(weight, k)``, `ray.init()`, `seed`",
    ],
)
def test_names_of_ours_are_known(text: str) -> None:
    """The check itself, on what exists, however it is written."""
    assert list(complaints(text)) == []
