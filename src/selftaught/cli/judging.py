"""Commands that say how good an encoder is."""

from pathlib import Path
from typing import Any

from selftaught.cli.options import Data, Device, Run, print_json
from selftaught.errors import UserError

PROTOCOLS = "knn,logreg"  # where none is asked for


def evaluate(
    run: Run,
    *,
    data: tuple[str, ...],
    test: str | None = None,
    protocols: str = PROTOCOLS,
    supervised: Path | None = None,
    label_free: bool = False,
    against: tuple[Path, ...] = (),
    device: Device = "auto",
    json: bool = False,
) -> None:
    """Accuracy of an encoder on labelled images, beside random weights and raw pixels.

    Args:
        run: folder of a run, or of an exported encoder; evaluation.json there keeps the numbers.
        data: labelled images, one data set or several.
        test: labelled images to test on; without it, the data's own test part or a held-out fifth.
        protocols: with commas: knn, logreg, linear_sgd, svm, fewshot, dense_knn, clustering,
            retrieval, or one of a kind, as knn/20; all is every one that the data are made for.
        supervised: folder of `finetune`, whose network from scratch is a row beside.
        label_free: instead, what can be said without labels; compares runs of one method only.
        against: with --label-free, other runs of the same method and encoder.
        device: where features are computed.
        json: print JSON; of several data sets, by name.
    """

    from selftaught.commands.evaluate import evaluate, record
    from selftaught.commands.label_free import label_free as signals
    from selftaught.report import table
    from selftaught.report.console import terminal
    from selftaught.report.live import Doing

    if not data:
        raise UserError("no data to evaluate on; give --data labelled images")
    if test is not None and len(data) > 1:
        raise UserError(f"one --test for {len(data)} data sets; evaluate each with its own")
    if label_free and (test is not None or protocols != PROTOCOLS or supervised is not None):
        raise UserError(
            "--label-free takes neither --test nor --protocols nor --supervised; leave them out"
        )
    if against and not label_free:
        raise UserError("--against is for --label-free; evaluate each run by itself")
    console = terminal(quiet=json)
    found: dict[str, Any] = {}
    options: dict[str, Any] = {"test": test, "device": device, "cached": True}
    options |= {"supervised": supervised}
    for name in data:
        if len(data) > 1:
            console.print(f"\n{name}")
        if label_free:
            with Doing(console) as doing:
                found[name] = signals(run, name, against=against, device=device, tell=doing)
            console.print(table.label_free(found[name]))
            continue
        with Doing(console) as doing:
            asked = protocols.split(",")
            found[name] = evaluate(run, name, protocols=asked, tell=doing, **options)
        table.show(found[name], console)
        record(run, name, found[name])
    if json:
        print_json(found if len(data) > 1 else found.popitem()[1])


def robustness(
    run: Run,
    data: Data,
    *,
    test: str | None = None,
    supervised: Path | None = None,
    steps: int | None = None,
    epsilons: str = "1,2,4,8",
    attacks: str = "fgsm,pgd",
    corruptions: str = "all",
    images: int = 1000,
    seed: int = 0,
    device: Device = "auto",
    json: bool = False,
) -> None:
    """Accuracy under attacks and corruptions, beside the supervised network of the same size.

    Args:
        run: folder of a run, or of an exported encoder; robustness.json there keeps the numbers.
        data: labelled images.
        test: labelled images to test on; without it, the data's own test part or a held-out fifth.
        supervised: folder that finetune made, whose network from scratch is compared; without it,
            one is trained in the run's folder.
        steps: of that training; without it 600, or ten epochs where these are more.
        epsilons: with commas, by how many levels of 255 a pixel may change.
        attacks: with commas: fgsm, pgd, or none.
        corruptions: with commas: gaussian_noise, shot_noise, impulse_noise, defocus_blur,
            gaussian_blur, motion_blur, brightness, contrast, pixelate, jpeg, or all, or none.
        images: of the test part that are used, evenly spread.
        seed: of everything random.
        device: where to compute.
        json: print JSON.
    """

    from selftaught.commands.robustness import robustness
    from selftaught.protocols.corruptions import CORRUPTIONS
    from selftaught.report import table
    from selftaught.report.console import terminal

    try:
        levels = [float(word) for word in epsilons.split(",")]
    except ValueError as error:
        raise UserError(f"--epsilons {epsilons} is not understood; use 1,2,4,8") from error
    lists = {
        name: [] if words == "none" else list(CORRUPTIONS) if words == "all" else words.split(",")
        for name, words in (("attacks", attacks), ("corruptions", corruptions))
    }
    lists["attacks"] = ["fgsm", "pgd"] if attacks == "all" else lists["attacks"]
    options: dict[str, Any] = {"test": test, "supervised": supervised, "steps": steps}
    options |= {"images": images, "seed": seed, "device": device, "quiet": json}
    found = robustness(run, data, epsilons=levels, **lists, **options)
    print_json(found) if json else terminal().print(table.robust(found))
