"""Several methods under one equal budget, in one table."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from selftaught import checkpoint, pretrained, recipes
from selftaught.commands import settings
from selftaught.commands.evaluate import evaluate, still
from selftaught.commands.outputs import own_folder
from selftaught.commands.pretrain import pretrain
from selftaught.data.images import open_images, open_labels
from selftaught.errors import UserError, going_on_by_itself
from selftaught.recipes.parameters import shared_out
from selftaught.report import table
from selftaught.report.console import terminal
from selftaught.report.live import Doing, Tell
from selftaught.runfolder import RunFolder

BY_ROW = ("rows", "intervals", "sd", "notes", "chosen")  # parts of an evaluation


def compare(
    data: str | Path,
    *,
    methods: Sequence[str],
    out: str | Path,
    minutes: float | None = None,
    steps: int | None = None,
    size: int | None = None,
    flip: bool = True,
    seed: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    scale: Literal["auto", "paper", "small"] = "auto",
    quiet: bool = False,
    **parameters: Any,
) -> dict[str, Any]:
    """Train each method in turn for the same minutes or steps, and put the results side by side.

    ``parameters`` are of the recipes, such as ``encoder``: each has those that it knows. ``scale``
    says whose settings stand in for the others, the same for all methods: the papers', which it is
    by itself where the data suit each of them, or those for small data.
    Every method's run lies in a folder of ``out`` and goes on there when the same call is made
    again. Where the data have labels, the rows are accuracies with baselines, best first; where
    they have none that can be used, there are only label-free signals, which cannot rank methods: a
    feature's spread means something else in each.

    Returns ``{"methods": {name: {"encoder": scores, "random": scores, "verdict": ..., "signals":
    ..., "samples_per_second": ..., "encoder_name": ...}}, "pixels": scores, "labels": bool}``, and
    writes it with the table to ``compare.json`` and ``compare.md`` in ``out``. Raises UserError for
    a budget that is none, for names that are none or come twice and for parameters of no method.
    """
    methods = settings.listed(methods)
    settings.check_budget(steps=steps, minutes=minutes)
    if steps is None and minutes is None:
        raise UserError("no budget; give --minutes or --steps, the same for each method")
    if not methods or len(set(methods)) < len(methods):
        raise UserError("give --methods a list of different names with commas")
    own = shared_out(parameters, {name: recipes.find(name) for name in methods})
    console, places = terminal(quiet=quiet), {name: name.replace(":", ".") for name in methods}
    folder = own_folder(out, (*places.values(), "compare.json", "compare.md"))
    call = {"steps": steps, "minutes": minutes, "size": size, "flip": flip, "seed": seed or 0}
    call |= {"parameters": json.loads(json.dumps(parameters))}
    call |= {"scale": scale}
    summary = folder / "compare.json"
    _require_same(summary, call)
    begun = [RunFolder(folder / place) for place in places.values()]
    begun = [run.describe()["call"]["scale"] for run in begun if run.begun()]
    new = {name: own[name] for name in methods if not RunFolder(folder / places[name]).begun()}
    if new:
        given = call | {"scale": begun[0] if begun else None if scale == "auto" else scale}
        scale, few = _checked(data, new, given, settings.device_of(device))
        if few:
            console.print(f"for these data only {', '.join(few)} would take the paper's settings")
    pixels: dict[str, Any] = {}  # what their evaluation says, once it is known
    found: dict[str, Any] = {"call": call, "methods": {}}
    for name in methods:
        place = folder / places[name]
        options = {"steps": steps, "minutes": minutes, "seed": seed}
        options |= {"size": size, "flip": flip, "quiet": quiet}
        options |= {"device": device, "resume": True, "evaluate": "off"}
        options |= {"scale": scale if name in new else "auto"}
        try:
            with going_on_by_itself():
                run = pretrain(name, data, out=place, **options, **own[name])
        finally:
            if RunFolder(place).begun() and not summary.exists():
                checkpoint.write_atomic(summary, json.dumps({"call": call}, indent=2).encode())
        try:
            if "evaluation" in run or open_labels(data, "train") is not None:
                with Doing(console) as doing:
                    run = _evaluated(place, data, device, run, pixels, doing)
                scores = run["evaluation"]
                pixels = {part: scores[part]["pixels"] for part in BY_ROW if part in scores}
        except UserError as error:
            console.print(f"{name} is not evaluated: {error}")
        found["methods"][name] = _row(run, RunFolder(place))
        console.print(f"{name}: {run['verdict']['word']}")
    found |= {"pixels": pixels.get("rows"), "labels": bool(pixels)}
    checkpoint.write_atomic(summary, json.dumps(found, indent=2).encode())
    checkpoint.write_atomic(folder / "compare.md", table.markdown(table.compared(found)).encode())
    return found


def _checked(
    data: str | Path,
    methods: Mapping[str, Mapping[str, Any]],
    call: Mapping[str, Any],
    device: torch.device,
) -> tuple[Literal["paper", "small"], list[str]]:
    """Whose settings all of the methods take, and which would take the paper's but are too few.

    Raises UserError where one cannot be built by its parameters, before any is trained.
    """
    images = open_images(data)

    def resolved(name: str, scale: str | None) -> dict[str, Any]:
        given = {"method": name, "arguments": methods[name], "scale": scale}
        given |= {"size": call["size"], "seed": call["seed"]}
        return settings.resolved(given, images, device)

    suited = [name for name in methods if resolved(name, call["scale"])["scale"] == "paper"]
    scale, pixels = "paper" if len(suited) == len(methods) else "small", None
    for name in methods:
        chosen = resolved(name, scale)
        pixels = pixels or settings.pixels_of(images, chosen["size"], flip=call["flip"])
        pretrained.rebuild(name, pixels, chosen["arguments"], call["seed"])
    return scale, suited if scale == "small" else []


def _require_same(summary: Path, call: dict[str, Any]) -> None:
    """Raises UserError where something else was asked for before in that folder."""
    if not summary.exists():
        return
    try:
        before = {"scale": "auto"} | json.loads(summary.read_text()).get("call", call)
    except (ValueError, AttributeError) as error:
        raise UserError(f"{summary} is damaged ({error}); remove it and compare again") from error
    settings.require_same(f"the comparison in {summary.parent}", before, call)


def _evaluated(
    place: Path,
    data: str | Path,
    device: str,
    run: dict[str, Any],
    pixels: dict[str, Any],
    tell: Tell,
) -> dict[str, Any]:
    """The run with its evaluation; raw pixels are the same for all methods and taken once."""
    if "evaluation" in run and still(run["evaluation"], data, pretrained.read_card(place)):
        return run
    rows = ("encoder", "random") if pixels else ("encoder", "random", "pixels")
    result = evaluate(place, data, device=device, rows=rows, tell=tell)
    for part, of in pixels.items():
        result[part]["pixels"] = of
    run["evaluation"] = result
    RunFolder(place).write(run)
    return run


def _row(run: dict[str, Any], folder: RunFolder) -> dict[str, Any]:
    rows = run["evaluation"]["rows"] if "evaluation" in run else {}
    return {
        "encoder_name": run["call"]["arguments"].get("encoder"),
        "encoder": rows.get("encoder"),
        "random": rows.get("random"),
        "signals": run["signals"],
        "verdict": run["verdict"],
        "steps": run["steps"],
        "samples_per_second": statistics.median(
            record["samples_per_second"] for record in folder.metrics()
        ),
    }
