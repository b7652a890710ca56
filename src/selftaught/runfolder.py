"""The folder of a run: what it was called with, its metrics, its checkpoints."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from selftaught import checkpoint, dist
from selftaught.data.decode import Broken
from selftaught.data.sources import Images, printable
from selftaught.errors import UserError
from selftaught.paths import expanded

OURS = (".lock", "checkpoints")  # what a run that failed before its first step leaves


class RunFolder:
    """``run.json``, ``metrics.jsonl``, ``skipped.txt`` and ``checkpoints/`` in one folder.

    Of several processes that train together only the first writes.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = expanded(path)
        self.writes = dist.is_first()
        self.checkpoints = self.path / "checkpoints"
        self._call = self.path / "run.json"
        self._metrics = self.path / "metrics.jsonl"
        self._skipped = self.path / "skipped.txt"
        self._seen: set[str] = set()

    def begun(self) -> bool:
        """Whether a run was begun here."""
        return os.path.isfile(self._call)  # no error of a folder that may not be entered

    def check(self, *, resume: bool) -> None:
        """See that the folder may be used; nothing is made.

        Raises UserError where something else is there already.
        """
        if self.begun():
            if not resume:
                raise UserError(
                    f"{self.path} holds a run; go on with --resume, or give another folder to --out"
                )
        elif checkpoint.steps(self.checkpoints):
            raise UserError(
                f"{self.checkpoints} holds checkpoints, but {self._call} is missing: put it back, "
                "or give a new folder to --out"
            )
        elif self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is a file; give a new folder to --out")
        elif self.path.is_dir() and any(p.name not in OURS for p in self.path.iterdir()):
            raise UserError(f"{self.path} is not empty; give a new folder to --out")

    def withdraw(self) -> None:
        """Take back ``run.json``, so that the folder may be used again, where nothing else is."""
        if not (self.writes and self.begun()):
            return
        found = {path.name for path in self.path.iterdir()}
        if found <= {self._call.name, *OURS} and checkpoint.steps(self.checkpoints) in ([], [0]):
            self._call.unlink()
            shutil.rmtree(self.checkpoints, ignore_errors=True)

    def describe(self) -> dict[str, Any]:
        """What ``run.json`` says."""
        try:
            description = json.loads(self._call.read_text())
            missing = {"call", "data"} - description.keys()
            if missing:
                raise KeyError(*missing)
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise UserError(f"{self._call} is damaged ({error!r}); start a new run") from error
        return description

    def lock(self) -> AbstractContextManager[None]:
        """Hold the folder for this run; UserError where another run holds it."""
        return checkpoint.lock(self.path) if self.writes else nullcontext()

    def write(self, description: Mapping[str, Any]) -> None:
        """Write ``run.json``."""
        self.keep(self._call.name, description)

    def keep(self, name: str, found: Mapping[str, Any]) -> None:
        """Write a JSON file of that name."""
        if self.writes:
            checkpoint.write_atomic(self.path / name, json.dumps(found, indent=2).encode())

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the checkpoint of a step."""
        if self.writes:
            checkpoint.save(self.checkpoints, step, state)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``."""
        if not self.writes:
            return
        with self._metrics.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """All records so far; a last line cut short by a crash is left out."""
        if not self._metrics.exists():
            return []
        records = []
        for line in self._metrics.read_text().splitlines():
            with contextlib.suppress(ValueError):
                records.append(json.loads(line))
        return records

    def rewind(self, step: int) -> None:
        """Forget what was logged after a step, which a resumed run will log again."""
        if not self.writes:
            return
        kept = [record for record in self.metrics() if record["step"] <= step]
        lines = "".join(json.dumps(record) + "\n" for record in kept)
        checkpoint.write_atomic(self._metrics, lines.encode())

    def skip(self, skipped: Iterable[tuple[str, str]]) -> int:
        """List broken files in ``skipped.txt``, each once; how many there are so far."""
        if not self._seen:
            self._seen = set(self.skipped())
        found = {printable(name): reason for name, reason in skipped}
        new = {name: reason for name, reason in found.items() if name not in self._seen}
        if new:
            self._seen |= set(new)
        if new and self.writes:
            with self._skipped.open("a") as file:
                file.writelines(f"{name}\t{reason}\n" for name, reason in new.items())
                file.flush()
                os.fsync(file.fileno())
        return len(self._seen)

    def skipped(self) -> dict[str, str]:
        """The files that are listed as broken, by `printable` name, and why."""
        if not self._skipped.exists():
            return {}
        lines = self._skipped.read_text().split("\n")[:-1]
        return {name: reason for name, _, reason in (line.partition("\t") for line in lines)}

    def recount(self, images: Images) -> None:
        """Strike files of these images from that list that have been mended."""
        listed, still = self.skipped(), {}
        if not (listed and self.writes):
            return
        for i, name in enumerate(printable(str(name)) for name in images.names):
            if name in listed:
                try:
                    images.read(i)
                except Broken as reason:
                    still[name] = str(reason)
        lines = "".join(f"{name}\t{reason}\n" for name, reason in still.items())
        checkpoint.write_atomic(self._skipped, lines.encode())
        self._seen = set(still)
