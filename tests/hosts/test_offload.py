"""X-Sendfile becomes X-Accel-Redirect for files below the mapped directories, and for no other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from uwsgibridge.hosts.offload import Offload
from uwsgibridge.protocol.errors import InvalidResponse

TYPE = (b"Content-Type", b"application/pdf")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    directory = tmp_path / "files"
    (directory / "deeper").mkdir(parents=True)
    return directory


@pytest.fixture
def offload(files: Path) -> Offload:
    return Offload([("/protected", str(files))])


def rewritten(
    offload: Offload, headers: list[tuple[bytes, bytes]], status: int = 200
) -> list[tuple[bytes, bytes]] | None:
    file = offload.find(status, headers)
    return None if file is None else file.headers


def redirect(offload: Offload, path: Path | str) -> bytes | None:
    """Where an answer that names `path` leads."""
    headers = rewritten(offload, [(b"X-Sendfile", str(path).encode())])
    if headers is None:
        return None
    ((name, value),) = headers
    assert name == b"X-Accel-Redirect"
    return value


def test_answer_without_a_file_stays_as_it_is(offload: Offload):
    assert rewritten(offload, [TYPE, (b"Content-Length", b"3")]) is None


@pytest.mark.parametrize("name", [b"X-Sendfile", b"x-sendfile", b"X-LIGHTTPD-send-file"])
def test_file_is_redirected_to(offload: Offload, files: Path, name: bytes):
    assert rewritten(offload, [TYPE, (name, bytes(files / "deeper/report.pdf"))]) == [
        TYPE,
        (b"X-Accel-Redirect", b"/protected/deeper/report.pdf"),
    ]


def test_length_and_a_redirect_of_the_applications_own_are_left_out(offload: Offload, files: Path):
    cookie = (b"Set-Cookie", b"a=b")
    assert rewritten(
        offload,
        [
            (b"Content-Length", b"0"),
            (b"X-Accel-Redirect", b"/somewhere/else"),
            cookie,
            (b"X-Sendfile", bytes(files / "a")),
        ],
    ) == [cookie, (b"X-Accel-Redirect", b"/protected/a")]


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("with space.txt", b"with%20space.txt"),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE}.txt", b"caf%C3%A9.txt"),
        ("100%.txt", b"100%25.txt"),
        ("what?.txt", b"what%3F.txt"),
        ("one#two", b"one%23two"),
        ("a+b&c=d", b"a%2Bb%26c%3Dd"),
        ("line\nbreak", b"line%0Abreak"),
        ('quo"te', b"quo%22te"),
        ("back\\slash", b"back%5Cslash"),
        ("\N{SNOWMAN}", b"%E2%98%83"),
    ],
)
def test_name_is_quoted_for_a_url(offload: Offload, files: Path, name: str, encoded: bytes):
    assert redirect(offload, files / name) == b"/protected/" + encoded


def test_name_that_is_no_utf_8_is_kept_byte_by_byte(offload: Offload, files: Path):
    headers = rewritten(offload, [(b"X-Sendfile", bytes(files) + b"/caf\xe9")])
    assert headers == [(b"X-Accel-Redirect", b"/protected/caf%E9")]


def test_way_within_the_directory_is_allowed(offload: Offload, files: Path):
    assert redirect(offload, f"{files}/deeper/../a") == b"/protected/a"
    assert redirect(offload, f"{files}//deeper/./a") == b"/protected/deeper/a"


def test_way_through_another_directory_that_ends_below_it_is_allowed(
    offload: Offload, files: Path, tmp_path: Path
):
    (tmp_path / "link").symlink_to(files)
    assert redirect(offload, tmp_path / "link" / "a") == b"/protected/a"


def test_mapped_directory_may_itself_be_a_link(files: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to(files)
    offload = Offload([("/protected", str(tmp_path / "link"))])
    assert redirect(offload, files / "a") == b"/protected/a"
    assert redirect(offload, tmp_path / "link" / "a") == b"/protected/a"


@pytest.mark.parametrize("url", ["/protected", "/protected/", "/protected//"])
def test_slash_at_the_end_of_the_url_does_not_matter(files: Path, url: str):
    assert redirect(Offload([(url, str(files))]), files / "a") == b"/protected/a"


def test_each_directory_has_its_url(files: Path, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    offload = Offload([("/protected", str(files)), ("/other", f"{other}/")])
    assert redirect(offload, files / "a") == b"/protected/a"
    assert redirect(offload, other / "a") == b"/other/a"


def test_of_two_names_the_last_one_counts(offload: Offload, files: Path):
    headers = rewritten(
        offload, [(b"X-Sendfile", bytes(files / "a")), (b"X-Sendfile", bytes(files / "b"))]
    )
    assert headers == [(b"X-Accel-Redirect", b"/protected/b")]


# What must not get out.


def refused(offload: Offload, name: bytes) -> str:
    with pytest.raises(InvalidResponse) as caught:
        rewritten(offload, [(b"X-Sendfile", name)])
    assert "--offload" in str(caught.value)
    return str(caught.value)


def test_any_other_file_is_refused_by_name(offload: Offload):
    assert "'/etc/passwd'" in refused(offload, b"/etc/passwd")


@pytest.mark.parametrize("way", ["..", "../secret", "deeper/../../secret", "deeper/../../../x"])
def test_way_out_by_dots_is_refused(offload: Offload, files: Path, way: str):
    refused(offload, bytes(files) + b"/" + way.encode())


def test_neighbour_with_the_same_beginning_is_refused(offload: Offload, files: Path):
    refused(offload, bytes(files) + b"-secret/a")


def test_link_that_leads_out_is_refused(offload: Offload, files: Path, tmp_path: Path):
    (tmp_path / "secret").write_text("secret")
    (files / "link").symlink_to(tmp_path / "secret")
    refused(offload, bytes(files / "link"))


def test_directory_that_is_a_link_out_is_refused(offload: Offload, files: Path, tmp_path: Path):
    (files / "elsewhere").symlink_to(tmp_path)
    refused(offload, bytes(files / "elsewhere" / "secret"))


def test_link_to_itself_is_refused_or_leads_nowhere(offload: Offload, files: Path):
    (files / "loop").symlink_to(files / "loop")
    # Nginx finds no file there; the point is that it is no error of another kind.
    assert redirect(offload, files / "loop") == b"/protected/loop"


def test_relative_name_is_refused_outside(
    offload: Offload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    refused(offload, b"secret")


@pytest.mark.parametrize("name", [b"", b"\0", b"/x\0y", b"/" + b"x" * 5000])
def test_what_is_no_name_of_a_file_is_refused(offload: Offload, name: bytes):
    refused(offload, name)


# With a status that Nginx has not.


@pytest.mark.parametrize("status", [200, 206, 304])
def test_status_of_nginxs_own_is_left_to_nginx(offload: Offload, files: Path, status: int):
    file = offload.find(status, [TYPE, (b"X-Sendfile", bytes(files / "a"))])
    assert file is not None
    assert file.is_sent_by_nginx
    assert file.headers == [TYPE, (b"X-Accel-Redirect", b"/protected/a")]


@pytest.mark.parametrize("status", [201, 203, 301, 404, 410, 500, 503, 999])
def test_file_of_any_other_status_is_opened_here(offload: Offload, files: Path, status: int):
    (files / "deeper" / "deeper").mkdir()
    (files / "deeper" / "deeper" / "deeper").write_bytes(b"the page")
    name = bytes(files / "deeper" / "deeper" / "deeper")
    file = offload.find(status, [TYPE, (b"Content-Length", b"3"), (b"X-Sendfile", name)])
    assert file is not None
    assert not file.is_sent_by_nginx
    assert file.headers == [TYPE]
    with file.open() as opened:
        assert opened.read() == b"the page"
        assert not os.get_inheritable(opened.fileno())


@pytest.mark.parametrize("name", ["nowhere", "deeper", "deeper/nowhere", "", "fifo", "a/b"])
def test_what_is_no_file_is_refused_by_name(offload: Offload, files: Path, name: str):
    os.mkfifo(files / "fifo")
    (files / "a").write_bytes(b"")
    file = offload.find(404, [(b"X-Sendfile", bytes(files / name))])
    assert file is not None
    before = {*Path("/proc/self/fd").iterdir()}
    with pytest.raises(InvalidResponse, match="X-Sendfile names"):
        file.open()
    assert {*Path("/proc/self/fd").iterdir()} == before


@pytest.mark.parametrize("place", ["deeper", "deeper/page"])
def test_link_that_has_come_since_leads_nowhere(
    offload: Offload, files: Path, tmp_path: Path, place: str
):
    """Whoever may write there can't have another file sent by being quick."""
    (files / "deeper/page").write_bytes(b"the page")
    file = offload.find(404, [(b"X-Sendfile", bytes(files / "deeper/page"))])
    assert file is not None
    (files / place).rename(tmp_path / "away")
    (files / place).symlink_to(tmp_path / "away")
    with pytest.raises(InvalidResponse, match="can't be read"):
        file.open()
