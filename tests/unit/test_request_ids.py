"""Request ids that grow with time."""

import os
from uuid import RFC_4122, UUID

import pytest

from protocol.request_ids import request_id_at

NOW_MS = 1_763_856_000_123


def test_an_id_is_a_uuid_of_version_7_with_its_time_in_front() -> None:
    made = UUID(bytes=request_id_at(NOW_MS, os.urandom))
    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 80 == NOW_MS


def test_the_example_of_the_rfc() -> None:
    """RFC 9562, appendix A.6."""
    noise = bytes.fromhex("0cc3 18c4dc0c0c07398f")
    assert UUID(bytes=request_id_at(1_645_557_742_000, lambda _: noise)) == UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")


def test_ids_grow_with_time_and_those_of_one_moment_differ() -> None:
    made = [request_id_at(NOW_MS + n, os.urandom) for n in range(100)]
    assert made == sorted(made)
    assert len({request_id_at(NOW_MS, os.urandom) for _ in range(1_000)}) == 1_000


@pytest.mark.parametrize("now_ms", [-1, 0, 1 << 48])
def test_a_clock_that_is_out_of_all_bounds_still_makes_ids(now_ms: int) -> None:
    assert len(request_id_at(now_ms, os.urandom)) == 16
