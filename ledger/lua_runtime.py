"""Lua 5.1 in this process, with the libraries that Redis gives its scripts for packing."""

from importlib import resources
from typing import Any

import lupa.lua51


def new_runtime() -> Any:
    """Return a new Lua with the globals `cmsgpack` and `struct`; its strings are bytes here."""
    lua = lupa.lua51.LuaRuntime(encoding=None, unpack_returned_tuples=True)
    for library in ("cmsgpack", "struct"):
        text = resources.files("ledger").joinpath("lua", f"{library}.lua").read_bytes()
        lua.globals()[library.encode()] = lua.execute(text)
    return lua
