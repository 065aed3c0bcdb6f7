import resource

import pytest

from server.workers.open_files import allow_connections

NO_LIMIT = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("before", "fitting", "after"),
    [
        ((1_024, 20_000), 12_000, (12_512, 20_000)),
        ((1_024, 4_096), 3_584, (4_096, 4_096)),
        ((1_024, NO_LIMIT), 12_000, (12_512, NO_LIMIT)),
        ((65_536, 65_536), 12_000, None),
        ((NO_LIMIT, NO_LIMIT), 12_000, None),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_needed(
    before: tuple[int, int], fitting: int, after: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _which: before)
    monkeypatch.setattr(resource, "setrlimit", lambda _which, limits: set_to.append(limits))
    assert allow_connections(12_000) == fitting
    assert set_to == ([after] if after else [])
