"""Results as a table."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

ROWS = {
    "encoder": "this encoder",
    "supervised": "same encoder, trained with labels",
    "random": "same encoder, random weights",
    "pixels": "raw pixels",
}

SHORT = {
    "encoder": "this encoder",
    "supervised": "with labels",
    "random": "random weights",
    "pixels": "raw pixels",
}
WIDE = 10_000  # columns: more than any table needs

SIGNAL_ROWS = {"encoder": "this encoder", "random": "random weights"}


def show(result: Mapping[str, Any], console: Console) -> None:
    """Print what `selftaught.evaluate` returned, in percent; many protocols are rows."""
    table = _scores(result, ROWS, by_protocol=False)
    if console.measure(table, options=console.options.update(width=WIDE)).maximum > console.width:
        table = _scores(result, SHORT, by_protocol=True)
    console.print(table)
    for line in (result["split"], _spreads(result), _settings(result), *_remarks(result)):
        if line:
            console.print(line)


def _scores(result: Mapping[str, Any], titles: Mapping[str, str], *, by_protocol: bool) -> Table:
    """Scores by features and protocols; the rows are features, or protocols if asked."""
    protocols = list(result["rows"]["encoder"])
    titles = {row: title for row, title in titles.items() if row in result["rows"]}
    table = Table(title=f"score, % ({result['train']:,} train, {result['test']:,} test)")
    table.add_column("protocol" if by_protocol else "features", no_wrap=True)
    for name in titles.values() if by_protocol else protocols:
        table.add_column(name, justify="right", no_wrap=True)
    if by_protocol:
        for protocol in protocols:
            table.add_row(protocol, *(_score(result, row, protocol) for row in titles))
    else:
        for row, title in titles.items():
            table.add_row(title, *(_score(result, row, protocol) for protocol in protocols))
    return table


def _spreads(result: Mapping[str, Any]) -> str:
    """What ± is."""
    protocols = list(result["rows"]["encoder"])
    drawn = [p for p in protocols if p in result.get("sd", {}).get("encoder", {})]
    interval = "half of the 95 % interval over test images"
    if not drawn:
        return f"±: {interval}"
    draws = f"the standard deviation over draws of {', '.join(drawn)}"
    return f"±: {draws}" if len(drawn) == len(protocols) else f"±: {interval}; {draws}"


def _settings(result: Mapping[str, Any]) -> str:
    """How the protocols are set, with what they chose for this encoder."""
    by_text: dict[str, list[str]] = {}
    for protocol, text in result.get("settings", {}).items():
        chosen = result["chosen"]["encoder"].get(protocol)
        by_text.setdefault(f"{text} ({chosen})" if chosen else text, []).append(protocol)
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in by_text.items())


def _remarks(result: Mapping[str, Any]) -> Iterator[str]:
    """What is to be said of numbers, and of those that are not there."""
    for row, notes in result.get("notes", {}).items():
        for protocol, note in notes.items():
            yield f"* {protocol} of {SHORT[row]}: {note}"
    for protocol, why in result.get("left_out", {}).items():
        yield f"{protocol} is left out: {why}"


def label_free(result: Mapping[str, Any]) -> Table:
    """What `selftaught.label_free` returned."""
    count, views = result["groups"]
    caption = (
        f"{result['images']:,} images, {result['dim']} features: ranks grow with the number of "
        f"images\nalignment (only with uniformity) and lidar on {count} x {views} views"
    )
    for term, found in result["loss"].items():
        caption += f"\n{term} ended at {found['value']:.3f}; {found['guess']:.3f} is a guess"
    table = Table(
        title="label-free signals: they compare runs of one method, never two methods",
        caption=caption,
        min_width=72,
    )
    for name in ("signal", *(SIGNAL_ROWS.get(row) or row for row in result["rows"])):
        table.add_column(name, justify="left" if name == "signal" else "right")
    for name in result["rows"]["encoder"]:
        cells = [row[name] for row in result["rows"].values()]
        table.add_row(name, *("?" if v is None else f"{v:.3f}" for v in cells))
    return table


def finetuned(result: Mapping[str, Any]) -> Table:
    """What `selftaught.finetune` returned."""
    title = f"accuracy, % ({result['labels']:,} labels, {result['test']:,} test)"
    notes = result.get("notes", {})
    caption = "\n".join(f"* {name}: {note}" for name, note in notes.items()) or None
    table = Table(title=title, caption=caption, min_width=len(title) + 4)
    table.add_column("classifier")
    table.add_column("accuracy", justify="right")
    for name, value in result["rows"].items():
        low, high = result["intervals"][name]
        mark = "*" if name in notes else ""
        table.add_row(name, f"{value:.1f} ±{(high - low) / 2:.1f}{mark}")
    return table


def distilled(result: Mapping[str, Any]) -> Table:
    """What `selftaught.distill` returned."""
    title = f"accuracy, % ({result['test']:,} test)" if result["test"] else result["split"]
    table = Table(title=title, min_width=len(title) + 4)
    for name in ("network", "parameters", "accuracy"):
        table.add_column(name, justify="left" if name == "network" else "right")
    for name, size in result["parameters"].items():
        value, (low, high) = result["rows"].get(name), result["intervals"].get(name, (0, 0))
        score = "?" if value is None else f"{value:.1f} ±{(high - low) / 2:.1f}"
        table.add_row(name, f"{size / 1e6:.2f} M", score)
    return table


CLASSIFIERS = {
    "encoder": "this encoder",
    "supervised": "supervised",
    "random": "random weights",
    "pixels": "raw pixels",
}


def robust(result: Mapping[str, Any]) -> Table:
    """What `selftaught.robustness` returned: a row an attack or a corruption."""
    title = f"accuracy, % ({result['images']:,} test images)"
    flat = ", ".join(f"{CLASSIFIERS[r]} {v:g} %" for r, v in result["flat"].items() if v)
    caption = "logreg on each but the supervised network of the same size; epsilons in levels of "
    caption += f"255; corruptions as {result['parameters']}, mean of five severities, "
    caption += "mCE of those shown; ± is half of "
    caption += "the 95 % interval over test images"
    caption += f"; no gradient, so not attacked: {flat}" if flat else ""
    caption += "".join(f"; {CLASSIFIERS[r]}: {note}" for r, note in result["notes"].items())
    table = Table(title=title, caption=caption)
    table.add_column("images")
    for name in CLASSIFIERS.values():
        table.add_column(name, justify="right")
    for name in result["rows"]["encoder"]:
        table.add_row(name, *(_score(result, row, name) for row in CLASSIFIERS))
    if count := len(result["severities"]["encoder"]):
        errors = [result["mce"][row] for row in CLASSIFIERS]
        table.add_row(f"mCE of {count}", *("?" if e is None else f"{e:.1f}" for e in errors))
    return table


def transferred(result: Mapping[str, Any]) -> Table:
    """What `selftaught.transfer` returned."""
    what = {"detection": "box AP", "segmentation": "mean IoU"}[result["task"]]
    title = f"{what}, % ({result['images']:,} labelled images, {result['test']:,} test)"
    caption = "±: half of the 95 % interval over test images"
    table = Table(title=title, caption=caption, min_width=len(title) + 4)
    table.add_column("encoder")
    for name in next(iter(result["rows"].values())):
        table.add_column(name, justify="right")
    for row, scores in result["rows"].items():
        table.add_row(row, *(_score(result, row, name) for name in scores))
    return table


def _score(result: Mapping[str, Any], row: str, protocol: str) -> str:
    """The value and half of its interval or, of draws, their deviation; * where there is a note."""
    low, high = result["intervals"][row][protocol]
    spread = result.get("sd", {}).get(row, {}).get(protocol, (high - low) / 2)
    mark = "*" if protocol in result.get("notes", {}).get(row, {}) else ""
    return f"{result['rows'][row][protocol]:.1f} ±{spread:.1f}{mark}"


def compared(result: Mapping[str, Any]) -> Table:
    """What `selftaught.compare` returned: the best on the last protocol first, then baselines."""
    methods = result["methods"]
    protocols = list(result["pixels"] or ())
    title = "accuracy, %" if protocols else "label-free signals: they do not rank methods"
    table = Table(title=title)
    for name in ("features", "encoder"):
        table.add_column(name, no_wrap=True)
    for name in (*protocols, "rank"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    order = list(methods)
    if protocols:
        known = [name for name in order if methods[name]["encoder"]]
        known.sort(key=lambda name: -methods[name]["encoder"][protocols[-1]])
        order = known + [name for name in order if name not in known]
    for name in order:
        m = methods[name]
        scores = [f"{m['encoder'][p]:.1f}" if m["encoder"] else "?" for p in protocols]
        rank = m["signals"]["effective_rank"]
        table.add_row(
            name,
            m["encoder_name"],
            *scores,
            "?" if rank is None else f"{rank:.1f}",
            m["verdict"]["word"],
        )
    if protocols:
        table.add_section()
        for what, encoder, scores in (*_baselines(methods), ("raw pixels", "", result["pixels"])):
            table.add_row(what, encoder, *(f"{scores[p]:.1f}" for p in protocols))
    return table


def markdown(table: Table) -> str:
    """The same table in Markdown."""
    lines = [[str(column.header) for column in table.columns], ["---"] * len(table.columns)]
    lines += [list(row) for row in zip(*(column.cells for column in table.columns), strict=True)]
    text = "".join(f"| {' | '.join(str(cell or '') for cell in row)} |\n" for row in lines)
    return f"{table.title}\n\n{text}"


def _baselines(methods: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, float]]]:
    """Encoders with random weights, those once that are the same; whose they are, if it matters.

    Encoders of one name may begin otherwise, or see other things, in each method.
    """
    known = {name: m for name, m in methods.items() if m["random"]}
    for name, m in known.items():
        alike = [n for n, o in known.items() if o["encoder_name"] == m["encoder_name"]]
        same = [n for n in alike if known[n]["random"] == m["random"]]
        if same[0] == name:
            whose = "" if same == alike else f" of {', '.join(same)}"
            yield f"random weights{whose}", m["encoder_name"], m["random"]
