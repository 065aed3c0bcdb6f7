"""Counts the blocks that Python's allocator hands out. Nothing in Python does: tracemalloc and sys.getallocatedblocks
see what is alive, and what a request needs is dead again when it is answered.

So a few machine instructions are put before the allocator's functions: they add one to a counter and go on to the
function itself. Only for x86-64 under Linux and a CPython with a global lock, which makes the addition safe.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from types import TracebackType
from typing import Self

_PAGE_BYTES = 4096
# Of the three domains, "mem" and "obj": what Python code and extensions allocate with the lock held.
_DOMAINS = (1, 2)


class NotCountable(Exception):  # noqa: N818 - it is a state, not an error in this code
    """This machine or this Python is none of those that allocations can be counted on."""


class _Allocator(ctypes.Structure):
    """PyMemAllocatorEx of CPython."""

    _fields_ = (
        ("ctx", ctypes.c_void_p),
        ("malloc", ctypes.c_void_p),
        ("calloc", ctypes.c_void_p),
        ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    )


class AllocationCounter:
    """Counts within its `with` block, once for each process. Blocks that only grow are not counted again."""

    def __init__(self) -> None:
        """Prepare to count. Raises NotCountable."""
        if sys.platform != "linux" or platform.machine() != "x86_64" or sys.implementation.name != "cpython":
            raise NotCountable("allocations are counted under Linux on x86-64 only")
        self._counter = ctypes.c_uint64(0)
        try:
            protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
            self._code = mmap.mmap(-1, _PAGE_BYTES, prot=protection)
        except OSError as error:
            raise NotCountable(f"this system lets no process write code: {error}") from error
        self._at = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        self._own: dict[int, _Allocator] = {}

    @property
    def count(self) -> int:
        """Return how many blocks were handed out so far."""
        return self._counter.value

    def __enter__(self) -> Self:
        """Begin to count."""
        hooks = {}
        for domain in _DOMAINS:
            own = _Allocator()
            ctypes.pythonapi.PyMem_GetAllocator(domain, ctypes.byref(own))
            self._own[domain] = own
            hooks[domain] = _Allocator(
                own.ctx, self._before(own.malloc, own.ctx), self._before(own.calloc, own.ctx), own.realloc, own.free
            )
        for domain, hook in hooks.items():
            ctypes.pythonapi.PyMem_SetAllocator(domain, ctypes.byref(hook))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for domain, own in self._own.items():
            ctypes.pythonapi.PyMem_SetAllocator(domain, ctypes.byref(own))

    def _before(self, function: int, context: int | None) -> int:
        """Write the code that counts and goes on to a function; return its address."""
        code = (
            b"\x48\xb8" + ctypes.addressof(self._counter).to_bytes(8, "little")  # mov rax, counter
            + b"\x48\xff\x00"  # inc qword [rax]
            + b"\x48\xbf" + (context or 0).to_bytes(8, "little")  # mov rdi, context
            + b"\x48\xb8" + function.to_bytes(8, "little")  # mov rax, function
            + b"\xff\xe0"  # jmp rax
        )  # fmt: skip
        address = self._at + self._code.tell()
        self._code.write(code)
        return address
