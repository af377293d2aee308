"""Permissions that hold for root too: tests of closed files run as any user."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

# linux/capability.h: version 3 has two words of each set.
_VERSION = 0x20080522
_OVERRIDE, _READ_SEARCH = 1 << 1, 1 << 2


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@contextmanager
def permissions_hold() -> Iterator[None]:
    """Let this thread read no file that its mode closes, whoever runs it."""
    libc = ctypes.CDLL(None, use_errno=True)
    before, now = (_Sets * 2)(), (_Sets * 2)()
    for sets in (before, now):
        _call(libc.capget, sets)
    now[0].effective &= ~(_OVERRIDE | _READ_SEARCH)
    _call(libc.capset, now)
    try:
        yield
    finally:
        _call(libc.capset, before)


def _call(function: "ctypes._NamedFuncPointer", sets: "ctypes.Array[_Sets]") -> None:
    if function(ctypes.byref(_Header(_VERSION, 0)), sets):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
