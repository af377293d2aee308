"""Memory that a process has freed, given back to the operating system.

Arrow and the C library keep what is freed for the next request of the same size. After a table was arranged from
pieces, that is a third of the memory of the process.
"""

import ctypes

import pyarrow as pa


def give_back() -> None:
    """Give back what Arrow's pool keeps and, where the C library is glibc, what its heap keeps."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
