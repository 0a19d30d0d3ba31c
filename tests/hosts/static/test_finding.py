"""Which file a path names, and that nothing leads out of a directory."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.other_users import as_nobody, need_root
from uwsgibridge.hosts.static.finding import StaticFiles


@pytest.fixture
def place(directory: Path) -> Path:
    """A directory ``in`` to serve from, beside which lies a secret."""
    inside = directory / "in"
    (inside / "deep" / "er").mkdir(parents=True)
    (inside / "a.txt").write_text("a")
    (inside / "deep" / "er" / "b.txt").write_text("b")
    (directory / "secret").write_text("secret")
    (directory / "in-beside").mkdir()
    (directory / "in-beside" / "c.txt").write_text("c")
    return directory


def content(files: StaticFiles, path: str) -> str | None:
    """Give what is served at a path; None for nothing."""
    found = files.find(path)
    if found is None:
        return None
    with os.fdopen(found.descriptor, "rb") as file:
        text = file.read().decode()
    assert len(text) == found.size_bytes
    return text


def open_descriptors() -> int:
    """Count them, where the system tells."""
    listed = Path("/proc/self/fd")
    return len(list(listed.iterdir())) if listed.exists() else 0


@pytest.fixture
def served(place: Path) -> Callable[[str], str | None]:
    files = StaticFiles([("/s", str(place / "in"))])

    def served(path: str) -> str | None:
        before = open_descriptors()
        text = content(files, path)
        assert open_descriptors() == before, "a descriptor was left open"
        return text

    return served


def test_file_below_the_url_is_found(served: Callable[[str], str | None]) -> None:
    assert served("/s/a.txt") == "a"
    assert served("/s/deep/er/b.txt") == "b"


@pytest.mark.parametrize(
    "path",
    [
        "/s",
        "/s/",
        "/s/deep",
        "/s/deep/",
        "/s/none.txt",
        "/s/a.txt/",
        "/s/a.txt/b",
        "/sa.txt",
        "/s-beside/c.txt",
        "/a.txt",
        "/s//a.txt",
        "//s/a.txt",
        "/s/./a.txt",
        "/s/deep/../a.txt",
        "/s/../secret",
        "/s/deep/../../secret",
        "/s/..",
        "/s/../in-beside/c.txt",
        "/s/a.txt\0",
        "/s/a.txt\0.png",
        "/s/" + "x" * 300,
        "/s/" + "/x" * 5000,
        "/s/%2e%2e/secret",
        "/s/..%2fsecret",
        "/s/..\\secret",
        "",
        "s/a.txt",
    ],
)
def test_all_else_is_none(served: Callable[[str], str | None], path: str) -> None:
    assert served(path) is None


def test_path_of_many_parts_is_not_looked_at_part_by_part(
    served: Callable[[str], str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in its midst has the rest of it resolved, in which links may lead anywhere."""
    assert served("/s/a.txt" + "/x" * 1000) is None

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the path is too long for a file")

    monkeypatch.setattr(os.path, "realpath", fail)
    assert served("/s/a.txt" + "/x" * 30_000) is None


def test_absolute_name_is_no_way_out(served: Callable[[str], str | None], place: Path) -> None:
    assert served(f"/s/{place}/secret") is None
    assert served(f"/s{place}/secret") is None


def test_link_within_the_directory_is_followed(
    served: Callable[[str], str | None], place: Path
) -> None:
    (place / "in" / "link.txt").symlink_to("a.txt")
    (place / "in" / "absolute.txt").symlink_to(place / "in" / "a.txt")
    (place / "in" / "to").symlink_to("deep")
    assert served("/s/link.txt") == "a"
    assert served("/s/absolute.txt") == "a"
    assert served("/s/to/er/b.txt") == "b"


@pytest.mark.parametrize(
    ("name", "target", "path"),
    [
        ("out.txt", "../secret", "/s/out.txt"),
        ("out", "..", "/s/out/secret"),
        ("beside", "../in-beside", "/s/beside/c.txt"),
        ("round", "round", "/s/round"),
        ("lost", "nowhere", "/s/lost"),
    ],
)
def test_link_that_leads_out_is_none(
    served: Callable[[str], str | None], place: Path, name: str, target: str, path: str
) -> None:
    (place / "in" / name).symlink_to(target)
    assert served(path) is None


def test_chain_of_links_that_leads_out_is_none(
    served: Callable[[str], str | None], place: Path
) -> None:
    (place / "in" / "one").symlink_to("two")
    (place / "in" / "two").symlink_to(place / "secret")
    assert served("/s/one") is None


def test_directory_itself_may_be_a_link_and_lead_elsewhere_later(place: Path) -> None:
    """As a deployment changes ``current``."""
    (place / "current").symlink_to("in")
    files = StaticFiles([("/s", str(place / "current"))])
    assert content(files, "/s/a.txt") == "a"
    (place / "in" / "link.txt").symlink_to("a.txt")
    assert content(files, "/s/link.txt") == "a"
    (place / "current").unlink()
    (place / "current").symlink_to("in-beside")
    assert content(files, "/s/a.txt") is None
    assert content(files, "/s/c.txt") == "c"


def test_link_that_is_put_there_in_the_last_moment_is_not_followed(place: Path) -> None:
    """A file and a link to the secret change places all the time; the secret is never served."""
    inside = place / "in"
    (inside / "file").write_text("file")
    (inside / "link").symlink_to("../secret")
    (inside / "name").symlink_to("file")
    files = StaticFiles([("/s", str(inside))])
    is_over = threading.Event()

    def change() -> None:
        while not is_over.is_set():
            for target in ("file", "link"):
                (inside / "new").symlink_to(target)
                (inside / "new").rename(inside / "name")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        seen = {content(files, "/s/name") for _ in range(2000)}
    finally:
        is_over.set()
        thread.join()
    assert "file" in seen
    assert seen <= {"file", None}


def test_only_regular_files_are_served(served: Callable[[str], str | None], place: Path) -> None:
    """Opening a FIFO that nobody writes to would wait for ever."""
    os.mkfifo(place / "in" / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place / "in" / "socket"))
        assert served("/s/fifo") is None
        assert served("/s/socket") is None


def test_file_in_place_of_a_directory(place: Path) -> None:
    files = StaticFiles([("/favicon.ico", str(place / "in" / "a.txt")), ("/s", str(place / "in"))])
    assert content(files, "/favicon.ico") == "a"
    assert content(files, "/favicon.ico/") is None
    assert content(files, "/favicon.ico/a.txt") is None
    assert content(files, "/favicon.icon") is None
    assert content(files, "/s/a.txt") == "a"


def test_the_operators_own_link_to_a_file_is_followed(place: Path) -> None:
    (place / "link").symlink_to("secret")
    assert content(StaticFiles([("/f", str(place / "link"))]), "/f") == "secret"


def test_longest_url_wins(place: Path) -> None:
    files = StaticFiles([("/s", str(place / "in")), ("/s/deep", str(place / "in-beside"))])
    assert content(files, "/s/a.txt") == "a"
    assert content(files, "/s/deep/c.txt") == "c"
    assert content(files, "/s/deep/er/b.txt") is None, "nothing of the shorter URL's"


def test_url_that_is_given_twice_is_a_path_to_search(place: Path) -> None:
    files = StaticFiles([("/s", str(place / "in")), ("/s", str(place / "in-beside"))])
    (place / "in-beside" / "a.txt").write_text("other")
    assert content(files, "/s/a.txt") == "a"
    assert content(files, "/s/c.txt") == "c"
    assert content(files, "/s/d.txt") is None


def test_root(place: Path) -> None:
    files = StaticFiles([("", str(place / "in"))])
    assert content(files, "/a.txt") == "a"
    assert content(files, "/") is None
    assert files.covers("/anything")


def test_names_beyond_ascii_are_bytes(place: Path) -> None:
    name = "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    (place / "in" / name).write_text("coffee")
    (place / name).mkdir()
    (place / name / "x").write_text("x")
    on_the_wire = name.encode().decode("latin-1")
    files = StaticFiles([("/s", str(place / "in")), (f"/{name}", str(place / name))])
    assert content(files, f"/s/{on_the_wire}") == "coffee"
    assert content(files, f"/{on_the_wire}/x") == "x"


def test_what_is_not_there_yet_is_found_later(place: Path) -> None:
    files = StaticFiles([("/s", str(place / "later"))])
    assert content(files, "/s/a.txt") is None
    (place / "in").rename(place / "later")
    assert content(files, "/s/a.txt") == "a"


def test_two_states_of_a_file_have_two_tags(place: Path) -> None:
    files = StaticFiles([("/s", str(place / "in"))])
    tags = set()
    for number in range(4):
        (place / "in" / "a.txt").write_text("x" if number % 2 else "yy")
        os.utime(place / "in" / "a.txt", ns=(0, 1_000_000_000 + number // 2))
        found = files.find("/s/a.txt")
        assert found is not None
        os.close(found.descriptor)
        assert found.validators.modified_at == 1
        tags.add(found.validators.etag)
    assert len(tags) == 4, "though all are of the same second"


@need_root
def test_file_that_may_not_be_read_is_told(place: Path) -> None:
    (place / "in" / "a.txt").chmod(0)
    files = StaticFiles([("/s", str(place / "in"))])
    with as_nobody(), pytest.raises(PermissionError):
        files.find("/s/a.txt")
