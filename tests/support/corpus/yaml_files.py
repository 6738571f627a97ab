"""Damaged table files: a good small table, and what can be wrong with one, by name."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

from support.corpus.damage import Harm, raw_harms

NAME = "small.yaml"
GOOD = """\
id: small
title: A small table
source: a test
default_seeds: {smoke: 1, paper: 3}
recipe:
  data: {dataset: digits, flip: false, train_images: 64, test_images: 64}
  optimiser: {learning_rate: 0.1, momentum: 0.9, weight_decay: 1e-4}
  schedule: {kind: multi-step, milestones: [4, 6]}
  epochs: 8
  batch_size: 16
scales:
  smoke: {epochs: 2, resources: {cpus: 2}}
  short: {epochs_fraction: 0.25}
rows:
  one:
    label: One
    published: {mean: 76.1, spread: 0.5, spread_is: std, n: 5, n_is: assumed, origin: a test}
    recipe:
      network: {kind: tiny-static}
      wiring: {rule: top-edges, density: 0.05}
    notes: [a note]
  sought:
    label: Sought
    extra: true
    include: found/small.sought.yaml
    recipe:
      network: {kind: tiny-static}
      wiring: {rule: top-edges, density: 0.05}
    search:
      space: {optimiser.learning_rate: {uniform: [0.01, 0.5]}}
      trials: 2
      validation_images: 32
  child:
    label: Child
    extra: true
    needs: one
    recipe:
      network: {kind: tiny-static}
      wiring: {rule: fine-tune, density: 0.05}
"""
FOUND = """\
recipe:
  optimiser: {learning_rate: 0.25}
provenance:
  command: a test
  date: "2026-01-01"
  scale: smoke
  seed: 0
  space: {}
  configurations: {tried: 1, finished: 1, stopped: 0, failed: 0}
  winner: {configuration: a, validation_accuracy: 0.5}
  epochs: 1
  training_images: 1
  validation_images: 1
  data_checksum: none
  commit: unknown
  dirty: false
  packages: {}
"""
INCLUDED = "found/small.sought.yaml"

_SPOTS = ("A small table", "0.1", "64", "tiny-static", "0.05", "[4, 6]", "8\n", "a note", "76.1", "std")
_VALUES = {
    "nothing": "",
    "null": "null",
    "a list": "[1, 2]",
    "a section": "{a: 1}",
    "infinity": ".inf",
    "an overflow": "1e999",
    "not a number": ".nan",
    "a very long number": "9" * 6000,
    "a large number": "999999999999999999",
    "minus": "-1",
    "zero": "0",
    "true": "true",
    "an octal number": "0o17",
    "a date": "2001-01-01",
    "an alias": "*nothing",
    "an anchor": "&a x",
    "a tag": "!!python/object/apply:os.system [true]",
    "a class": "!!python/name:os.system",
    "a binary": "!!binary aGk=",
    "a set": "!!set {a}",
    "another tag": "!local x",
    "an escape": '"\\e[31m"',
    "a bell": '"\\a"',
    "a NUL": '"\\0"',
    "a lone surrogate": '"\\ud800"',
    "a turned direction": '"\\u202e"',
    "a way out": "../../etc/passwd",
    "a long word": "x" * 100_000,
}
_TEXTS: dict[str, Harm] = {
    "deep brackets": lambda _: b"[" * 300_000,
    "deep braces": lambda _: b"{a: " * 300_000,
    "deep hyphens": lambda _: b"- " * 300_000 + b"x",
    "deep sections": lambda _: b"".join(b" " * depth + b"a:\n" for depth in range(2000)),
    "deep and closed": lambda good: good.replace(b"[a note]", b"[" * 5000 + b"]" * 5000),
    "billion laughs": lambda _: (
        b"a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 30))
    ),
    "merge key": lambda good: good.replace(b"  epochs: 8", b"  <<: {epochs: 8}"),
    "aliased key": lambda good: good.replace(b"title: A small table", b"&t title: A small table\n*t : x"),
    "tagged key": lambda good: good.replace(b"title: A", b"!!python/object:os.x title: A"),
    "complex key": lambda good: good.replace(b"title: A", b"? [a, b]\n: A"),
    "duplicate row": lambda good: good.replace(b"  sought:", b"  one:"),
    "duplicate key": lambda good: good + b"title: again\n",
    "unknown key": lambda good: good + b"titel: again\n",
    "tabs": lambda good: good.replace(b"  ", b"\t"),
    "byte order mark": lambda good: b"\xef\xbb\xbf" + good,
    "UTF-16": lambda good: good.decode().encode("utf-16"),
    "UTF-32": lambda good: good.decode().encode("utf-32"),
    "Latin-1": lambda good: good.replace(b"A small", "Ä".encode("latin-1")),
    "NUL": lambda good: good.replace(b"small table", b"small\0table"),
    "control characters": lambda good: good.replace(b"small table", b"\x1b[31m\x07"),
    "two documents": lambda good: good + b"---\n" + good,
    "only a comment": lambda _: b"# nothing\n",
    "only a word": lambda _: b"word\n",
    "only a list": lambda _: b"- a\n- b\n",
    "rows as a list": lambda good: good[: good.index(b"rows:")] + b"rows: [one, two]\n",
    "no rows": lambda good: good[: good.index(b"rows:")] + b"rows: {}\n",
    "row is a word": lambda good: good[: good.index(b"rows:")] + b"rows: {one: word}\n",
    "row is nothing": lambda good: good[: good.index(b"rows:")] + b"rows: {one: }\n",
    "directive": lambda good: b"%YAML 9.9\n---\n" + good,
    "ten thousand keys": lambda good: good + b"".join(b"k%d: 1\n" % n for n in range(10_000)),
    "needs itself": lambda good: good.replace(b"needs: one", b"needs: child"),
    "needs a way out": lambda good: good.replace(b"needs: one", b"needs: ../one"),
    "corrects itself": lambda good: good.replace(b"needs: one", b"corrects: child"),
    "corrects a list": lambda good: good.replace(b"needs: one", b"corrects: [one]"),
    **{
        f"row called {name!r}": (lambda good, name=name: good.replace(b"  one:", b'  "' + name.encode() + b'":'))  # type: ignore[misc]
        for name in ("../one", "/one", "..", ".", "a/b", "a\\\\b", "ONE", "-", "x" * 300, "a b", "one.work", "é")
    },
    **{
        f"include {name!r}": (lambda good, name=name: good.replace(INCLUDED.encode(), b'"' + name.encode() + b'"'))  # type: ignore[misc]
        for name in (
            "../secret.yaml",
            "/etc/passwd",
            "found/../../secret.yaml",
            "small.yaml",
            "found",
            ".",
            "",
            "a\\0b",
            "found/" + "x" * 5000,
            "~/secret.yaml",
            "found/pipe.yaml",
            "found/away.yaml",
            "found/round.yaml",
        )
    },
}
_FOUND: dict[str, Harm] = {
    "includes in a circle": lambda found: found + b"include: small.sought.yaml\n",
    "a setting that is not searched": lambda found: found.replace(b"learning_rate: 0.25", b"momentum: 0.5"),
    "a tag": lambda found: found.replace(b"0.25", b"!!python/object/apply:os.system [true]"),
    "infinity": lambda found: found.replace(b"0.25", b"1e999"),
    "a word": lambda found: found.replace(b"0.25", b"much"),
    "out of range": lambda found: found.replace(b"0.25", b"-3"),
    "a list": lambda _: b"[1]",
    "deep": lambda _: b"- " * 300_000,
    "recipe is a list": lambda found: found.replace(b"  optimiser: {learning_rate: 0.25}", b"  - 1"),
}


def cases() -> dict[str, Callable[[Path], None]]:
    """Return what writes a folder of tables, by the name of what is wrong with it."""
    made: dict[str, Callable[[Path], None]] = {}
    for name, harm in {**raw_harms("yaml", 24), **_TEXTS}.items():
        made[name] = _writer(harm, lambda found: found)
    for name, harm in {**raw_harms("found", 2), **_FOUND}.items():
        made[f"included file: {name}"] = _writer(lambda good: good, harm)
    for name, value in _VALUES.items():
        spot = random.Random(name).choice(_SPOTS)
        made[f"{name} for {spot.strip()!r}"] = _writer(_put(spot, value), lambda found: found)
    made["a pipe"] = lambda folder: os.mkfifo(folder / NAME)
    made["a folder"] = lambda folder: (folder / NAME).mkdir()
    made["a link to itself"] = lambda folder: (folder / NAME).symlink_to(NAME)
    made["a hole of 20 GB"] = lambda folder: _hole(folder / NAME)
    return made


def _writer(harm: Harm, harm_found: Harm) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / NAME).write_bytes(harm(GOOD.encode()))
        found = folder / "found"
        found.mkdir()
        (folder / INCLUDED).write_bytes(harm_found(FOUND.encode()))
        (folder.parent / "secret.yaml").write_text("root:x:secret\n")
        os.mkfifo(found / "pipe.yaml")
        (found / "away.yaml").symlink_to(folder.parent / "secret.yaml")
        (found / "round.yaml").symlink_to("round.yaml")

    return write


def _put(spot: str, value: str) -> Harm:
    ending = "\n" if spot.endswith("\n") else ""
    return lambda good: good.replace(spot.encode(), f"{value}{ending}".encode(), 1)


def _hole(path: Path) -> None:
    path.touch()
    os.truncate(path, 20 << 30)
