"""What every command does around its work: exit codes, one line for a user's mistake, a quiet end on Ctrl-C."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from dnw_core.errors import UserError

ALL_DONE, NOT_ALL_DONE, USER_ERROR, INTERRUPTED = 0, 1, 2, 130


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def run(
    body: Callable[[list[str]], int], argv: Sequence[str] | None, on_interrupt: Callable[[list[str]], str] | str
) -> int:
    """Run a command and return its exit code; a user's mistake is one line on standard error.

    Args:
        body: takes the arguments, does the work and returns the exit code.
        argv: the arguments; the process's own by default.
        on_interrupt: what to print after Ctrl-C, or what makes it from the arguments: what is kept, how to resume.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return body(arguments)
    except UserError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print(f"\n{on_interrupt if isinstance(on_interrupt, str) else on_interrupt(arguments)}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `--plan | head`: nobody reads the output any more, which is not an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ALL_DONE


__all__ = ["ALL_DONE", "INTERRUPTED", "NOT_ALL_DONE", "USER_ERROR", "run", "say"]
