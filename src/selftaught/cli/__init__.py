"""The command line: thin, every command is a function in `selftaught.commands`."""

import difflib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from selftaught import __version__
from selftaught.allocator import is_short, keep_freed_memory, shortage
from selftaught.cli.judging import evaluate, robustness
from selftaught.cli.making import classify, embed, export, reconstruct, sample
from selftaught.cli.parsing import later, parse
from selftaught.cli.pretraining import compare, doctor, methods, pretrain
from selftaught.cli.processes import LOST
from selftaught.cli.recipe import pretrain_with
from selftaught.cli.training import distill, finetune, transfer
from selftaught.cores import keep_to_granted, share_cores
from selftaught.errors import Lost, Stopped, UserError

COMMANDS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        methods,
        pretrain,
        compare,
        evaluate,
        robustness,
        finetune,
        distill,
        transfer,
        reconstruct,
        sample,
        embed,
        classify,
        export,
        doctor,
    )
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code.

    0, 2 where the user must act, 3 where another process that trains with this one has ended, 128 +
    signal where stopped.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    keep_freed_memory()
    share_cores()
    try:
        if argv == ["--version"]:
            print("selftaught", __version__)
            return 0
        if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
            near = difflib.get_close_matches(argv[0], COMMANDS, n=1, cutoff=0)
            raise UserError(f"no command named {argv[0]!r}; did you mean {near[0]!r}?")
        if argv[:1] == ["pretrain"] and len(argv) > 1 and not argv[1].startswith("-"):
            return pretrain_with(argv[1], argv[2:])
        keep_to_granted()
        parse({name: later(command) for name, command in COMMANDS.items()}, argv)()
        sys.stdout.flush()
    except UserError as error:
        print(f"selftaught: {error}", file=sys.stderr)
        return 2
    except Lost as lost:
        print(f"selftaught: {lost}", file=sys.stderr)
        return LOST
    except Stopped as stopped:
        print(f"selftaught: {stopped}", file=sys.stderr)
        return 128 + stopped.signal
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # who reads has had enough, as `head`; Python's own flush must not fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno is None:
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(f"selftaught: {place}{error.strerror}; mend that and go on", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not is_short(error):
            raise
        print(
            f"selftaught: {shortage()}; use a smaller --size, fewer images, or a machine "
            "with more memory",
            file=sys.stderr,
        )
        return 2
    return 0
