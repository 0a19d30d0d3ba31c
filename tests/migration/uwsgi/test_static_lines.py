"""Lines of static files become --static, or are refused where other files would be served than under uWSGI."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migration.uwsgi.planning import plan_of, verdicts
from uwsgibridge.migration.plan import Verdict

# It was seen with uWSGI 2.0.31 that each of these lines decides which files are served.
DECIDING = ("static-skip-ext = .py", "static-index = index.html")


@pytest.mark.parametrize("line", DECIDING)
@pytest.mark.parametrize("files", ["check-static = .", "static-map = /static=static"])
def test_what_decides_which_files_are_served_is_refused(
    files: str, line: str, tmp_path: Path
) -> None:
    plan = plan_of(tmp_path, files, line)
    assert verdicts(plan, line.split(maxsplit=1)[0]) == [Verdict.REFUSED]


@pytest.mark.parametrize("line", DECIDING)
def test_it_changes_nothing_where_no_files_are_served(line: str, tmp_path: Path) -> None:
    assert verdicts(plan_of(tmp_path, line), line.split(maxsplit=1)[0]) == [Verdict.PASSED_OVER]


def test_files_are_served_below_the_prefix_of_a_mount_as_well(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        "mount = /shop=app.py",
        "mount = /=app.py",
        "mount = /shop=app.py",
        "manage-script-name = true",
        "static-map = /static=files",
        "check-static = more",
    )
    assert list(plan.values["static"]) == [
        f"/static={tmp_path}/files",
        f"/shop/static={tmp_path}/files",
        f"/={tmp_path}/more",
        f"/shop={tmp_path}/more",
    ]


def test_without_manage_script_name_no_prefix_is_cut_off(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "mount = /shop=app.py", "static-map = /static=files")
    assert list(plan.values["static"]) == [f"/static={tmp_path}/files"]
