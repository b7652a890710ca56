"""One run: what it trains, its plan, its steps and its state on disk."""

import copy
import functools
import itertools
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console

from selftaught import checkpoint, dist, precision, pretrained
from selftaught.allocator import is_short, shortage
from selftaught.commands import pictures, settings
from selftaught.commands.heldout import Probes, kept
from selftaught.commands.log import Log
from selftaught.commands.stop import Stop
from selftaught.commands.watch import Watch
from selftaught.data.batches import TRIED, Readers, batches, moved, plain
from selftaught.data.images import Images, Skipped, open_images
from selftaught.errors import Stopped, UserError
from selftaught.health import Verdict, verdict
from selftaught.initial import initialise
from selftaught.method import ViewBatch
from selftaught.nn.norm import synchronise
from selftaught.nn.transformer import ViT, fuse_attention
from selftaught.recipes.run import Pixels, Run
from selftaught.report.live import Progress, clock
from selftaught.runfolder import RunFolder
from selftaught.train import NotFinite, Step, fit

RECORDS = 1000  # lines of metrics.jsonl, about
STEPS_A_PROBE = 10  # label-free signals are not taken more often than each tenth step
SAVE_EVERY = 300.0  # seconds between checkpoints
BEGINNING = 4  # steps after which workers that have begun are at their usual speed
MARGIN = 0.97  # share of --minutes that is planned for
PROBING = 0.1  # share of --minutes that label-free signals may take, but for the first few
BROKEN = 0.01  # share of broken files above which a run stops; one file is always forgiven
LEFT_OUT = 0.01  # share of steps, not finite, above which it stops; one is always forgiven


class Job:
    """One run: its folder, its data and what it trains."""

    surveyors = Readers()  # who reads when a method is shown all images
    forgiving: bool | None = None  # whether steps not finite are left out; None is never
    probes = 20  # times that the label-free signals are taken, or fewer in a short budget

    def __init__(
        self, folder: RunFolder, call: dict[str, Any], device: torch.device, console: Console
    ) -> None:
        self.folder, self.device, self.console = folder, device, console
        self.begun = dist.first(lambda: folder.describe() if folder.begun() else None)
        if dist.world_size() > 1:  # what has to be fetched is there before the others look
            dist.first(lambda: bool(self._open(call["data"])))
        self.images = self._open(call["data"])
        self.call = self._resolve(call)
        wanted = (self.begun or {}).get("precision", self.call["precision"])
        self.dtype = precision.choose(wanted, device)
        self.pixels = self._pixels()
        self.run = self._build()
        settings.check_split(self.run.batch_size)
        self.trained_on = self._choose()
        self.held = 0  # images kept from training
        self.judged = None if self.run.method.knows_samples else self._hold_out()
        self.description = self._describe()
        self._announce()

    @functools.cached_property
    def watch(self) -> Watch:
        """Who looks at the method."""
        of_run = {"seed": self.call["seed"], "dtype": self.dtype}
        return Watch(self.run, self.images, self.pixels, self.judged, **of_run)

    def signals(self) -> dict[str, Any]:
        """The label-free signals of the method as it is now."""
        return self.watch.signals()

    def _open(self, data: str) -> Images:
        return open_images(data)

    def _resolve(self, call: dict[str, Any]) -> dict[str, Any]:
        return settings.resolved(call, self.images, self.device, begun=bool(self.begun))

    def _pixels(self) -> Pixels:
        return settings.pixels_of(self.images, self.call["size"], flip=self.call["flip"])

    def _choose(self) -> Images:
        """The images that are trained on."""
        return self.images.spread(self.run.images or len(self.images))

    def _hold_out(self) -> Probes | None:
        """Keep some images from training; a run that was begun without goes on without."""
        images, size, held = self.trained_on, self.run.batch_size, None
        index = kept(len(images), size)
        if self.begun and not self.begun.get("held_out"):
            index = index[:0]
        if len(index):
            left = torch.ones(len(images), dtype=torch.bool)
            left[index] = False
            held, self.held = images.take(index), len(index)
            self.trained_on = images.take(left.nonzero().squeeze(1))
        elif not self.run.method.agreement:
            return None
        return Probes(self.trained_on, held, self.run.views, size, self.call["seed"])

    def _build(self) -> Run:
        name, own, seed = self.call["method"], self.call["arguments"], self.call["seed"]
        run = pretrained.rebuild(name, self.pixels, own, seed)
        fresh = dist.first(lambda: not checkpoint.steps(self.folder.checkpoints))
        if self.call.get("init") and fresh:
            said = initialise(run.method, self.call["init"])
            self.console.print(said)
        return self._placed(run)

    def _placed(self, run: Run) -> Run:
        run.method.to(device=self.device, memory_format=torch.channels_last)  # pyright: ignore
        if self.device.type != "cpu":
            fuse_attention(run.method)
        if dist.world_size() > 1:
            synchronise(run.method)
        return run

    def _describe(self) -> dict[str, Any]:
        data = {
            "name": self.images.name,
            "fingerprint": self.images.fingerprint(),
            **asdict(self.pixels),
        }
        if self.begun:
            before, broken = self.begun["data"], self.folder.skipped()
            same = before["fingerprint"] == data["fingerprint"]
            mended = broken and self.images.fingerprint(broken) == self.begun.get("but_for_broken")
            if not (same or mended):
                raise UserError(
                    f"the data are not those of the run ({before['count']} images "
                    f"then, {len(self.images)} now); give the same data, or another folder to --out"
                )
            before["fingerprint"] = data["fingerprint"]  # with what has been mended
            return self.begun
        return {
            "call": self.call,
            "data": data,
            "held_out": self.held,
            "precision": str(self.dtype).removeprefix("torch."),
            "environment": settings.environment(self.device),
        }

    def _announce(self) -> None:
        run, p = self.run, self.pixels
        trained = pretrained.parameter_count([run.method]) / 1e6
        how = f"{str(self.dtype).removeprefix('torch.')} on {self.device}, channels last"
        if self.dtype == torch.bfloat16 and not precision.native_bfloat16(self.device):
            how += ", slow without bfloat16 in hardware"
        if isinstance(run.method.encoder, ViT):
            fused = run.method.encoder.net.blocks[0].attn.fused_attn
            how += f", {'fused' if fused else 'plain'} attention"
        if dist.world_size() > 1:
            how += f", {dist.world_size()} processes"
        fewer = len(self.trained_on) < p.count
        part = f", {len(self.trained_on):,} of them to train on" if fewer else ""
        mirrored = "" if p.flip else ", never mirrored"
        self.console.print(
            f"{self.call['method']} on {self.images.name}: {p.count:,} images{part}, "
            f"{p.channels} x {p.size} x {p.size}{mirrored}; settings for {self.call['scale']} "
            "scale\n"
            f"encoder {self.call['arguments'].get('encoder')}, {run.method.encoder.dim} features; "
            f"{trained:.1f} M trained parameters; batch {run.batch_size}\n"
            f"{how}, {torch.get_num_threads()} threads",
        )

    # Training

    def train(self, readers: Readers, draw_every: float, *, forgiving: bool | None = None) -> None:
        """Train to the end of the budget, or until a signal; Stopped then.

        A method that makes images draws some every so many seconds, and at the end; 0 is never.
        A ``forgiving`` run leaves steps out that are not finite, up to `LEFT_OUT` of them.
        """
        began = time.monotonic()
        self.forgiving = forgiving
        self.surveyors = Readers(later=readers.later)  # beside those that are asked for: none
        before = self.description.get("training_seconds", 0.0)
        try:
            with Stop() as stop, self._explained_shortage():
                self._train(readers, draw_every, stop)
        except UserError:
            if not self.begun:
                self.folder.withdraw()
            raise
        finally:
            self.description["training_seconds"] = round(before + time.monotonic() - began, 1)
            if self.folder.begun():
                if broken := self.folder.skipped():  # which may be mended before a resume
                    self.description["but_for_broken"] = self.images.fingerprint(broken)
                self.folder.write(self.description)

    @contextmanager
    def _explained_shortage(self) -> Iterator[None]:
        """Raises UserError where memory is short."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_short(error):
                raise
            batch = self.run.batch_size
            smaller = f"a --batch-size of {batch // 2}, " if batch >= 4 else ""
            raise UserError(
                f"{shortage()} with a batch of {batch} images of {self.pixels.size} pixels; "
                f"try {smaller}a smaller --size or encoder"
            ) from error

    def _train(self, readers: Readers, draw_every: float, stop: Stop) -> None:
        start = self._restore() if self.begun else 0
        signals = self.signals()
        self.description.setdefault("untrained", signals)
        steps = self._plan(readers)
        every = max(1, math.ceil(steps / RECORDS))
        probes = {round(steps * k / self.probes) for k in range(1, self.probes + 1)}
        log = Log(self.run.batch_size)
        saved = drawn = time.monotonic()
        word, done = "", start  # of the verdict
        with Progress(steps, self.console) as progress:
            for step in self._fit(readers, start, steps, self.run):
                log.add(step)
                done = step.number
                last, probed = step.number == steps, step.number in probes
                stopped = dist.largest(stop.signal or 0)
                if probed:
                    signals = self.signals()
                if probed or last or step.number % every == 0:
                    record = log.record(step, signals if probed else None)
                    if probed:
                        found = self.verdict(record)
                        record["verdict"] = found.word
                        if found.word not in (word, "healthy") and not last:  # which is told
                            self.console.print(f"{found.word}: {found.sentence}", soft_wrap=True)
                        word = found.word
                    self.folder.log(record)
                    progress.show(record, signals)
                if draw_every and (last or time.monotonic() - drawn > draw_every):
                    self._draw(step.number)
                    drawn = time.monotonic()
                if last or stopped or time.monotonic() - saved > SAVE_EVERY:
                    self._save(step.number)
                    saved = time.monotonic()
                if stopped and not last:
                    raise Stopped(stopped, f"stopped at step {step.number} of {steps} and saved")
        if done < steps:  # the last was left out
            self._save(steps)

    def _fit(self, readers: Readers, start: int, steps: int, run: Run) -> Iterator[Step]:
        """The steps but for those left out."""
        while start < steps:
            try:
                yield from self._steps(readers, start, steps, run)
            except NotFinite as error:
                if run is not self.run:
                    raise UserError(
                        f"{error.name} is not finite at step {error.step} of the measurement of "
                        "speed; try a lower --lr or --precision float32"
                    ) from error
                self._leave_out(error, steps)
                start = error.step + 1
            else:
                return

    def _steps(self, readers: Readers, start: int, steps: int, run: Run) -> Iterator[Step]:
        found = batches(
            self.trained_on,
            run.views,
            batch_size=run.batch_size,
            seed=self.call["seed"],
            start=start,
            stop=steps,
            readers=readers,
            device=self.device,
        )
        return fit(
            run.method,
            self._on_device(found),
            run.optimizer,
            steps=steps,
            start=start,
            seed=self.call["seed"],
            schedule=run.schedule,
            dtype=self.dtype,
            clip=run.clip,
            clip_by=run.clip_by,
            survey=self._survey,
            survey_every=run.survey_every,
        )

    def _on_device(self, found: Iterator[tuple[ViewBatch, Skipped]]) -> Iterator[ViewBatch]:
        """Batches where the method is, broken files counted on the way."""
        for batch, skipped in found:
            if dist.largest(len(skipped)):
                self._count(list(itertools.chain(*dist.everyones(skipped))))
            yield moved(batch, self.device)

    def _survey(self) -> Iterator[ViewBatch]:
        """Every sound image once, plainly."""
        views = pretrained.plain_views(self.pixels)
        found = plain(self.trained_on, views, self.run.batch_size, self.surveyors)
        return self._on_device((ViewBatch((x,), index), []) for index, x in found)

    def _count(self, skipped: Skipped) -> None:
        broken = self.folder.skip(skipped)
        if broken > max(1, BROKEN * len(self.trained_on)):
            name, reason = skipped[-1]
            raise UserError(
                f"{broken} of {len(self.trained_on)} files are broken, more than 1 %, {name} the "
                f"last ({reason}); {self.folder.path / 'skipped.txt'} lists them; mend "
                "them and go on with --resume, or move them away and begin in another folder"
            )

    def _leave_out(self, error: NotFinite, steps: int) -> None:
        """Say what was not finite; raises UserError where the run may not go on without it."""
        names = [self.trained_on.names[i] for i in error.index.tolist()]
        place = self.folder.path / "not-finite.json"
        found = {"what": error.name, "step": error.step, "seed": self.call["seed"], "batch": names}
        self.folder.keep(place.name, found)
        left_out = sorted({*self.description.get("left_out", ()), error.step})
        if self.forgiving and len(left_out) <= max(1, LEFT_OUT * steps) and len(left_out) < steps:
            self.description["left_out"] = left_out
            self.folder.write(self.description)
            self.console.print(f"{error}: left out, {place} names the batch", soft_wrap=True)
            return
        self._save(error.step)
        self.description["verdict"] = Verdict("diverged", f"{error}; lower --lr")._asdict()
        many = f", one of {len(left_out)}" if self.forgiving else ""
        hint = ", or --resume it with --not-finite skip" if self.forgiving is False else ""
        raise UserError(
            f"{error}{many}; nothing has moved, the state before it is saved and {place} names the "
            f"batch; try a lower --lr or --precision float32{hint}"
        ) from error

    def _plan(self, readers: Readers) -> int:
        """How many steps the budget is; decided once, then kept in run.json."""
        if "steps" in self.description:
            self.probes = self.description.get("probes", self.probes)
            return self.description["steps"]
        steps, minutes = self.call["steps"], self.call["minutes"]
        if minutes is not None:
            steps, self.probes = dist.agreed(self._measure(minutes * 60, readers))
        elif steps is None:
            steps = round(self.run.epochs * (len(self.trained_on) // self.run.batch_size))
        if steps < 1:
            raise UserError(
                f"a budget of {steps} steps; give more to --epochs, --steps or --minutes"
            )
        self.probes = min(self.probes, max(2, steps // STEPS_A_PROBE))
        self.description |= {"steps": steps, "probes": self.probes}
        self.folder.write(self.description)
        self._save(0)
        epochs = steps * self.run.batch_size / len(self.trained_on)
        self.console.print(f"{steps} steps, {epochs:.1f} epochs")
        return steps

    def _measure(self, seconds: float, readers: Readers) -> tuple[int, int]:
        """Steps and label-free signals for so many seconds, by the speed of a copy thrown away."""
        began = time.perf_counter()
        trial = copy.deepcopy(self.run)
        found = self._fit(readers, 0, 10**6, trial)
        warm = next(found)
        patience = min(20.0, 0.05 * seconds)
        begun = TRIED + BEGINNING if readers.later else 0  # steps until workers may have begun
        times = []
        for step in itertools.islice(found, begun, 200 + begun):
            times.append(step.seconds)
            if dist.largest(sum(times) > patience and len(times) >= 3):
                break
        found.close()  # pyright: ignore
        probed = time.perf_counter()
        self.signals()
        probe = time.perf_counter() - probed
        probes = min(self.probes, max(2, int(PROBING * seconds / max(probe, 1e-9))))
        left = MARGIN * (seconds - (time.perf_counter() - began)) - (probes + 1) * probe
        speed = sum(times) / len(times)
        if self.run.survey_every:  # the first step made one
            speed += warm.seconds / self.run.survey_every
        self.console.print(
            f"{warm.samples / speed:.0f} samples/s: {clock(seconds)} are enough for "
            f"{max(0, int(left / speed))} steps",
        )
        return max(1, int(left / speed)), probes

    def verdict(self, *newest: dict[str, Any]) -> Verdict:
        """Whether the run is learning, by its records so far and the ``newest``."""
        settings = self.call["arguments"] | {"images": len(self.trained_on)}
        return verdict([*self.folder.metrics(), *newest], self.description["untrained"], settings)

    def _draw(self, step: int) -> None:
        if dist.is_first():
            x, folder = self.watch.images[0].to(self.device), self.folder.path / "pictures"
            with dist.alone():
                pictures.draw(self.run.method, self.pixels, x, folder, step)

    # State

    def _save(self, step: int) -> None:
        state = {
            "method": self.run.method.state_dict(),
            "optimizer": self.run.optimizer.state_dict(),
        }
        self.folder.save(step, state)

    def _restore(self) -> int:
        """Put the newest checkpoint back; the step it was saved at."""
        dist.first(lambda: self.folder.recount(self.images))
        found = checkpoint.latest(self.folder.checkpoints)
        if found is None:
            self.folder.rewind(0)
            self.console.print("no checkpoint is left; beginning again")
            return 0
        step, state = found
        self.run.method.load_state_dict(state["method"])
        self.run.optimizer.load_state_dict(state["optimizer"])
        self.folder.rewind(step)
        self.console.print(f"going on from step {step}")
        return step
