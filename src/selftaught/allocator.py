"""Memory that a step frees is kept for the next step."""

import ctypes
import sys

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
