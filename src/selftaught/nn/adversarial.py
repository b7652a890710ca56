"""Two players in one sum of terms."""

from typing import Any

from torch import nn
from torch.func import functional_call


def frozen(module: nn.Module, *inputs: Any) -> Any:
    """The module's outputs, through which gradients reach the inputs and not its parameters.

    With it both players of a game are trained by one sum: the critic's term is taken on detached
    samples, the generator's through the frozen critic. Running statistics move as in any forward.
    """
    held = {name: parameter.detach() for name, parameter in module.named_parameters()}
    return functional_call(module, held, inputs)
