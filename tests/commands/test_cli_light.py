"""What answers at once loads nothing that takes seconds; and the command runs as people run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.images import synthetic_cifar, synthetic_images

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "ray", "mlflow", "pandas", "pyarrow", "numpy", "sklearn", "matplotlib", "scipy", "PIL", "simplejpeg")
COMMAND = "from pipelines.commands.{} import main; sys.exit(main({!r}))"
LIGHT = {  # in this order, lightest first, in one interpreter
    "the store": "import pipelines.store",
    "the tables": "from tune_configs import load_tables; load_tables()",
    "the data checks of --plan": """
from dnw_core.config import Execution
from dnw_core.data import STREAMED_DATASETS, check_dataset
for name, folder in (("digits", None), ("cifar10", sys.argv[3]), ("image-folder", sys.argv[4])):
    check_dataset(name, Execution(data_dir=folder))
STREAMED_DATASETS["image-folder"].describe(Execution(data_dir=sys.argv[4]))
""",
    **{
        f"{name}.py {' '.join(words)}": COMMAND.format(name, words)
        for name, words in (
            ("costs", ["--help"]),
            ("prepare", ["--help"]),
            ("reproduce_all", ["--help"]),
            ("reproduce_all", ["--list"]),
            ("reproduce_all", ["--status"]),
            ("reproduce_all", ["--plan"]),
            ("reproduce_all", ["--plan", "--scale", "paper"]),
            ("search", ["--row", "wirings/l1-anneal", "--plan"]),  # draws with numpy
        )
    },
    "the report": "import reports",
}
PROGRAM = """
import contextlib, io, json, sys
loaded = {}
for name, code in json.loads(sys.argv[1]).items():
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            exec(code, {"sys": sys})
        except SystemExit as left:
            assert not left.code, name
    loaded[name] = [module for module in json.loads(sys.argv[2]) if module in sys.modules]
print(json.dumps(loaded))
"""


def test_what_answers_at_once_loads_nothing_heavy(tmp_path: Path) -> None:
    """Store, tables, data checks and every option that only prints load no library of HEAVY (a search
    plan numpy alone) and write nothing; the report loads neither torch, ray, mlflow nor pyplot."""
    synthetic_cifar.write_parquet(tmp_path / "cifar10")
    images = synthetic_images.write_folder(tmp_path / "images")
    here = tmp_path / "here"
    here.mkdir()
    result = subprocess.run(
        [
            *(sys.executable, "-c", PROGRAM, json.dumps(LIGHT), json.dumps([*HEAVY, "matplotlib.pyplot"])),
            *(str(tmp_path / "cifar10"), str(images)),
        ],
        capture_output=True,
        text=True,
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    loaded = json.loads(result.stdout)
    *light, search, report = loaded.items()
    assert light == [(name, []) for name, _ in light]
    assert search[1] == ["numpy"]
    assert not {"torch", "ray", "mlflow", "matplotlib.pyplot"} & {*report[1]}
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("name", ["costs", "leave_node", "prepare", "search", "sync_mlflow"])
def test_the_scripts_are_alike(name: str) -> None:
    """Each starts its command as ``costs.py`` does; ``reproduce_all.py`` is run below."""
    ours, theirs = ((ROOT / "pipelines" / f"{one}.py").read_text("utf-8").split("\n", 1)[1] for one in ("costs", name))
    assert theirs == ours.replace("pipelines.commands.costs", f"pipelines.commands.{name}")


@pytest.mark.parametrize("how", ["script", "module"])
def test_the_command_runs_from_a_clone(how: str, tmp_path: Path) -> None:
    """As a script and as a module; the script needs no installation, and its folder hides no module."""
    words = [str(ROOT / "pipelines" / "reproduce_all.py")] if how == "script" else ["-m", "pipelines.reproduce_all"]
    where = tmp_path if how == "script" else ROOT
    result = subprocess.run(
        [sys.executable, *words, "--list"], capture_output=True, text=True, cwd=where, env=_environment(), timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert "tiny/static-dnw" in result.stdout


def test_a_script_finds_the_clone_it_lies_in(tmp_path: Path) -> None:
    """A clone's script runs the clone's own code, not what happens to be installed."""
    for name in ("pipelines", "dnw_core", "tune_configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "pipelines").unlink()
    (tmp_path / "pipelines").mkdir()
    for path in (ROOT / "pipelines").glob("*.py"):
        (tmp_path / "pipelines" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "pipelines" / "commands").mkdir()
    (tmp_path / "pipelines" / "commands" / "__init__.py").touch()
    (tmp_path / "pipelines" / "commands" / "reproduce_all.py").write_text(
        "def main() -> int:\n    print('the clone')\n    return 0\n"
    )
    script = str(tmp_path / "pipelines" / "reproduce_all.py")
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, env=_environment(), timeout=60)
    assert result.stdout == "the clone\n", result.stderr


def test_a_mistake_leaves_no_traceback(tmp_path: Path) -> None:
    """From outside: one line on standard error, nothing else, exit code 2."""
    script = str(ROOT / "pipelines" / "reproduce_all.py")
    result = subprocess.run(
        [sys.executable, script, "--only", "tiny/nothing", "--plan"], capture_output=True, text=True, cwd=tmp_path
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: --only 'tiny/nothing' matches no row")
    assert result.stderr.count("\n") == 1


def test_ctrl_c_while_modules_are_read_is_quiet(tmp_path: Path) -> None:
    """Also when a library turns it into an error of its own, as pydantic does: exit code 130 and not a word."""
    (tmp_path / "pydantic.py").write_text(
        "import os, signal, time\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    raise ValueError('disturbed')\n"
    )
    result = subprocess.run(
        [sys.executable, str(ROOT / "pipelines" / "reproduce_all.py"), "--list"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        timeout=50,
    )
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    """``--plan | head -1`` ends quietly."""
    command = f"{sys.executable} {ROOT / 'pipelines' / 'reproduce_all.py'} --plan | true"
    result = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
