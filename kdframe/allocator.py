"""The C library's memory, kept for the next step instead of given back and asked for again."""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGEST = 2**30  # bytes of a tensor that is kept


def keep_freed() -> bool:
    """Lets this process keep memory that it frees; False where the C library isn't glibc.

    A step frees what the next one allocates.  glibc gives the upper end of it back to the system
    each time, and the system clears every page before it hands it out again: some 6 % of a step of
    resnet56 and resnet20 on a CPU.  The user's own MALLOC_TRIM_THRESHOLD_ and
    MALLOC_MMAP_THRESHOLD_ stand.
    """
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return False
    if {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1) and mallopt(M_MMAP_THRESHOLD, LARGEST))
