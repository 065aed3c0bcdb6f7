"""How the relay's store can fail, in words for whoever has to mend it."""

from __future__ import annotations

from server.errors import OperatorError


class StoreUnusable(OperatorError):  # noqa: N818 - it says what is the matter
    """The store cannot be opened; nothing was changed."""


class StoreInUse(StoreUnusable):
    """Another relay uses the folder."""


class StoreDamaged(StoreUnusable):
    """The file is no store of a relay, or a damaged one."""


class StoreTooNew(StoreUnusable):
    """The file was written by a later version."""


class StoreFailed(Exception):  # noqa: N818 - it says what happened
    """The store could not write or read (disk full, device gone). Nothing may be approved on it; it may recover."""


class StoreFull(Exception):  # noqa: N818 - it says what is the matter
    """One of the store's limits is reached: nothing was stored."""
