"""The report's data files.

``results.parquet`` and ``results.csv`` hold one line per row and only what recipe and seeds determine, plus the
verdict: the same results give the same bytes, on any machine. ``trials.parquet`` and ``trials.csv`` hold the raw
results per seed, with time, hardware and provenance.
"""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dnw_core.files import write_bytes, write_text
from reports.summary import SUMMARY_COLUMNS
from reports.text import spreadsheet_safe

# time differs from run to run; a reason may name a folder or an address of the machine it happened on
_NOT_DETERMINED = ("seconds", "reason")
RESULT_COLUMNS = {name: kind for name, kind in SUMMARY_COLUMNS.items() if name not in _NOT_DETERMINED}
_ARROW = {"string": pa.string(), "Int64": pa.int64(), "float64": pa.float64(), "boolean": pa.bool_()}


def write_frame(content: pd.DataFrame, columns: dict[str, str], stem: Path) -> None:
    """Write ``stem.csv`` and ``stem.parquet`` with exactly these columns."""
    content = content[list(columns)]
    write_text(stem.with_suffix(".csv"), _csv(content, columns))
    write_bytes(stem.with_suffix(".parquet"), _parquet(content, columns))


def _csv(content: pd.DataFrame, columns: dict[str, str]) -> str:
    safe = content.copy()
    for name, kind in columns.items():
        if kind == "string":
            safe[name] = safe[name].map(spreadsheet_safe, na_action="ignore").astype("string")
    text: str = safe.to_csv(index=False, lineterminator="\n")
    return text


def _parquet(content: pd.DataFrame, columns: dict[str, str]) -> bytes:
    # an explicit schema, without the pandas metadata that would name this machine's versions
    schema = pa.schema([(name, _ARROW[kind]) for name, kind in columns.items()])
    table = pa.Table.from_pandas(content, schema=schema, preserve_index=False).replace_schema_metadata(None)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
