"""Memory: what a step frees is kept for the next, and what can be said where none is left."""

import ctypes
import resource
import sys
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h


def keep_freed_memory() -> bool:
    """Ask the C library not to hand large blocks back; whether it agreed.

    glibc maps each block of more than 32 MB anew and gives it back when it is freed, so every
    activation of a training step is paid for in page faults. This holds for the whole process:
    only the commands call it, the library never does.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and bool(
        mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    )


#: What PyTorch says of a processor without memory left, and what the operating system does.
SHORT = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


def is_short(error: BaseException) -> bool:
    """Whether an error says that there is no memory left."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(text in str(error) for text in SHORT)


def shortage() -> str:
    """That memory has run out, and the most of it that was in use."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        most = torch.cuda.max_memory_allocated() / 2**20
    return f"out of memory (at most {most:,.0f} MB were in use)"
