import os
from pathlib import Path

import pytest

from server.secrets import NAMES, Secrets, SecretsError, create_secrets, load_secrets
from server.settings import Settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("TILLWIRE_"):
            monkeypatch.delenv(name)


def keys(**changed: str) -> dict[str, str]:
    return {name: f"{number:02x}" * 32 for number, name in enumerate(NAMES)} | changed


def write(path: Path, values: dict[str, str], mode: int = 0o600) -> Path:
    path.write_text("".join(f'{name} = "{value}"\n' for name, value in values.items()))
    path.chmod(mode)
    return path


def test_keys_are_made_once_and_stay(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    made = load_secrets(settings, create=True)
    assert load_secrets(settings, create=True) == made == load_secrets(settings)
    assert len({getattr(made, name) for name in NAMES}) == 4
    assert all(len(getattr(made, name)) == 32 for name in NAMES)
    assert (tmp_path / "data" / "secrets.toml").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["secrets.toml"]


def test_a_production_server_never_makes_keys(tmp_path: Path) -> None:
    with pytest.raises(SecretsError, match="tillwire secrets create"):
        load_secrets(Settings(data_dir=tmp_path))
    with pytest.raises(SecretsError, match="does not exist"):
        load_secrets(Settings(data_dir=tmp_path, secrets_file=tmp_path / "keys"), create=True)
    assert list(tmp_path.iterdir()) == []


def test_keys_are_not_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "keys.toml", keys())
    with pytest.raises(SecretsError, match="not replaced"):
        create_secrets(path)
    assert [one.name for one in tmp_path.iterdir()] == ["keys.toml"]
    assert load_secrets(Settings(secrets_file=path)).seal_key == b"\x01" * 32


@pytest.mark.parametrize(
    ("mode", "allowed"), [(0o600, True), (0o400, True), (0o640, True), (0o644, False), (0o660, False)]
)
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int, allowed: bool) -> None:
    settings = Settings(secrets_file=write(tmp_path / "keys.toml", keys(), mode))
    if allowed:
        assert load_secrets(settings).token_key == bytes(32)
    else:
        with pytest.raises(SecretsError, match="chmod 600"):
            load_secrets(settings)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"token_key": "00" * 32}, "lacks the secret key seal_key"),
        (keys(seal_key="01" * 31), "seal_key of .* is not 64 hexadecimal digits"),
        (keys(seal_key="zz" * 32), "seal_key of .* is not 64 hexadecimal digits"),
        (keys(seal_key="00" * 32), "are the same"),
    ],
)
def test_bad_keys_are_named_but_not_shown(tmp_path: Path, values: dict[str, str], sentence: str) -> None:
    with pytest.raises(SecretsError, match=sentence) as caught:
        load_secrets(Settings(secrets_file=write(tmp_path / "keys.toml", values)))
    assert not any(value in str(caught.value) for value in values.values())


def test_a_broken_file_is_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text('token_key = "sesame')
    path.chmod(0o600)
    with pytest.raises(SecretsError) as caught:
        load_secrets(Settings(secrets_file=path))
    assert "sesame" not in str(caught.value)


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in keys().items():
        monkeypatch.setenv(f"TILLWIRE_SECRET_{name.upper()}", value)
    assert load_secrets(Settings(secrets_file=tmp_path / "nowhere")).personal_key == b"\x03" * 32
    monkeypatch.delenv("TILLWIRE_SECRET_SEAL_KEY")
    with pytest.raises(SecretsError, match="environment lacks the secret key seal_key"):
        load_secrets(Settings())


def test_keys_are_never_printed() -> None:
    made = Secrets.from_handover(keys())
    assert repr(made) == "Secrets()"
    assert Secrets.from_handover(made.to_handover()) == made


def test_fingerprints_tell_keys_apart() -> None:
    one, other = Secrets.from_handover(keys()), Secrets.from_handover(keys(seal_key="ff" * 32))
    assert one.fingerprint() != other.fingerprint()
    assert len(one.fingerprint()) == 16
