"""Paths of options that are looked at after an application was imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from uwsgibridge.config import rooting
from uwsgibridge.config.rooting import rooted
from uwsgibridge.config.settings import OPTIONS, Settings

# Who looks at these does so before any application is imported, or imports none.
LOOKED_AT_BEFORE = {
    "bind_tls_certificate", "bind_tls_key", "bind_tls_client_ca", "chdir", "env_file", "virtualenv", "log_config",
    "prometheus_multiproc_dir", "pid_file", "reload_dir", "touch_reload",
}  # fmt: skip


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("files", "code", "lib"):
        (tmp_path / name).mkdir()
    settings = rooted(
        Settings(
            app_dir="code",
            python_path=("lib", "missing", "/usr/lib"),
            log_file="log",
            static=("/static=files=of=old", "/robots.txt=/srv/robots.txt"),
            offload=("/protected=files",),
        )
    )
    assert settings.app_dir == f"{tmp_path}/code"
    assert settings.python_path == (f"{tmp_path}/lib", "missing", "/usr/lib")
    assert settings.log_file == f"{tmp_path}/log"
    assert settings.static == (
        f"/static={tmp_path}/files=of=old",
        "/robots.txt=/srv/robots.txt",
    )
    assert settings.offload == (f"/protected={tmp_path}/files",)
    assert settings.access_log_file == settings.metrics_file == ""


def test_without_a_working_directory_paths_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    settings = rooted(Settings(app_dir="code", python_path=("/usr/lib",)))
    assert (settings.app_dir, settings.python_path) == ("code", ("/usr/lib",))


def test_no_path_is_forgotten() -> None:
    paths = {name for name, it in OPTIONS.items() if it.metavar in {"DIR", "FILE", "URL=DIR"}}
    made_absolute = {"app_dir", "python_path", *rooting._FILES, *rooting._PATHS_OF_URLS}
    assert paths == made_absolute | LOOKED_AT_BEFORE
