"""Looking is light: what answers at once must not load what takes seconds; and the command runs as people run it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "ray", "mlflow", "pandas", "pyarrow", "numpy", "sklearn", "matplotlib", "scipy")
SPY = """
import atexit, runpy, sys
atexit.register(lambda: print("loaded:", [name for name in {heavy!r} if name in sys.modules], file=sys.stderr))
sys.argv = {argv!r}
runpy.run_path({script!r}, run_name="__main__")
"""


LOOKING = [["--help"], ["--plan"], ["--list"], ["--status"], ["--plan", "--scale", "paper"]]


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_looking_loads_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    """--help, --plan, --list and --status load neither torch, ray, mlflow, pandas nor pyarrow."""
    script = str(ROOT / "pipelines" / "reproduce_all.py")
    code = SPY.format(heavy=HEAVY, argv=[script, *words], script=script)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stderr.strip() == "loaded: []"
    assert list(tmp_path.iterdir()) == []


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
