"""Commands are split as a shell splits them, and what only a shell understands is refused."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uwsgibridge.config.commands import Command, Touch, in_a_shell, parse_action, parse_command
from uwsgibridge.errors import SettingsError


def arguments(text: str) -> tuple[str, ...]:
    return parse_command("--sidecar", text).arguments


def refusal(text: str) -> str:
    with pytest.raises(SettingsError) as raised:
        parse_command("--sidecar", text)
    return str(raised.value)


def test_an_action_is_a_command_or_a_file() -> None:
    assert parse_action("--on-start", "exec:python manage.py migrate --no-input") == Command(
        "--on-start",
        "python manage.py migrate --no-input",
        ("python", "manage.py", "migrate", "--no-input"),
    )
    assert parse_action("--on-ready", "touch:/run/my site/ready") == Touch(
        "--on-ready", "/run/my site/ready"
    )


@pytest.mark.parametrize("text", ["", "migrate", "touch:", "Exec:true", "touch:/run/\0"])
def test_anything_else_is_no_action(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^--on-start .* is not exec:COMMAND or touch:FILE$"):
        parse_action("--on-start", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("celery -A shop worker", ("celery", "-A", "shop", "worker")),
        ("  celery\tbeat \n", ("celery", "beat")),
        (
            """sh -c 'cd /srv && exec "$0" > log' celery""",
            ("sh", "-c", 'cd /srv && exec "$0" > log', "celery"),
        ),
        ("grep -E 'a|b' x", ("grep", "-E", "a|b", "x")),
        (r"find . -exec true {} \;", ("find", ".", "-exec", "true", "{}", ";")),
        ("curl http://127.0.0.1/?a=1&b=2", ("curl", "http://127.0.0.1/?a=1&b=2")),
        (r"echo \$HOME '$HOME' a$ 5$", ("echo", "$HOME", "$HOME", "a$", "5$")),
        ("echo \"a  b\" ''", ("echo", "a  b", "")),
        ("echo '>' \"|\" a>b", ("echo", ">", "|", "a>b")),
    ],
)
def test_words_are_those_of_a_shell(text: str, expected: tuple[str, ...]) -> None:
    assert arguments(text) == expected


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        ("a && b", "&&"),
        ("a || b", "||"),
        ("a | b", "|"),
        ("a ; b", ";"),
        ("a &", "&"),
        ("a > log", ">"),
        ("a >>log", ">>log"),
        ("a 2>&1", "2>&1"),
        ("a < b", "<"),
        ("a $HOME/b", "$HOME"),
        ('a "${B}"', "${B"),
        ("a $(b)", "$(b"),
        ("a `b`", "`"),
    ],
)
def test_what_is_for_a_shell_is_refused_with_the_way_out(text: str, foreign: str) -> None:
    assert refusal(text) == (
        f"--sidecar {text!r}: no shell runs it, and {foreign!r} is for one; write sh -c '...' around it, or "
        "quote that by ' where it is an argument"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "names no command"),
        ("  ", "names no command"),
        ("''", "names no command"),
        ("a 'b", "no closing quotation"),
        ("a \\", "no escaped character"),
        ("a \0", "can't have a NUL character"),
        ("DEBUG=1 a", "write env before it"),
    ],
)
def test_what_is_no_command_is_refused(text: str, reason: str) -> None:
    assert refusal(text).startswith(f"--sidecar {text.strip()!r}")
    assert reason in refusal(text)


@given(st.text())
def test_any_text_is_a_command_or_is_refused(text: str) -> None:
    try:
        command = parse_command("--sidecar", text)
    except SettingsError:
        return
    assert command.arguments[0]
    assert command.name


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1))
def test_quoted_words_come_back(words: list[str]) -> None:
    text = shlex.join(["true", *words])
    assert parse_command("--sidecar", text).arguments == ("true", *words)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("celery -A shop worker", "celery"),
        ("/srv/venv/bin/celery beat", "celery"),
        ("env A=1 B=2 /usr/bin/rq worker", "rq"),
        ("/usr/bin/env", "env"),
        ("env A=1", "env"),
        ("./run.sh", "run.sh"),
        ("/", "/"),
    ],
)
def test_a_command_has_the_name_of_its_program(text: str, name: str) -> None:
    assert parse_command("--sidecar", text).name == name


@pytest.mark.parametrize(
    "text", ["celery -A shop worker --concurrency=2", "/srv/a_b/c.sh -l info,debug user@host 5%"]
)
def test_a_plain_command_needs_no_shell(text: str) -> None:
    assert in_a_shell(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "cd /srv && celery worker",
        "DEBUG=1 celery beat",
        "celery worker > /tmp/log 2>&1",
        "rm *.pyc",
        "echo ~",
        "echo $HOME",
        "echo 'a' \"b\"",
        "exec celery beat",
        "echo one\necho two",
        "true #",
        "echo a\\b",
        "(true)",
        "echo ü",
    ],
)
def test_what_a_shell_would_read_otherwise_is_given_to_one(text: str) -> None:
    assert parse_command("--sidecar", in_a_shell(text)).arguments == ("sh", "-c", text)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_whatever_a_shell_is_given_is_a_command_here(text: str) -> None:
    if text.strip():
        parse_command("--sidecar", in_a_shell(text))
