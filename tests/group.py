"""Several processes of one group, for tests of what they do together."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import torch


@contextmanager
def one_of(size: int, rank: int, place: str | Path) -> Iterator[None]:
    """Process ``rank`` of ``size`` that meet at a new file; all have done their work at the end."""
    torch.set_num_threads(1)
    import_module("torch.distributed.nn.functional")  # before, for the reason in `dist.joined`
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{place}", rank=rank, world_size=size
    )
    yield
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
