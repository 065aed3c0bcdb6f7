"""The relay's store in real processes: killed in the middle of taking, on a full disk, and twice on one folder."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.relay.store import Store
from server.relay.store_errors import StoreInUse
from server.relay.store_rows import StoreLimits
from tests.rigs import relay_store_process

ROOT = Path(__file__).parents[2]


@contextmanager
def process(mode: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", relay_store_process.__name__, mode, str(folder)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


async def test_whatever_was_answered_is_in_the_file_after_kill_9(tmp_path: Path) -> None:
    taken: set[str] = set()
    done: set[str] = set()
    for lines in (1, 300, 3_000):
        with process("take", tmp_path) as child:
            assert child.stdout is not None
            told = [child.stdout.readline() for _ in range(lines)]
            with pytest.raises(StoreInUse):
                await Store.open(tmp_path, StoreLimits())
            child.kill()
            # What was written before the kill still lies in the pipe; its last line may be torn.
            told += child.stdout.read().splitlines(keepends=True)
        for word, request_id in (line.split() for line in told if line.endswith("\n")):
            (done if word == "done" else taken).add(request_id)
        store = await Store.open(tmp_path, StoreLimits())
        assert {bytes.fromhex(each) for each in taken} <= store.queued.keys()
        assert {bytes.fromhex(each) for each in done} <= store.known - store.queued.keys()
        assert len(store.known) <= len(taken) + len(done) + 4 * relay_store_process.TAKERS
        for request_id in list(store.known)[:50]:
            found = await store.remembered(request_id)
            assert found is not None
            assert found.body == b"\x96" + request_id
        await store.close()
    assert taken
    assert done


@pytest.mark.parametrize("mode", ["small disk", "small file"])
def test_on_a_full_disk_nothing_is_approved_that_is_not_stored_and_it_recovers_by_itself(
    tmp_path: Path, mode: str
) -> None:
    with process(mode, tmp_path) as child:
        out, _ = child.communicate(timeout=100)
        assert child.returncode == 0
    found = json.loads(out.splitlines()[-1])
    if "not" in found:
        pytest.skip("mounting is not allowed here; the limit on file sizes stands for it")
    assert found.pop("approved") > 100
    assert found == {
        "refused": ["UNAVAILABLE"], "said": True, "live": True, "recovered": True, "lost": 0, "more": 0,
    }  # fmt: skip
