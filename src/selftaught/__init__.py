"""Self-supervised learning in one command: from data without labels to an encoder you can trust."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selftaught.commands.classify import classify, load_classifier
    from selftaught.commands.compare import compare
    from selftaught.commands.distill import distill
    from selftaught.commands.doctor import doctor
    from selftaught.commands.embed import embed
    from selftaught.commands.evaluate import evaluate
    from selftaught.commands.export import export
    from selftaught.commands.finetune import finetune
    from selftaught.commands.label_free import label_free
    from selftaught.commands.pictures import reconstruct, sample
    from selftaught.commands.pretrain import pretrain
    from selftaught.commands.robustness import robustness
    from selftaught.commands.transfer import transfer
    from selftaught.errors import Stopped, UserError
    from selftaught.method import Method, ViewBatch
    from selftaught.pretrained import Pretrained, load
    from selftaught.train import fit

__version__ = "0.1.0"

__all__ = [
    "Method",
    "Pretrained",
    "Stopped",
    "UserError",
    "ViewBatch",
    "classify",
    "compare",
    "distill",
    "doctor",
    "embed",
    "evaluate",
    "export",
    "finetune",
    "fit",
    "label_free",
    "load",
    "load_classifier",
    "pretrain",
    "reconstruct",
    "robustness",
    "sample",
    "transfer",
]

_PLACES = {
    "Method": "method",
    "Pretrained": "pretrained",
    "Stopped": "errors",
    "UserError": "errors",
    "ViewBatch": "method",
    "classify": "commands.classify",
    "compare": "commands.compare",
    "distill": "commands.distill",
    "doctor": "commands.doctor",
    "embed": "commands.embed",
    "evaluate": "commands.evaluate",
    "export": "commands.export",
    "finetune": "commands.finetune",
    "fit": "train",
    "label_free": "commands.label_free",
    "load": "pretrained",
    "load_classifier": "commands.classify",
    "pretrain": "commands.pretrain",
    "reconstruct": "commands.pictures",
    "robustness": "commands.robustness",
    "sample": "commands.pictures",
    "transfer": "commands.transfer",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that the command line answers at once."""
    if name not in _PLACES:
        raise AttributeError(f"module 'selftaught' has no attribute {name!r}")
    return getattr(import_module(f"selftaught.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
