"""``ctl profile`` and ``ctl memory``: what samples, what is written, and what the terminal shows."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.cli.test_ctl import ctl, directory, fail, path, succeed, supervisor
from uwsgibridge.cli import profilers
from uwsgibridge.cli.flame_graph import collapse, draw

__all__ = ["directory", "path", "supervisor"]  # fixtures

PYTHON_PROGRAM = sys.executable
PY_SPY = """#!{python}
import sys
output = sys.argv[sys.argv.index("--output") + 1]
if "{refuses}": sys.exit("Permission Denied: try sudo")
open(output, "w").write(
    "work (uwsgibridge/hosts/wsgi/host.py:261);app (a.py:1);slow (a.py:9) 7\\n"
    "work (uwsgibridge/hosts/wsgi/host.py:261) 90\\n"
    "EpollSelector.select (selectors.py:1) 90\\n"
)
"""


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch, directory):
    """No profiler but what a test installs."""
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setattr(sys, "executable", str(directory / "python"))
    monkeypatch.setattr(sys, "version_info", (3, 14))


def install(directory: Path, *, refuses: str = "") -> None:
    program = directory / "py-spy"
    program.write_text(PY_SPY.format(python=PYTHON_PROGRAM, refuses=refuses))
    program.chmod(0o755)


def test_workers_sample_themselves_where_no_profiler_is_installed(path, supervisor, directory):
    result = ctl(path, "profile", "--seconds", "1", "--output", "p.folded")
    assert result.exit_code == 0
    assert result.stderr == "Warning: worker 13: this worker is being profiled already\n"
    assert result.stdout.splitlines() == [
        " 75.0 %  slow (a.py:9)",
        " 25.0 %  app (a.py:1)",
        "",
        "Written: p.folded (worker 12, 1 s, sampled by the worker itself)",
    ]
    assert (
        directory / "p.folded"
    ).read_text() == "app (a.py:1);slow (a.py:9) 30\napp (a.py:1) 10\n"
    assert supervisor.asked == [("profile", 1.0, 0)]


def test_an_installed_profiler_samples_instead(path, supervisor, directory):
    install(directory)
    answer = json.loads(
        succeed(
            ctl(
                path,
                "profile",
                "--seconds",
                "0.1",
                "--worker",
                "12",
                "--json",
                "--output",
                "p.html",
            )
        )
    )
    assert answer["sampler"] == "py-spy"
    assert answer["stacks"] == [[["app (a.py:1)", "slow (a.py:9)"], 7]]
    assert set(supervisor.asked) == {"status"}


def test_a_profiler_that_may_not_is_replaced_by_the_worker(path, supervisor, directory):
    install(directory, refuses="yes")
    result = ctl(path, "profile", "--seconds", "1", "--worker", "12", "--output", "p.txt")
    assert "py-spy failed: Permission Denied: try sudo; the workers sample" in result.stderr
    assert result.exit_code == 0
    error = fail(ctl(path, "profile", "--seconds", "1", "--worker", "12", "--sampler", "py-spy"))
    assert error == "Error: py-spy failed: Permission Denied: try sudo"


def test_a_profiler_samples_no_process_but_workers(path, directory):
    install(directory)
    error = fail(ctl(path, "profile", "--seconds", "1", "--worker", "1"))
    assert error == "Error: no worker has the pid 1; there are 12, 13"


def test_a_profiler_that_is_not_there(path):
    error = fail(ctl(path, "profile", "--seconds", "1", "--worker", "12", "--sampler", "py-spy"))
    assert error == "Error: py-spy is not installed"


def test_a_file_that_cannot_be_written(path):
    result = ctl(path, "profile", "--seconds", "1", "--output", "none/p.html")
    assert result.exit_code == 1
    assert "Error: none/p.html can't be written: No such file or directory" in result.stderr


def test_without_a_name_the_page_is_named_by_the_time(path, directory):
    assert ctl(path, "profile", "--seconds", "1").exit_code == 0
    [page] = directory.glob("profile-*.html")
    assert re.fullmatch(r"profile-\d{8}-\d{6}\.html", page.name)
    assert "slow (a.py:9)" in page.read_text()


def test_python_3_15_samples_by_its_own_profiler(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 15))
    assert profilers.find_profiler() == profilers.PYTHON
    line = profilers.command_line(profilers.PYTHON, 12, 1.4, Path("out"))
    assert line[1:] == [
        "-m",
        "profiling.sampling",
        "attach",
        "-a",
        "-d",
        "1",
        "--collapsed",
        "-o",
        "out",
        "12",
    ]


def test_stacks_are_read_as_they_are_written():
    stacks = {("a (x.py:1)", "b (x.py:2)"): 3, ("c",): 4}
    assert collapse(stacks) == "c 4\na (x.py:1);b (x.py:2) 3\n"
    assert profilers.read_collapsed(collapse(stacks)) == stacks
    assert profilers.read_collapsed("junk\n\na;b x\n") == {}


def test_a_name_ends_no_script():
    page = draw({("</script><script>alert(1)</script>",): 1}, "<b>title</b>")
    assert "alert(1)</script>" not in page
    assert "<b>title" not in page
    assert "&lt;b&gt;title" in page


def test_deep_stacks_are_drawn():
    page = draw({tuple(f"f{number}" for number in range(10_000)): 1}, "deep")
    assert '"f199"' in page
    assert '"f200"' not in page


def test_memory_is_compared_with_the_first_call(path, supervisor):
    assert succeed(ctl(path, "memory", "--worker", "12", "--lines", "3")).splitlines() == [
        "Worker 12 holds 47.7 MiB of traced memory. More than 60.0 s ago:",
        "",
        "       MORE   BLOCKS         ALL  PLACE",
        "   19.1 MiB      400    28.6 MiB  /srv/shop/cache.py:7",
        "                                  by /srv/shop/views.py:12",
    ]
    supervisor.memory_answer = {**supervisor.memory_answer, "since_seconds": None}
    assert "Later calls are compared" in succeed(ctl(path, "memory", "--reset"))
    supervisor.memory_answer = {"since_seconds": 60.0, "traced_bytes": 1_024, "lines": []}
    assert succeed(ctl(path, "memory")) == (
        "Worker 12 holds 1.0 KiB of traced memory. No line holds more than 60.0 s ago.\n"
    )
    assert supervisor.asked[:2] == [("memory", 12, 3, False), ("memory", 0, 20, True)]


def test_memory_that_is_not_traced(path, supervisor):
    supervisor.refusal = "memory is not traced: start the service with --tracemalloc 1"
    assert fail(ctl(path, "memory")) == f"Error: {supervisor.refusal}"
