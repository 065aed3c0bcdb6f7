"""The decision outside Redis: the very Lua source that Redis runs, in an embedded Lua 5.1.

It serves the tests, simulations, and an account that must be decided on while Redis is away.
"""

from functools import cache
from pathlib import Path
from typing import Any

import lupa.lua51

_FOLDER = Path(__file__).parent / "lua"

# Each file sees those before it, under their names.
_PURE = (
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
    "decide",
)

# The state travels back only when the decision changed it.
_RUN = """
return function(account, asked, network)
  local unpacked = state.unpack(account)
  local decided = decide.run(unpacked, request.unpack(asked), network)
  return decided, #decided[7] > 0 and state.pack(unpacked)
end
"""

_EMPTY = "return state.empty"


@cache
def source(with_shell: bool) -> str:
    """Return the Lua source of the decision, all files in one chunk; with the Redis side at its end if `with_shell`."""
    names = (*_PURE, "shell") if with_shell else _PURE
    modules = "\n".join(f"local {name} = (function()\n{_read(name)}end)()" for name in names)
    return modules + ("\nreturn shell\n" if with_shell else "\n")


def _read(name: str) -> str:
    return (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")


class Decider:
    """Runs decisions in one embedded Lua. Not thread-safe: one thread at a time may use an instance.

    States, requests, terms and results are plain lists in the positional forms of the Lua files' headers: integers,
    booleans, bytes and lists of these. A list that is passed in is never changed.
    """

    def __init__(self) -> None:
        self._lua = lupa.lua51.LuaRuntime(encoding=None, unpack_returned_tuples=True)
        self._table = type(self._lua.table())
        pure = source(with_shell=False)
        self._run = self._lua.execute((pure + _RUN).encode())
        self._empty = self._lua.execute((pure + _EMPTY).encode())

    def empty_state(self, account: int) -> list[Any]:
        """Return the positional state of a new account that has no card yet."""
        return self._list(self._empty(account))

    def decide(self, state: list[Any], request: list[Any], terms: list[Any]) -> tuple[list[Any], list[Any]]:
        """Decide one request on one account.

        Returns the positional result and the state after it, which is `state` itself when nothing was changed.
        Raises `lupa.LuaError` for a request that is no request (an unknown operation): a bug of the caller.
        """
        table_from = self._lua.table_from
        result, changed = self._run(
            table_from(state, recursive=True), table_from(request, recursive=True), table_from(terms)
        )
        return self._list(result), self._list(changed) if changed else state

    def _list(self, table: Any) -> list[Any]:
        kind = self._table
        return [self._list(value) if type(value) is kind else value for value in table.values()]
