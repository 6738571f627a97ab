"""Details of each row: recipe, command, seeds, code, machine, data, notes, failures."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from reports.rows import ReportRow
from reports.sections.layers import layer_section
from reports.sections.wiring_end import WiringEnd
from reports.statistics import ASSUMED_RUNS
from reports.summary import trials_of
from reports.text import code, code_block, count, duration, escape, number, plain, plus_minus

_LOG_LINES = 15
_SHOWN_PACKAGES = ("torch", "torchvision", "torchdiffeq", "numpy")


def row_details(
    row: ReportRow, line: Mapping[str, Any], trials: pd.DataFrame, end: WiringEnd, layers: pd.DataFrame
) -> str:
    """Return the row's folded-up block of details as Markdown.

    Args:
        row: the row.
        line: its line of ``summarise``'s frame.
        trials: ``read_trials``'s frame.
        end: its wiring at the end of training.
        layers: ``read_layers``'s frame.
    """
    mine = trials_of(row, trials)
    items = [
        ("Fingerprint", code(row.fingerprint) if row.fingerprint else None),
        ("Seeds", _seeds(row, mine)),
        ("Published", _published(row)),
        ("Quoted from", _quoted(row)),
        ("Corrects", f"row {code(row.corrects)}" if row.corrects else None),
        ("Cost", _cost(line)),
        ("Wiring at the end of training, mean over seeds", end.text),
        *_provenance(mine[(mine["status"] == "done") & mine["planned"]]),
        ("Cannot be run now", _blocked(row, line)),
    ]
    parts = [f"- **{name}:** {value}" for name, value in items if value]
    parts += [f"- **Note:** {escape(note)}" for note in row.notes]
    parts += _troubles(mine)
    if row.command:
        parts += ["", "To reproduce this row:", "", code_block(row.command, "sh")]
    parts += layer_section(row, layers)
    # Markdown is not read inside the summary's HTML block: entities, not backslashes
    title = f"{_html(row.label)} · <code>{_html(row.row)}</code> · {_html(line['verdict'])}"
    body = "\n".join(parts)
    return f"<details>\n<summary>{title}</summary>\n\n{body}\n\n</details>"


def _html(text: object) -> str:
    return html.escape(plain(text))


def _seeds(row: ReportRow, mine: pd.DataFrame) -> str:
    states = {int(seed): str(status) for seed, status in zip(mine["seed"], mine["status"], strict=True)}
    groups: dict[str, list[int]] = {}
    for seed in row.seeds:
        groups.setdefault(states.get(seed, "not started"), []).append(seed)
    names = {"running": "running or interrupted"}
    text = "; ".join(f"{', '.join(map(str, seeds))} {names.get(state, state)}" for state, seeds in groups.items())
    spare = sorted(seed for seed in states if seed not in row.seeds)
    return text + (f" (also on disk, not counted: {', '.join(map(str, spare))})" if spare else "")


def _blocked(row: ReportRow, line: Mapping[str, Any]) -> str | None:
    """Return why the rest of the row cannot be run; None once the row is complete."""
    if not row.held_up or line["done"] >= line["planned"]:
        return None
    return f"{line['planned'] - line['done']} of {line['planned']} seeds are not done: {escape(row.held_up)}"


def _published(row: ReportRow) -> str | None:
    if row.variant:
        return "not compared: this is a variant made with `--set`"
    if row.published_mean is None:
        return None
    parts = [f"{plus_minus(row.published_mean, row.published_std, digits=2)} %"]
    if row.published_std is not None:
        runs = f"n = {row.published_n or ASSUMED_RUNS}{' assumed' if row.n_assumed else ''}"
        spread = f"± is {escape(row.published_spread_is)}, " if row.published_spread_is else ""
        parts.append(f"({spread}{runs})")
    if row.published_top5 is not None:
        parts.append(f"(top-5 {number(row.published_top5, 2)} %)")
    if row.published_origin:
        parts.append(f"from {escape(row.published_origin)}")
    if row.other_recipe:
        parts.append("(trained with another recipe, so not compared)")
    return " ".join(parts)


def _quoted(row: ReportRow) -> str | None:
    if row.variant or row.quoted_origin is None:
        return None
    number_there = "" if row.quoted_mean is None else f", {number(row.quoted_mean, 2)} %"
    differs = row.quoted_mean is not None and row.quoted_mean != row.published_mean
    return f"{escape(row.quoted_origin)}{number_there}" + (" (the paper prints another number)" if differs else "")


def _cost(line: Mapping[str, Any]) -> str | None:
    if pd.isna(line["parameters"]):
        return None
    graph = line["edges"] != 0
    edges = f"edges {count(line['live_edges'])} live of {count(line['edges'])}" if graph else "no graph"
    times = f"; the graph is applied {line['applications']:.4g} times per image" if line["applications"] > 1 else ""
    return (
        f"parameters {count(line['live_parameters'])} live of {count(line['parameters'])}, {edges}, "
        f"MACs {count(line['live_macs'])} live of {count(line['macs'])} ({count(line['dense_macs'])} if dense)"
        + (times if graph else "")
    )


def _provenance(done: pd.DataFrame) -> list[tuple[str, str | None]]:
    trials = done.to_dict("records")
    if not trials:
        return []
    commits = [_commit(trial) for trial in trials if pd.notna(trial["commit"])]
    checksums = [code(trial["data_checksum"]) for trial in trials if pd.notna(trial["data_checksum"])]
    machines = [_machine(trial) for trial in trials]
    resumed = [
        f"seed {trial['seed']} {trial['resumed']}x"
        for trial in trials
        if pd.notna(trial["resumed"]) and trial["resumed"]
    ]
    return [
        ("Commit", _distinct(commits)),
        ("Machine", _distinct(machines)),
        ("Packages", _distinct(_packages(trial["packages"], trial["python"]) for trial in trials)),
        ("Data checksum", _distinct(checksums)),
        ("Resumed from a checkpoint", ", ".join(resumed) or None),
        ("Time per trial", f"{duration(done['seconds'].mean())} (sum {duration(done['seconds'].sum())})"),
        ("Peak memory", _memory(done)),
    ]


def _commit(trial: Mapping[Any, Any]) -> str:
    return code(trial["commit"]) + (" + uncommitted changes" if trial["dirty"] is True else "")


def _machine(trial: Mapping[Any, Any]) -> str:
    known = [str(trial[name]) for name in ("processor", "accelerator") if pd.notna(trial[name]) and trial[name]]
    device = f"device {trial['device']}" if pd.notna(trial["device"]) else ""
    threads = f"{trial['threads']} thread{'s' if trial['threads'] != 1 else ''}" if pd.notna(trial["threads"]) else ""
    host = f"on {trial['hostname']}" if pd.notna(trial["hostname"]) else ""
    return escape(", ".join(part for part in (*known, device, threads, host) if part))


def _packages(packages: Any, python: Any) -> str:
    try:
        versions = json.loads(packages) if isinstance(packages, str) else {}
    except ValueError:
        versions = {}
    names = [name for name in _SHOWN_PACKAGES if name in versions]
    names += sorted(name for name in versions if name not in _SHOWN_PACKAGES)
    shown = [f"{name} {versions[name]}" for name in names]
    return escape(", ".join(([f"Python {python}"] if pd.notna(python) else []) + shown))


def _memory(done: pd.DataFrame) -> str | None:
    peak = done["peak_memory_bytes"].max()
    return f"{number(float(peak) / 2**20, 0)} MiB" if pd.notna(peak) and peak else None


def _distinct(texts: Iterable[str]) -> str | None:
    return "; ".join(dict.fromkeys(text for text in texts if text)) or None


def _troubles(mine: pd.DataFrame) -> list[str]:
    """Return each seed's failure with the end of its log."""
    parts = []
    for trial in mine[mine["status"].isin(("failed", "unreadable"))].to_dict("records"):
        parts.append(f"- **Seed {trial['seed']} {trial['status']}:** {escape(trial['reason'])}")
        if pd.notna(trial["log_tail"]) and trial["log_tail"].strip():
            tail = "\n".join(str(trial["log_tail"]).splitlines()[-_LOG_LINES:])
            parts += ["", code_block(tail, "text"), ""]
    return parts
