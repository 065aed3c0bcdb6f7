import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from server.workers.shared_folder import SharedFolder

CHECKOUT = Path(__file__).parents[2]
KILLED = "import os; from server.workers.shared_folder import SharedFolder as F; f = F(); os.kill(os.getpid(), 9)"


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_it_is_private_and_goes_away(tmp_path: Path) -> None:
    one, other = SharedFolder(), SharedFolder()
    assert one.path.stat().st_mode & 0o077 == 0
    assert one.path != other.path
    assert one.path.exists(), "the folder of a living one is left alone"
    one.close()
    one.close()
    other.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_one_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(CHECKOUT)}
    assert subprocess.run([sys.executable, "-c", KILLED], env=environment, check=False).returncode == -9
    (abandoned,) = tmp_path.iterdir()
    fresh, strange = tmp_path / "tillwire-run-made", tmp_path / "something-else"
    fresh.mkdir()
    strange.mkdir()
    folder = SharedFolder()
    assert not abandoned.exists()
    assert fresh.exists()
    assert strange.exists()
    folder.close()
