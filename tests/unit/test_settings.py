import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from server.settings import GROUPS, Settings
from server.settings_load import SettingsError, load, to_handover
from server.settings_table import markdown


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("TILLWIRE_"):
            monkeypatch.delenv(name)


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "tillwire.toml"
    path.write_text(text)
    return path


def test_the_page_of_settings_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert page.read_text() == markdown(), "docs/settings.md is stale: run `make fix`"


def test_every_setting_belongs_to_one_group_and_is_described() -> None:
    grouped = [name for group in GROUPS for name in group.model_fields]
    assert sorted(grouped) == sorted(Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())


def test_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config(tmp_path, "workers = 2\nlisten_port = 1000\nlog_level = 'error'\n")
    monkeypatch.setenv("TILLWIRE_WORKERS", "3")
    monkeypatch.setenv("TILLWIRE_LISTEN_PORT", "2000")
    loaded = load(path, {"workers": "4", "admin_port": None})
    assert (loaded.settings.workers, loaded.settings.listen_port) == (4, 2000)
    assert (loaded.settings.log_level, loaded.settings.admin_port) == ("error", 7480)
    assert loaded.origins["workers"] == "command line"
    assert loaded.origins["listen_port"] == "environment TILLWIRE_LISTEN_PORT"
    assert loaded.origins["log_level"] == f"file {path}"
    assert loaded.origins["admin_port"] == "default"


def test_the_file_can_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILLWIRE_CONFIG", str(config(tmp_path, "workers = 7")))
    assert load().settings.workers == 7


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILLWIRE_WORKERS", "")
    assert load().settings.workers == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("wrokers = 2", "did you mean workers"),
        ("workers = 0", r"setting workers \(file .*\) is not usable"),
        ("workers = ", "is not valid TOML"),
        ("tls_cert_file = 'a.pem'", "tls_key_file"),
        ("heartbeat_ms = 90001", "heartbeat_ms must not exceed idle_timeout_ms"),
    ],
)
def test_bad_settings_are_named_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence) as caught:
        load(config(tmp_path, text))
    assert "\n" not in str(caught.value).strip()


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path / "nowhere.toml")


def test_a_bad_value_is_never_repeated_because_it_may_be_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILLWIRE_LISTEN_PORT", "sesame")
    with pytest.raises(SettingsError) as caught:
        load()
    assert "sesame" not in str(caught.value)


def test_unknown_variables_are_reported_but_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILLWIRE_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("TILLWIRE_SECRET_TOKEN_KEY", "00")
    assert load().unknown_variables == ("TILLWIRE_SERVICE_HOST",)


def test_urls_are_not_printed_but_handed_over() -> None:
    settings = load(overrides={"postgres_url": "postgresql://u:sesame@h/d"}).settings
    assert "sesame" not in repr(settings)
    assert "sesame" not in settings.model_dump_json()
    assert Settings.model_validate(to_handover(settings)) == settings


def test_settings_read_nothing_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILLWIRE_WORKERS", "3")
    assert Settings().workers == 1


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().workers = 2  # type: ignore[misc]
