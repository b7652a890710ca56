"""Several processes on this machine that train one run together.

Each finds in its environment what torchrun would have put there, and joins the others by that.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import IO, Any

from selftaught.cores import granted
from selftaught.errors import UserError

LOST = 3  # exit code of a process that another one has left
PATIENCE = 10.0  # seconds for the others to end when one has failed
AGAIN = 0.05  # seconds between two looks at them


def launched() -> bool:
    """Whether this process is one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def launch(argv: Sequence[str], count: int) -> int:
    """Run a command of selftaught in so many processes; its exit code.

    The first one prints as it goes; of the others, what the first one to fail said. Signals are
    handed on to all. Raises UserError for less than one process.
    """
    if count < 1:
        raise UserError(f"{count} processes; use --processes with 1 or more")
    together = _together(count)
    with ExitStack() as stack:
        kept = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(count)]
        members = [Member(argv, rank, together, said) for rank, said in enumerate(kept)]
        with _handed_on(members) as signals:
            failed = _wait(members)
        if failed is None:
            return max(member.code for member in members)
        return 128 - failed.code if -failed.code in signals else failed.report(count)


class Member:
    """One of the processes; what those after the first say is kept in ``said``."""

    def __init__(
        self, argv: Sequence[str], rank: int, together: dict[str, str], said: IO[bytes]
    ) -> None:
        self.rank, self.said = rank, said
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": said} if rank else {}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "selftaught", *argv],
            env=together | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            start_new_session=True,  # Ctrl-C reaches it through `_handed_on` alone
            **quiet,
        )

    @property
    def code(self) -> int:
        """Its exit code; below 0 the signal that killed it."""
        return self.process.returncode

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    @property
    def failed(self) -> bool:
        """Whether it has ended by a fault of its own."""
        return not self.running and self.code != LOST and (self.code < 0 or 0 < self.code < 128)

    def report(self, count: int) -> int:
        """Say why it ended, where it has not done so; the exit code."""
        if self.rank:
            self.said.seek(0)
            sys.stderr.write(self.said.read().decode(errors="replace"))
        if self.code > 0:
            return self.code
        print(
            f"selftaught: process {self.rank + 1} of {count} was ended by "
            f"{signal.Signals(-self.code).name}, perhaps for want of memory; go on with --resume",
            file=sys.stderr,
        )
        return 2


def _together(count: int) -> dict[str, str]:
    """The environment that they have in common."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = max(1, granted() // count)
    usual = {"OMP_NUM_THREADS": str(threads)}
    if sys.platform.startswith("linux"):
        usual["GLOO_SOCKET_IFNAME"] = "lo"  # or the name of the machine would have to be known
    counts = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    given = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return usual | os.environ | counts | given


@contextmanager
def _handed_on(members: Sequence[Member]) -> Iterator[list[int]]:
    """Signals to this process go to all of them; those that came."""
    came: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        came.append(number)
        for member in members:
            if member.running:
                member.process.send_signal(number)

    before = {s: signal.signal(s, hand_on) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(members: Sequence[Member]) -> Member | None:
    """Wait for all to end; the first in order that failed, after which the others are ended."""
    until = float("inf")
    failed: list[Member] = []
    while any(member.running for member in members):
        time.sleep(AGAIN)
        failed = [member for member in members if member.failed]
        if failed:
            until = min(until, time.monotonic() + PATIENCE)
        if time.monotonic() > until:
            for member in members:
                if member.running:
                    member.process.kill()
                    member.process.wait()
            break
    return next(iter(failed or [member for member in members if member.failed]), None)
