"""What the benchmarks refuse; what they measure is not tested."""

from __future__ import annotations

import subprocess

import pytest

from benchmarks.step_against import ROOT, compare_with, git


def first_commit() -> str:
    """A commit that had no benchmark yet."""
    return git("rev-list", "--max-parents=0", "HEAD").splitlines()[0]


@pytest.mark.parametrize(
    ("commit", "message"), [("nonsense", "nonsense is not a commit"), ("first", "has no benchmarks/training_step.py")]
)
def test_a_commit_that_cannot_be_measured_is_refused(
    commit: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit code 2, nothing checked out."""
    if subprocess.run(["git", "-C", str(ROOT), "rev-parse"], capture_output=True).returncode:
        pytest.skip("not a git checkout")
    trees = git("worktree", "list")
    with pytest.raises(SystemExit) as ended:
        compare_with(first_commit() if commit == "first" else commit, ["static"], "fp32", 1, 1, dirty=True)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert git("worktree", "list") == trees
