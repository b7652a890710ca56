"""Random generators that are a pure function of a seed and a place.

Every random number of a run is drawn from a generator named by the run's seed, what it is for and
where it is used: ``generator(seed, "views", step)``. Nothing is drawn from a stream that has to be
replayed, so any step can be reached at once, by any number of processes.
"""

import hashlib

import torch

CPU = torch.device("cpu")


def derive(seed: int, *place: str | int) -> int:
    """A seed in [0, 2**63) for one place in a run; different places are independent."""
    name = "/".join(map(str, (seed, *place)))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1


def plant(seed: int, device: torch.device = CPU) -> None:
    """Seed the default generator of the CPU, and that of the device; those of others stay."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def generator(seed: int, *place: str | int) -> torch.Generator:
    """A CPU generator for one place in a run."""
    return torch.Generator().manual_seed(derive(seed, *place))
