"""Trees of tensors: tuples, NamedTuples and lists of tensors and of trees."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


def rows(tree: Any, index: Any) -> Any:
    """The same tree, each tensor indexed on its first axis."""
    return map_tree(lambda tensor: tensor[index], tree)


def map_tree(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """The tree with a function applied to each tensor."""
    if isinstance(tree, Tensor):
        return function(tree)
    branches = [map_tree(function, branch) for branch in tree]
    return type(tree)(*branches) if hasattr(tree, "_fields") else type(tree)(branches)
