"""Memory that a process has freed, given back to the operating system.

Arrow and the C library keep what is freed for the next request of the same size. After a table was arranged from
pieces, that is a third of the memory of the process.
"""

import ctypes

import pyarrow as pa


def give_back() -> None:
    """Give back what Arrow's pool and the C library keep. It does no harm, and nothing where there is no glibc."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
