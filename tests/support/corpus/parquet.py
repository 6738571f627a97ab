"""Damaged ``history.parquet`` files: bytes harmed, and well-formed files that say what cannot be. By name."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from support.corpus.damage import Harm, raw_harms

Change = Callable[[pa.Table], pa.Table]


def cases() -> dict[str, Harm]:
    """Return what can be wrong with a history. Its curve is left out, or is the trial's own."""
    made = dict(raw_harms("parquet", 24))
    made |= {f"footer: {name}": _tail(harm) for name, harm in raw_harms("footer", 12).items()}
    made |= {name: _written(change) for name, change in _TABLES.items()}
    made |= {f"written as {name}": _written(lambda table: table, **how) for name, how in _FORMS.items()}
    return made


def harmless() -> tuple[str, ...]:
    """Return the cases that say the same in another way."""
    forms = tuple(f"written as {name}" for name in _FORMS)
    return (*forms, "pandas metadata", "nonsense metadata", "a pickle as metadata", "another extra column", "order")


def _tail(harm: Harm) -> Harm:
    """Harm the footer alone: the metadata before the last eight bytes, which give its length."""

    def damage(content: bytes) -> bytes:
        length = int.from_bytes(content[-8:-4], "little") + 8
        return content[:-length] + harm(content[-length:])

    return damage


def _written(change: Change, **how: Any) -> Harm:
    def damage(content: bytes) -> bytes:
        table = change(parquet.read_table(io.BytesIO(content)))
        buffer = io.BytesIO()
        parquet.write_table(table, buffer, **how)
        return buffer.getvalue()

    return damage


def _column(name: str, values: Callable[[int], Any]) -> Change:
    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(name)
        return table.set_column(place, name, pa.array(values(len(table))))

    return change


def _metadata(key: bytes, value: bytes) -> Change:
    return lambda table: table.replace_schema_metadata({key: value})


_PANDAS = {"index_columns": ["no such"], "columns": [{"name": 1, "pandas_type": "object", "numpy_type": "O"}] * 3}
_TABLES: dict[str, Change] = {
    "no rows": lambda table: table.slice(0, 0),
    "no columns": lambda table: table.select([]),
    "a column missing": lambda table: table.drop_columns(["test_accuracy"]),
    "a column twice": lambda table: table.append_column("test_accuracy", table["epoch"]),
    "another extra column": lambda table: table.append_column("extra", table["epoch"]),
    "names in capitals": lambda table: table.rename_columns([name.upper() for name in table.column_names]),
    "order": lambda table: table.select(table.column_names[::-1]),
    "a million rows too many": lambda table: table.take(pa.array([0] * 1_000_001)),
    "an epoch twice": lambda table: pa.concat_tables([table, table]),
    "rows in another order": lambda table: table.take(list(range(len(table)))[::-1]),
    "an epoch more": lambda table: pa.concat_tables(
        [table, _column("epoch", lambda n: [n])(table.slice(0, 1))], promote_options="permissive"
    ),
    "accuracies above 1": _column("test_accuracy", lambda n: [1.7] * n),
    "accuracies below 0": _column("test_accuracy", lambda n: [-0.2] * n),
    "other accuracies": _column("test_accuracy", lambda n: [0.9] * n),
    "no number": _column("test_accuracy", lambda n: [float("nan")] * n),
    "infinite": _column("test_accuracy", lambda n: [float("inf")] * n),
    "empty values": _column("test_accuracy", lambda n: pa.nulls(n, pa.float64())),
    "texts": _column("test_accuracy", lambda n: ["0.9"] * n),
    "times": _column("test_accuracy", lambda n: pa.array([0] * n, pa.timestamp("ns"))),
    "decimals": _column("test_accuracy", lambda n: pa.array([1] * n, pa.decimal128(10, 2))),
    "truths": _column("test_accuracy", lambda n: [True] * n),
    "bytes": _column("test_accuracy", lambda n: [b"\x00\xff"] * n),
    "lists": _column("test_accuracy", lambda n: [[0.5]] * n),
    "lists of lists": _column("test_accuracy", lambda n: [[[[0.5]]]] * n),
    "structures": _column("test_accuracy", lambda n: [{"a": 0.5}] * n),
    "a map": _column("test_accuracy", lambda n: pa.array([[("a", 1.0)]] * n, pa.map_(pa.string(), pa.float64()))),
    "a dictionary of texts": _column("test_accuracy", lambda n: pa.array(["x"] * n).dictionary_encode()),
    "negative epochs": _column("epoch", lambda n: list(range(-1, n - 1))),
    "halves of epochs": _column("epoch", lambda n: [0.5 + one for one in range(n)]),
    "endless epochs": _column("epoch", lambda n: [2**62 + one for one in range(n)]),
    "no epochs": _column("epoch", lambda n: pa.nulls(n, pa.int64())),
    "a list of edges": _column("edges", lambda n: [[1]] * n),
    "pandas metadata": _metadata(b"pandas", json.dumps(_PANDAS).encode()),
    "nonsense metadata": _metadata(b"pandas", b"\xff{"),
    "a pickle as metadata": _metadata(b"pandas", pickle.dumps({"a": 1})),
}
_FORMS: dict[str, dict[str, Any]] = {
    "gzip": {"compression": "gzip"},
    "brotli": {"compression": "brotli"},
    "zstd": {"compression": "zstd"},
    "uncompressed": {"compression": "none"},
    "version 1": {"version": "1.0"},
    "single rows": {"row_group_size": 1},
    "no dictionary": {"use_dictionary": False},
}
