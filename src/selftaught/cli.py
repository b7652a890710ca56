"""The command line: thin, every command is a function in `selftaught.commands`."""

import contextlib
import dataclasses
import difflib
import functools
import inspect
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from selftaught import recipes
from selftaught.allocator import keep_freed_memory
from selftaught.errors import Stopped, UserError
from selftaught.recipes.parameters import parameters

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0, 2 where the user must act, 128 + signal where stopped."""
    argv = list(sys.argv[1:] if argv is None else argv)
    keep_freed_memory()
    try:
        if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
            near = difflib.get_close_matches(argv[0], COMMANDS, n=1, cutoff=0)
            raise UserError(f"no command named {argv[0]!r}; did you mean {near[0]!r}?")
        if argv[:1] == ["pretrain"] and len(argv) > 1 and not argv[1].startswith("-"):
            _pretrain(argv[1], argv[2:])
        else:
            _parse({name: _later(command) for name, command in COMMANDS.items()}, argv)()
    except UserError as error:
        print(f"selftaught: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"selftaught: {stopped}", file=sys.stderr)
        return 128 + stopped.signal
    except KeyboardInterrupt:
        return 130
    return 0


# The commands


def methods(name: Positional[str | None] = None, *, json: bool = False) -> None:
    """List the methods: name, family, modality, paper, year, what the defaults were measured on.

    Args:
        name: only this one.
        json: print JSON.
    """
    from selftaught.commands.methods import show

    show(name, as_json=json)


def pretrain(method: Positional[str], data: Positional[str]) -> None:
    """Train an encoder on data without labels; `selftaught pretrain METHOD --help` has the options.

    Args:
        method: a name that `selftaught methods` lists, or package.module:function.
        data: a folder of images or of IDX files, an .npz file, digits, or a torchvision name.
    """


def evaluate(
    run: Positional[Path],
    *,
    data: tuple[str, ...],
    test: str | None = None,
    protocols: str = "knn,logreg",
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
        label_free: instead, what can be said without labels; compares runs of one method only.
        against: with --label-free, other runs of the same method and encoder.
        device: where features are computed.
        json: print JSON; of several data sets, by name.
    """
    from rich.console import Console

    from selftaught.commands.evaluate import evaluate, record
    from selftaught.commands.label_free import label_free as signals
    from selftaught.report import table

    if not data:
        raise UserError("no data to evaluate on; give --data labelled images")
    if test is not None and len(data) > 1:
        raise UserError(f"one --test for {len(data)} data sets; evaluate each with its own")
    if against and not label_free:
        raise UserError("--against is for --label-free; evaluate each run by itself")
    console, options = Console(quiet=json), {"test": test, "device": device, "cached": True}
    found: dict[str, Any] = {}
    for name in data:
        if len(data) > 1:
            console.print(f"\n{name}", highlight=False)
        if label_free:
            found[name] = signals(run, name, against=against, device=device)
            console.print(table.label_free(found[name]))
            continue
        found[name] = evaluate(run, name, protocols=protocols.split(","), **options)
        table.show(found[name], console)
        record(run, name, found[name])
    if json:
        _json(found if len(data) > 1 else found.popitem()[1])


def robustness(
    run: Positional[Path],
    data: Positional[str],
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
    from rich.console import Console

    from selftaught.commands.robustness import robustness
    from selftaught.protocols.corruptions import CORRUPTIONS
    from selftaught.report import table

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
    _json(found) if json else Console().print(table.robust(found))


def finetune(
    run: Positional[Path],
    data: Positional[str],
    *,
    out: Path,
    labels: str = "all",
    test: str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    from_head_layer: int = 0,
    layer_decay: float = 1.0,
    freeze: bool = False,
    freeze_norm: bool = True,
    probe: bool = True,
    batch_size: int = 128,
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    warmup: float = 0.1,
    smallest_crop: float = 0.6,
    seed: int | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
    resume: bool = False,
    json: bool = False,
) -> None:
    """Train a classifier from an encoder with few labels, beside the same one from scratch.

    Args:
        run: folder of a run, or of an exported encoder.
        data: labelled images.
        out: a new folder for both classifiers, the list of the labels used and the numbers.
        labels: 1% of each class, 10-per-class, or all.
        test: labelled images to test on; without it, the data's own test part or a held-out fifth.
        steps: of training; without it 600, or ten epochs where these are more.
        minutes: of training each of the two, instead of steps.
        from_head_layer: keep so many layers of the projection head below the classifier.
        layer_decay: factor of the learning rate from each layer to the one before it.
        freeze: train the linear classifier only.
        freeze_norm: keep the statistics of the encoder's batch norm as they are.
        probe: begin with the logistic regression on the frozen features as the last layer.
        batch_size: images a step.
        lr: learning rate of the last layer after the warm-up.
        weight_decay: of weight matrices and kernels.
        warmup: share of the run in which the learning rate rises.
        smallest_crop: a view shows at least this share of the image's area.
        seed: of everything random, the choice of labels too; without it 0.
        device: where to train.
        precision: of the forward passes.
        resume: go on with what is in --out.
        json: print JSON.
    """
    from selftaught.commands.finetune import finetune

    options = dict(locals())
    for name in ("finetune", "json", "run", "data"):
        del options[name]
    found = finetune(run, data, quiet=json, **options)
    if json:
        _json(found)


def distill(
    run: Positional[Path],
    data: Positional[str],
    *,
    student: str,
    out: Path,
    temperature: float = 1.0,
    labels: str | None = None,
    label_weight: float = 0.0,
    test: str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch_size: int = 256,
    lr: float = 2e-3,
    weight_decay: float = 0.01,
    warmup: float = 0.1,
    smallest_crop: float = 0.4,
    seed: int | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
    resume: bool = False,
    json: bool = False,
) -> None:
    """Train a smaller network to say what a fine-tuned one says, on images without labels.

    Args:
        run: folder that `finetune --out` made: the teacher.
        data: images; labels are not needed, and used only as --labels says.
        student: resnet-nano, vit-nano or any timm name.
        out: a new folder.
        temperature: of both distributions; the larger, the more the unlikely classes count.
        labels: 1% of each class, 10-per-class, or all; with --label-weight.
        label_weight: share of the labels in the objective; the teacher has the rest.
        test: labelled images to compare on; without it, the data's own test part.
        steps: of training; without it ten epochs.
        minutes: of training, instead of steps.
        batch_size: images a step.
        lr: learning rate after the warm-up.
        weight_decay: of weight matrices and kernels.
        warmup: share of the run in which the learning rate rises.
        smallest_crop: a view shows at least this share of the image's area.
        seed: of everything random; without it 0.
        device: where to train.
        precision: of the forward passes.
        resume: go on with what is in --out.
        json: print JSON.
    """
    from selftaught.commands.distill import distill

    options = dict(locals())
    for name in ("distill", "json", "run", "data"):
        del options[name]
    found = distill(run, data, quiet=json, **options)
    if json:
        _json(found)


def transfer(
    task: Positional[Literal["detection", "segmentation"]],
    run: Positional[Path],
    data: Positional[Path],
    *,
    out: Path,
    images: int | None = None,
    size: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch_size: int = 8,
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    warmup: float = 0.1,
    seed: int | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
    resume: bool = False,
    json: bool = False,
) -> None:
    """Train a detector or a segmenter on an encoder, beside the same one from scratch.

    Args:
        task: detection (Faster R-CNN, box AP) or segmentation (FCN, mean IoU).
        run: folder of a run, or of an exported encoder.
        data: a folder in COCO's or in VOC's format.
        out: a new folder for both networks, the list of the images used, numbers and a picture.
        images: labelled images to train on, chosen at random; without it all.
        size: pixels of the longer side that is seen; without it its own up to 128 (GPU: 512).
        steps: of training; without it 400, or twelve epochs where these are more.
        minutes: of training each of the two, instead of steps.
        batch_size: images a step.
        lr: learning rate after the warm-up.
        weight_decay: of weight matrices and kernels.
        warmup: share of the run in which the learning rate rises.
        seed: of everything random, the choice of images too; without it 0.
        device: where to train.
        precision: of the forward passes.
        resume: go on with what is in --out.
        json: print JSON.
    """
    from selftaught.commands.transfer import transfer

    options = dict(locals())
    for name in ("transfer", "json", "task", "run", "data"):
        del options[name]
    found = transfer(task, run, data, quiet=json, **options)
    if json:
        _json(found)


def compare(
    data: Positional[str],
    *,
    methods: str,
    out: Path,
    minutes: float | None = None,
    steps: int | None = None,
    size: int | None = None,
    seed: int | None = None,
    device: Device = "auto",
    json: bool = False,
) -> None:
    """Train several methods under one equal budget and show them in one table with baselines.

    Args:
        data: images; where they have labels, for evaluation only, the methods are ranked.
        methods: their names, with commas.
        out: folder of the runs and the table; the same command goes on where it was stopped.
        minutes: budget of each method.
        steps: budget of each method, instead of minutes.
        size: side in pixels that the encoders see.
        seed: of everything random.
        device: where to train.
        json: print JSON.
    """
    from rich.console import Console

    from selftaught.commands.compare import compare
    from selftaught.report import table

    names = [name for name in methods.split(",") if name]
    found = compare(
        data,
        methods=names,
        out=out,
        minutes=minutes,
        steps=steps,
        size=size,
        seed=seed,
        device=device,
        quiet=json,
    )
    _json(found) if json else Console().print(table.compared(found))


def embed(
    run: Positional[Path], data: Positional[str], *, out: Path, device: Device = "auto"
) -> None:
    """Write the features of every image to a file.

    Args:
        run: folder of a run, or of an exported encoder.
        data: images.
        out: a new .parquet or .npy file.
        device: where features are computed.
    """
    from selftaught.commands.embed import embed

    names, found = embed(run, data, out=out, device=device)
    print(f"{len(names)} x {found.shape[1]} features in {out}")


def export(
    run: Positional[Path],
    *,
    out: Path,
    format: Literal["safetensors", "timm", "onnx", "torch_export", "sklearn"] = "safetensors",
    size: int | None = None,
) -> None:
    """Write the encoder for use elsewhere, with a JSON card and a snippet that loads it.

    Args:
        run: folder of a finished run, or of an exported encoder.
        out: a new folder.
        format: what is to load it; safetensors is for selftaught itself.
        size: side in pixels of the images of onnx and torch_export; without it, that of the run.
    """
    from selftaught.commands.export import export

    card = export(run, out=out, format=format, size=size)
    seen, tried = card["preprocessing"], card["exported"]
    print(
        f"the encoder is in {out}; python {out / 'load.py'} loads it. Images are seen with "
        f"{seen['channels']} x {seen['size']} x {seen['size']} pixels; by {tried['read_by']}, "
        f"features differ by at most {tried['largest_difference']:.1g}"
    )


def doctor(
    data: Positional[str],
    *,
    encoder: str | None = None,
    size: int | None = None,
    method: str = "simclr",
    device: Device = "auto",
    json: bool = False,
) -> None:
    """Look at the data before any run: what is in them, what is broken, what a step costs.

    Args:
        data: images.
        encoder: the encoder to time; the method's default without it.
        size: side in pixels that the encoder sees.
        method: the method to time.
        device: where to time it.
        json: print JSON.
    """
    from selftaught.commands.doctor import doctor

    found = doctor(data, encoder=encoder, size=size, method=method, device=device, quiet=json)
    if json:
        _json(found)


def reconstruct(
    run: Positional[Path],
    data: Positional[str],
    *,
    out: Path,
    count: int = 8,
    seed: int = 0,
    device: Device = "auto",
    json: bool = False,
) -> None:
    """Draw images, what the method saw of them and what it made of that, side by side.

    Args:
        run: folder of a run of a method that makes images again, finished or not.
        data: images; their test part where they have one.
        out: a new .png file.
        count: images to draw.
        seed: of what is hidden or drawn.
        device: where to compute.
        json: print JSON.
    """
    from selftaught.commands.pictures import reconstruct

    found = reconstruct(run, data, out=out, count=count, seed=seed, device=device)
    if json:
        return _json(found)
    similar = f", ssim {found['ssim']:.3f}" if "ssim" in found else ""
    print(
        f"psnr {found['psnr']:.2f} dB{similar} of whole images, {found['images']} of the "
        f"{found['part']} part"
    )


def sample(
    run: Positional[Path],
    *,
    out: Path,
    count: int = 64,
    between: str | None = None,
    encoder: Path | None = None,
    data: str | None = None,
    seed: int = 0,
    device: Device = "auto",
    json: bool = False,
) -> None:
    """Draw new images that the method makes.

    Args:
        run: folder of a run of a method that makes new images, finished or not.
        out: a new .png file.
        count: images to draw.
        between: images, between whose codes the new ones lie.
        encoder: folder of a run whose features say how the new images lie to those of --data.
        data: real images.
        seed: of what is drawn.
        device: where to compute.
        json: print JSON.
    """
    from selftaught.commands.pictures import sample

    options: dict[str, Any] = {"between": between, "encoder": encoder, "data": data}
    found = sample(run, out=out, count=count, seed=seed, device=device, **options)
    if json:
        return _json(found)
    if found:
        print(
            f"in features of {found['encoder']}: frechet {found['frechet']:.2f}, precision "
            f"{found['precision']:.3f}, recall {found['recall']:.3f} on {found['images']} images "
            f"({found['part']} part) and as many samples"
        )


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
        export,
        doctor,
    )
}


# Pre-training, whose options are the recipe's signature


@dataclasses.dataclass
class _Common:
    """What every run has."""

    data: Annotated[Positional[str], arg(metavar="DATA")]
    """A folder of images or of IDX files, an .npz file, digits, or a torchvision name."""
    out: Annotated[Path, arg(metavar="RUN")]
    """A new folder for the run."""
    steps: int | None = None
    """Train for so many steps."""
    minutes: float | None = None
    """Train for so many minutes: speed is measured first, and the run planned to end in time."""
    size: int | None = None
    """Side in pixels that the encoder sees; without it, the images' own up to 64 (GPU: 224)."""
    seed: int | None = None
    """Of everything random; without it 0."""
    workers: int = 0
    """Processes that read images; the batches are the same with any number."""
    device: Device = "auto"
    """Where to train."""
    precision: Precision = "auto"
    """Of the forward passes; auto is bfloat16 where the hardware has it."""
    scale: Literal["auto", "paper", "small"] = "auto"
    """Whose settings stand in for those not given: the paper's, or those for small data."""
    init: str | None = None
    """What the encoder begins with: a run, a .safetensors file or timm:NAME; random without it."""
    resume: bool = False
    """Go on with the run in --out, bit for bit, with the settings it began with."""
    evaluate: Literal["auto", "off"] = "auto"
    """Evaluate at the end where the data have labels."""
    draw_every: float = 5.0
    """Minutes between pictures of what the method makes, where it makes images; 0 is never."""


def _pretrain(method: str, argv: list[str]) -> None:
    recipe = recipes.find(method)
    values = vars(_parse(_options(recipe), argv, prog=f"selftaught pretrain {method}"))
    common = {f.name: values.pop(f.name) for f in dataclasses.fields(_Common)}
    words = {w.split("=")[0].removeprefix("--").removeprefix("no-") for w in argv}
    named = {word.replace("-", "_") for word in words}
    given = {name: value for name, value in values.items() if name in named}
    from selftaught.commands.pretrain import pretrain

    pretrain(method, **common, **given)


def _options(recipe: Callable[..., Any]) -> type:
    """What every run has and, with their meaning from the docstring, the recipe's parameters."""
    fields = [
        (p.name, Annotated[p.annotation, arg(help=p.meaning)], p.default)
        for p in parameters(recipe).values()
    ]
    options = dataclasses.make_dataclass("Options", fields, bases=(_Common,))
    options.__doc__ = (inspect.getdoc(recipe) or "").split("\n")[0]
    return options


def _later(command: Callable[..., Any]) -> Callable[..., Callable[[], Any]]:
    """The command with its arguments, to be run when they all have been understood."""

    @functools.wraps(command)
    def bound(*args: Any, **kwargs: Any) -> Callable[[], Any]:
        return functools.partial(command, *args, **kwargs)

    return bound


def _parse(what: Any, argv: list[str], prog: str = "selftaught") -> Any:
    """What tyro makes of the arguments; its box of an error becomes one line.

    Raises UserError.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            if isinstance(what, dict):
                return tyro.extras.subcommand_cli_from_dict(
                    what, args=argv or ["--help"], prog=prog, description=DESCRIPTION
                )
            return tyro.cli(what, args=argv, prog=prog)
    except SystemExit as ended:
        if ended.code:
            raise UserError(_one_line(complaint.getvalue())) from None
        raise


DESCRIPTION = "Self-supervised learning: from data without labels to an encoder you can trust."


def _one_line(box: str) -> str:
    """The words of tyro's boxed message, without its title and its pointer to the help."""
    lines = [line.strip(" │╭╮╰╯─") for line in box.splitlines()]
    _title, *words = [line for line in lines if line] or ["", "the arguments are not understood"]
    return " ".join(words).partition(" For full helptext")[0]


def _json(found: Any) -> None:
    print(json.dumps(found))


if __name__ == "__main__":
    sys.exit(main())
