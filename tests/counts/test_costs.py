"""``costs.py``: printed numbers against ours, what is counted, and the counts of table ``imagenet`` by the facts."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.stubs.specs import spec
from support.stubs.store import finish

from dnw_core.config.networks import GRAPH_BLOCKS
from dnw_core.config.residual_networks import WideResNetConfig
from dnw_core.record import RECORD_FILE, Cost
from dnw_core.wiring.layers import erdos_renyi_kernel
from pipelines.commands.costs import main
from pipelines.counts.count import count_rows
from pipelines.counts.table import Count, RowCounts, cost_lines, trained_costs
from pipelines.store.folder import Store
from tune_configs import load_tables

ROOT = Path(__file__).resolve().parents[2]
TABLES = load_tables()


@dataclass(frozen=True)
class Run:
    """What ``costs.py --table imagenet --json FILE`` printed and wrote."""

    said: str
    lines: dict[str, dict[str, Any]]
    file: dict[str, Any]


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The command on the whole table, once."""
    path = tmp_path_factory.mktemp("costs") / "costs.json"
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(["--table", "imagenet", "--json", str(path)]) == 0
    file = json.loads(path.read_text("utf-8"))
    return Run(said.getvalue(), {line["row"]: line for line in file["rows"]}, file)


# facts 2.4: parameters and MACs (in millions) at the start; MACs with nothing dead
FACTS = {
    "dnw-small-x0.15": (269_238, 35.28, 40.57),
    "dnw-small-x0.225": (434_770, 54.91, 55.82),
    "dnw-x0.225": (1_228_371, 55.71, 56.61),
    "dnw-x0.3": (1_352_064, 77.85, 77.85),
    "dnw-x0.49": (1_823_315, 158.83, 158.83),
    "random-x0.225": (1_228_371, 55.71, 56.61),
    "random-x0.49": (1_886_107, 169.62, 169.62),
    "random-x0.49-like-for-like": (1_823_315, 158.83, 158.83),
}
EDGES_OF_BLOCK_0 = {"x0.15": 47, "x0.225": 104, "x0.3": 185, "x0.49": 492}
INPUT_WEIGHTS, INPUT_MACS = 27 + 9, (27 + 9) * 112**2  # that a dead input node of block 0 takes along


def dead_inputs(edges: int) -> tuple[float, float]:
    """Mean and standard deviation of the input nodes of block 0 that no edge leaves, of a random draw."""
    block = GRAPH_BLOCKS[0]
    slots = block.inputs * block.receivers

    def without(nodes: int) -> float:
        return math.comb(slots - nodes * block.receivers, edges) / math.comb(slots, edges)

    mean = block.inputs * without(1)
    pairs = block.inputs * (block.inputs - 1) * without(2)
    return mean, math.sqrt(pairs + mean - mean**2)


@pytest.mark.parametrize("row", FACTS)
def test_a_graph_row_costs_what_the_facts_say(imagenet: Run, row: str) -> None:
    """With nothing dead to the facts' last digit; at the start as far as a draw can agree with another one.

    The edges of the start are the largest of random weights, so how many nodes have none is chance: each dead input
    node of block 0 takes 36 parameters and 451,584 MACs along, everything else is small. Both draws, the facts' and
    ours, must lie where random draws lie: within four standard deviations, and a tenth of a node for all the others.
    """
    parameters, macs, nothing_dead = FACTS[row]
    line = imagenet.lines[row]
    # the facts do not round the kept edges up: up to 0.013 million MACs more
    assert line["macs_nothing_dead"] / 1e6 == pytest.approx(nothing_dead, abs=0.02)
    edges = next((edges for width, edges in EDGES_OF_BLOCK_0.items() if width in row), 0)
    mean, deviation = dead_inputs(edges)
    for found in (line["macs_at_start"] / 1e6, macs):
        dead = (nothing_dead - found) * 1e6 / INPUT_MACS
        assert abs(dead - mean) < 4 * deviation + 0.1
    fewer = line["parameters_nothing_dead"] - line["parameters_at_start"]
    assert fewer >= INPUT_WEIGHTS * round((line["macs_nothing_dead"] - line["macs_at_start"]) / INPUT_MACS) - 9
    assert 0 <= line["parameters_nothing_dead"] - parameters < INPUT_WEIGHTS * (mean + 4 * deviation) + 160
    assert line["after_training"] == row.startswith("dnw")


# facts 4.2, parameters and MACs in millions; the rest of the networks: tests/models/test_models_ordinary.py
ORDINARY = {
    "mobilenet-v1-x0.25": (0.470, 41.04),
    "mobilenet-v1-x0.5": (1.332, 149.5),
    "shufflenet-v1-x0.5": (0.718, 37.6),
    "shufflenet-v2-x0.5": (1.367, 40.5),
    "xception-x0.5": (0.563, 39.7),
    "mnasnet-search2": (2.03, 68.3),
}


@pytest.mark.parametrize("row", ORDINARY)
def test_an_ordinary_row_counts_norms_and_biases(imagenet: Run, row: str) -> None:
    """Parameters are what papers on ordinary networks print, and there is nothing to die in them."""
    line = imagenet.lines[row]
    parameters, macs = ORDINARY[row]
    assert round(line["parameters_at_start"] / 1e6, 3) == parameters
    assert line["macs_at_start"] / 1e6 == pytest.approx(macs, abs=0.06)
    assert line["macs_nothing_dead"] == line["macs_at_start"]
    assert not line["after_training"]


# every count that is printed, reachable without training and not reached: words that give its reason in the docs
DIFFERING = {
    "random-x0.225": "two of the 32 input nodes of block 0 are dead",
    "random-x0.49": "the poster cut it off instead of rounding it",
    "mobilenet-v2-x0.75": "its channel counts are not printed",
    "shufflenet-v1-x1": "why 140 is printed is not known",
    "shufflenet-v2-x0.5": "nine multiply-adds for each value that the max-pool writes",
}


def test_every_printed_count_agrees_or_its_reason_is_written_down(imagenet: Run) -> None:
    """All others agree, or are known after training only; no further one may begin to differ unseen."""
    reasons = (ROOT / "docs" / "deviations.md").read_text("utf-8")
    differing = set()
    for row, line in imagenet.lines.items():
        for name in ("parameters", "macs"):
            printed, agreement = line[f"{name}_published"], line[f"{name}_agreement"]
            if printed is None or row == "mnasnet-search1":
                assert agreement is None, row
            elif line["after_training"]:
                assert agreement == "only after training", row
            elif agreement != "agrees":
                assert agreement.startswith("differs by"), row
                differing.add(row)
    assert differing == set(DIFFERING)
    for row, words in DIFFERING.items():
        assert words in reasons, row
    assert imagenet.lines["random-x0.49"]["parameters_agreement"] == "differs by +4.8 % (cut off, not rounded)"


def test_the_table_says_every_row(imagenet: Run) -> None:
    """Each row is a line in the order of the file; what cannot be counted says why; the sum stands at the end."""
    shown = [line.split()[0] for line in imagenet.said.splitlines() if line.startswith("  imagenet/")]
    assert shown == [f"imagenet/{row}" for row in TABLES["imagenet"].rows]
    (lost,) = [line for line in imagenet.said.splitlines() if "imagenet/mnasnet-search1 " in line]
    assert lost.split()[1:4] == ["1.9M", "–", "–"]
    assert lost.count("not reproducible: architecture unpublished") == 2
    assert imagenet.said.splitlines()[-1].startswith("33 counts are printed: ")
    assert "10 are known only after training" in imagenet.said.splitlines()[-1]
    assert len(imagenet.file["counts"]) == len({row.fingerprint_at("paper") for row in counted_rows()})


def counted_rows() -> list[Any]:
    """The rows of the table that have a network."""
    return [row for row in TABLES["imagenet"].rows.values() if row.not_reproducible is None]


def test_what_training_decides_is_left_open(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A lottery ticket's start is another row's end, and a solver's steps are not known: both are left empty."""
    words = ["--only", "wirings/lottery-one-shot", "--only", "tiny/continuous-dnw", "--only", "wirings/mobilenet-x0.25"]
    path = tmp_path / "costs.json"
    assert main([*words, "--json", str(path)]) == 0
    lines = {line["row"]: line for line in json.loads(path.read_text("utf-8"))["rows"]}
    ticket, solver, ordinary = lines["lottery-one-shot"], lines["continuous-dnw"], lines["mobilenet-x0.25"]
    assert (ticket["parameters_nothing_dead"], ticket["parameters_at_start"]) == (214_688, None)
    assert (ticket["macs_nothing_dead"], ticket["macs_at_start"]) == (4_548_444, None)
    assert (solver["parameters_at_start"], solver["macs_at_start"]) == (41_458, None)
    assert (ordinary["parameters_at_start"], ordinary["macs_at_start"]) == (215_642, 3_332_096)
    assert "wirings: " in capsys.readouterr().out


def test_edges_divided_over_the_layers() -> None:
    """A residual row's counts follow from its layers' edges; what training divides or decides is left open."""
    rows = TABLES["sparse-cifar"].rows
    names = ("rigl-uniform-10", "rigl-erk-10", "top-kast-10", "gmp-10", "snip-10", "snfs-10", "str-10", "dense")
    counted = count_rows(rows[name] for name in names)
    found = {name: counted[rows[name].fingerprint_at("paper")] for name in names}
    network = rows["dense"].recipe_at("paper").network
    assert isinstance(network, WideResNetConfig)
    layers = network.layers()
    uniform = [-(-layer.weights // 10) for layer in layers]
    shapes = [
        (layer.outputs, layer.inputs, layer.kernel, layer.kernel)[: 2 if layer.side == 1 else 4] for layer in layers
    ]
    erk = erdos_renyi_kernel(shapes, sum(uniform))

    def count(kept: Sequence[int]) -> Count:
        macs = sum(edges * layer.side**2 for edges, layer in zip(kept, layers, strict=True))
        return Count(parameters=sum(kept) + network.classes, macs=macs)  # the classifier has a bias

    even, dense = count(uniform), count([layer.weights for layer in layers])
    total = even.model_copy(update={"macs": None})
    assert found["rigl-uniform-10"] == found["top-kast-10"] == RowCounts(nothing_dead=even, at_start=even)
    assert found["rigl-erk-10"] == RowCounts(nothing_dead=count(erk), at_start=count(erk))
    assert count(erk).macs != even.macs
    assert found["dense"] == RowCounts(nothing_dead=dense, at_start=dense)
    assert found["gmp-10"] == RowCounts(nothing_dead=even, at_start=dense)
    assert found["snip-10"] == RowCounts(nothing_dead=total, at_start=dense)
    assert found["snfs-10"] == RowCounts(nothing_dead=total, at_start=even)
    assert found["str-10"].nothing_dead is None
    (line,) = cost_lines([rows["str-10"]], counted)
    assert (line.parameters_nothing_dead, line.macs_nothing_dead, line.after_training) == (None, None, True)


def cost(**changes: Any) -> Cost:
    """A trained network's cost."""
    names = [name for name in Cost.model_fields if name != "applications"]
    return Cost(**{**dict.fromkeys(names, 1), **changes})


def test_a_trained_count_is_compared_where_training_decides() -> None:
    """DNW: the mean of the finished trials; a random graph: its start, with the trained count beside it."""
    rows = [TABLES["imagenet"].rows[name] for name in ("dnw-x0.225", "random-x0.225")]
    count = Count(parameters=1_228_448, macs=56_616_999)
    counts = {row.fingerprint_at("paper"): RowCounts(nothing_dead=count, at_start=count) for row in rows}
    ended = [cost(parameters=1_100_000, macs=42_000_000), cost(parameters=1_120_000, macs=42_400_000)]
    trained = {("imagenet", row.id, row.fingerprint_at("paper")): ended for row in rows}
    dnw, random = cost_lines(rows, counts, trained)
    assert (dnw.macs_trained, dnw.macs_agreement) == (42_200_000, "agrees, trained")
    assert (dnw.parameters_trained, dnw.parameters_agreement, dnw.trained_seeds) == (1_110_000, "agrees, trained", 2)
    assert (random.macs_trained, random.macs_agreement) == (42_200_000, "differs by +1.6 %")
    assert cost_lines(rows, {}, trained) == []


def test_only_finished_trials_at_paper_scale_count(tmp_path: Path) -> None:
    """A smoke trial has another image size; a trial without a cost has nothing to tell."""
    store = Store.open(tmp_path / "results", create=True)
    for row, scale in (("ok", "paper"), ("small", "smoke"), ("old", "paper")):
        one = spec(store.results_dir, row, scale=scale)
        finish(store, one)
        path = store.folder(one) / RECORD_FILE
        record = json.loads(path.read_text("utf-8"))
        record["cost"] = None if row == "old" else cost(macs=7).model_dump()
        path.write_text(json.dumps(record), "utf-8")
    found = trained_costs(store)
    assert {key[:2]: [one.macs for one in costs] for key, costs in found.items()} == {("stub", "ok"): [7]}


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each mistyped word is named, and nothing is counted."""
    lost = ["--only", "imagenet/mnasnet-search1"]
    for words, line in (
        (["--only", "imagenet/dnw"], "error: --only 'imagenet/dnw' matches no row"),
        (["--tabel", "tiny"], "error: unknown option --tabel; did you mean '--table'?"),
        (["imagenet"], "error: unexpected argument 'imagenet'; name rows with --only"),
        ([*lost, "--results-dir", str(tmp_path / "none")], "error: there is no results folder"),
        ([*lost, "--json", str(tmp_path / "none" / "costs.json")], "error: --json "),
    ):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert said.startswith(line)
        assert said.count("\n") == 1
    assert main([*lost, "--results-dir", str(tmp_path)]) == 0
    assert "not reproducible: architecture unpublished" in capsys.readouterr().out
