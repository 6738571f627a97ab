"""docs/sparsify.md says what the code does: its example runs, and its table of rules is the code's."""

from __future__ import annotations

import pytest
from support.documents import names_of_tests, python_blocks, run, table_rows
from torch import nn

from dnw_core.config import RULES
from dnw_core.library.table import hooks_of
from dnw_core.registry import load_class


def test_the_example_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    """About twenty lines that train a torchvision network sparse, print the table, and end with a plain network."""
    (code,) = python_blocks("sparsify.md")
    assert len(code.splitlines()) <= 24
    names = run(code)
    printed = capsys.readouterr().out
    slots, kept, density = next(line for line in printed.splitlines() if line.startswith("total")).split()[1:]
    assert (slots, density) == ("11,157,504", "10.00%")
    assert printed.splitlines()[-1] == "acts through dnw_core.Wiring while training: begin, before_step"
    network = names["network"]
    weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)][1:]
    # edges that have only just grown are zero, too
    left = sum(int(weight.count_nonzero()) for weight in weights)
    assert 0.8 * int(kept.replace(",", "")) < left <= int(kept.replace(",", ""))
    assert not any("parametrizations" in name for name in network.state_dict())


def test_the_table_of_rules_is_the_codes() -> None:
    """Every rule that can be attached, what it takes, and the moments at which it acts."""
    written = {name: (takes, moments) for name, takes, moments in table_rows("sparsify.md", "rule")}
    known = {name: kind for name, kind in RULES.items() if not kind.needs_parent}
    assert list(written) == list(known)
    for name, kind in known.items():
        fields = kind.model_fields
        takes = [field for field in ("density", "layers") if field in fields]
        takes += [field for field, info in fields.items() if field != "rule" and info.is_required()]
        moments = hooks_of(load_class(kind.implementation))
        assert written[name] == (", ".join(takes) or "–", ", ".join(moments) or "–"), name


def test_what_is_said_to_work_is_tested() -> None:
    """Each cell of tests in the table "works with" names tests that there are."""
    rows = table_rows("sparsify.md", "works with")
    known = names_of_tests()
    assert len(rows) > 15
    for subject, _, tests in rows:
        named = tests.split(", ")
        assert named, subject
        assert [name for name in named if name not in known] == [], subject
