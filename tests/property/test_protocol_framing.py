"""Whatever the chunks, the frames are the same, and a reader never holds more than one frame."""

from hypothesis import given
from hypothesis import strategies as st

from protocol.framing import FrameError, FrameReader

LIMIT = 64
streams = st.one_of(
    st.binary(max_size=400),
    st.lists(st.binary(min_size=1, max_size=LIMIT)).map(
        lambda frames: b"".join(len(frame).to_bytes(4) + frame for frame in frames)
    ),
    st.tuples(
        st.lists(st.binary(min_size=1, max_size=LIMIT), max_size=4).map(
            lambda frames: b"".join(len(frame).to_bytes(4) + frame for frame in frames)
        ),
        st.binary(max_size=100),
    ).map(b"".join),
)


def by_slices(stream: bytes) -> tuple[list[bytes], str | None, int]:
    """The frames of a whole stream, by an independent reading of SPEC.md."""
    frames = []
    while len(stream) >= 4:
        length = int.from_bytes(stream[:4])
        if length == 0 or length > LIMIT:
            return frames, "FrameEmpty" if length == 0 else "FrameTooLarge", 0
        if len(stream) < 4 + length:
            break
        frames.append(stream[4 : 4 + length])
        stream = stream[4 + length :]
    return frames, None, len(stream)


@given(streams, st.lists(st.integers(1, 90)))
def test_any_chunking_gives_the_same_frames(stream: bytes, sizes: list[int]) -> None:
    reader = FrameReader(LIMIT)
    frames: list[bytes] = []
    error = None
    rest = stream
    steps = iter(sizes)
    try:
        while rest:
            size = next(steps, 7)
            frames.extend(reader.feed(memoryview(rest)[:size]))
            rest = rest[size:]
            assert reader.buffered_bytes <= LIMIT + 4
    except FrameError as caught:
        error = type(caught).__name__
    expected, expected_error, left = by_slices(stream)
    assert (frames, error) == (expected, expected_error)
    if error is None:
        assert reader.buffered_bytes == left


@given(st.binary(min_size=1, max_size=LIMIT), st.binary(max_size=3_000))
def test_a_large_chunk_is_not_kept(frame: bytes, rest: bytes) -> None:
    reader = FrameReader(LIMIT)
    try:
        for _ in reader.feed(len(frame).to_bytes(4) + frame + rest):
            assert reader.buffered_bytes <= LIMIT + 4
    except FrameError:
        pass
    assert reader.buffered_bytes <= LIMIT + 4
