"""The decision outside Redis: the very Lua source that Redis runs, in an embedded Lua 5.1.

It serves the tests, simulations, and an account that must be decided on while Redis is away.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgpack

from ledger.lua_runtime import new_runtime

_FOLDER = Path(__file__).parent / "lua"

# Each file sees those before it, under their names.
_PURE = (
    "arrays",
    "records",
    "outcomes",
    "operations",
    "terms",
    "request",
    "context",
    "arithmetic",
    "state",
    "lots",
    "counters",
    "balance",
    "entry",
    "holds",
    "settle",
    "result",
    "gate",
    "exchange",
    "earning",
    "spending",
    "holding",
    "undoing",
    "cards",
    "merging",
    "decide",
)

# What Redis makes of a file it makes anew in every call, a fifth of what a call with one request costs. So these, which
# few calls need, are functions: the first use in a call makes the module.
_MADE_WHEN_USED = frozenset({"exchange", "holding", "undoing", "cards", "merging"})

# The state travels back only when the decision changed it.
_RUN = """
return function(packed, asked_packed, network)
  local account = state.unpack(packed, 1)
  local _, asked = request.read(asked_packed, 0)
  local decided = decide.run(account, asked, network)
  return decided, #decided[7] > 0 and state.pack(account)
end
"""


@cache
def source(with_shell: bool) -> str:
    """Return the Lua source of the decision, all files in one chunk; with the Redis side at its end if `with_shell`."""
    names = (*_PURE, "shell") if with_shell else _PURE
    modules = "\n".join(_module(name) for name in names)
    return modules + ("\nreturn shell\n" if with_shell else "\n")


def _module(name: str) -> str:
    made = f"(function()\n{_read(name)}end)()"
    if name in _MADE_WHEN_USED:
        return (
            f"local {name}_made\nlocal function {name}()\n{name}_made = {name}_made or {made}\nreturn {name}_made\nend"
        )
    return f"local {name} = {made}"


def _read(name: str) -> str:
    return (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")


class Decider:
    """Runs decisions in one embedded Lua. Not thread-safe: one thread at a time may use an instance.

    States are packed (see ledger/states.py); requests, terms and results are plain lists in the positional forms of the
    Lua files' headers: integers, booleans, bytes and lists of these. A list that is passed in is never changed.
    """

    def __init__(self) -> None:
        self._lua = new_runtime()
        self._table = type(self._lua.table())
        self._run = self._lua.execute((source(with_shell=False) + _RUN).encode())

    def decide(self, state: bytes, request: Sequence[Any], terms: Sequence[Any]) -> tuple[list[Any], bytes]:
        """Decide one request on one account.

        Returns the positional result and the state after it, which is `state` itself when nothing was changed. Raises
        `lupa.LuaError` for a state that is none, or a request that is none (an unknown operation).
        """
        asked = b"".join(msgpack.packb(value, use_bin_type=False) for value in request)
        result, changed = self._run(state, asked, self._lua.table_from(terms))
        return self._list(result), changed or state

    def _list(self, table: Any) -> list[Any]:
        kind = self._table
        return [self._list(value) if type(value) is kind else value for value in table.values()]
