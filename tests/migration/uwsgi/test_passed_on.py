"""What an application sees of a configuration in ``uwsgi.opt``, and what a person is shown of that."""

from __future__ import annotations

import json

import pytest

from uwsgibridge.migration import report
from uwsgibridge.migration.plan import Place, Plan, Setting, Verdict
from uwsgibridge.migration.uwsgi.command_line import COMMAND_LINE
from uwsgibridge.migration.uwsgi.passed_on import options_of, pass_on
from uwsgibridge.migration.uwsgi.table import make_plan
from uwsgibridge.uwsgi_module.place import OPTIONS_VARIABLE, read_options

FILE = Place("app.ini", 2)


def setting(name: str, value: str | None = None, place: Place = FILE) -> Setting:
    return Setting(name, value, place)


def passed(plan: Plan) -> tuple[dict[str, bytes | bool], bool]:
    text = plan.environment[OPTIONS_VARIABLE]
    assert text is not None
    return read_options(text)


def test_the_last_value_counts_and_a_flag_is_true_on_the_command_line() -> None:
    found = options_of(
        [
            setting("env", "A=1"),
            setting("env", "B=ä"),
            setting("flag"),
            setting("empty", ""),
            setting("master", None, COMMAND_LINE),
        ]
    )
    assert found == {"env": "B=ä".encode(), "flag": b"", "empty": b"", "master": True}


SETTINGS = [setting("module", "app"), setting("socket", ":3031"), setting("my-name", "it's")]


def test_what_is_run_gets_all_and_what_is_shown_the_applications_own() -> None:
    plan = Plan()
    pass_on(plan, SETTINGS, is_started=True)
    assert plan.values["uwsgi_module"] is True
    assert passed(plan) == ({"module": b"app", "socket": b":3031", "my-name": b"it's"}, True)

    plan = make_plan(SETTINGS, start="/srv", is_root=False)
    pass_on(plan, SETTINGS, is_started=False)
    assert passed(plan) == ({"my-name": b"it's"}, False)
    shown = report.explain(plan)
    assert "--uwsgi-module" in shown
    assert "uwsgi_module = true" in shown

    plan = Plan()
    pass_on(plan, SETTINGS[:2], is_started=False)
    assert OPTIONS_VARIABLE not in plan.environment


def test_what_is_too_long_is_left_out_with_a_warning() -> None:
    plan = Plan()
    settings = [*SETTINGS, setting("long", "x" * 100_000), setting("longer", "ä" * 100_000)]
    pass_on(plan, settings, is_started=True)
    assert set(passed(plan)[0]) == {"module", "socket", "my-name"}
    warned = plan.of(Verdict.WARNED)
    assert {it.group for it in warned} == {"long", "longer"}
    text = plan.environment[OPTIONS_VARIABLE]
    assert text is not None
    assert json.loads(text).keys() == {"all"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%(uri) %(status)", "%(uri) %(status)"),
        ("%(user_id) %(uri)", "%(logvar.user_id) %(uri)"),
        ("[%(var.HTTP_X)] %(rssM)MB", "[%(var.HTTP_X)] %(rssM)MB"),
    ],
)
def test_variables_of_the_application_in_a_log_format(text: str, expected: str) -> None:
    plan = make_plan([setting("log-format", text)], start="/srv", is_root=False)
    assert plan.values["access_log_format"] == expected


def test_locks_need_nothing() -> None:
    plan = make_plan([setting("locks", "3")], start="/srv", is_root=False)
    assert not plan.of(Verdict.REFUSED)
