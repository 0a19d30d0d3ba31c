"""The man pages and the files for shells, from the commands themselves.

``python -m uwsgibridge.cli.manual docs`` writes `docs/man` and `docs/completion` anew; a test holds the pages equal. The
wheel has both below share/.

click-man (0.5) would start from the same objects. It knows neither the sections of the table of options nor paragraphs that are kept as
they are, and makes a page for each command of `ctl`, with the group's options in each.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

from uwsgibridge.cli import PROGRAM, main
from uwsgibridge.cli.completion import VARIABLE
from uwsgibridge.config.settings import OPTIONS

# As each shell looks for the file by its name.
COMPLETIONS: Final = {
    "bash": PROGRAM,
    "zsh": f"_{PROGRAM}",
    "fish": f"{PROGRAM}.fish",
}

# Click marks a paragraph that is kept as it is.
_KEPT: Final = "\b\n"
_OPTION: Final = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")

_MAY_BREAK: Final = "|\\:"

# Of man-pages(7), in the order that it asks for.
_ENVIRONMENT: Final = [
    ".TP",
    r".B UWSGIBRIDGE_\fINAME\fP",
    r"The value of the option \fB\-\-\fP\fIname\fP, in capitals and with underscores.",
    "The command line goes before it.",
    ".TP",
    ".B UWSGIBRIDGE_CONFIG",
    r"The file of options, as \fB\-\-config\fP names it.",
]
_FILES: Final = [
    ".TP",
    ".I uwsgibridge.toml",
    r"Options, where \fB\-\-config\fP names no other file.",
    "It is looked for in the directory of the start.",
]


def render_pages() -> dict[str, str]:
    """Write a page for the program and for each command.

    Returns:
        The text of each page, by the name of its file.
    """
    ctx = click.Context(main, info_name=PROGRAM)
    commands = dict(_commands(main, ctx))
    pages = {f"{PROGRAM}.1": _page(PROGRAM, main, ctx, [f"{PROGRAM}-{it}" for it in commands])}
    for name, command in commands.items():
        below = click.Context(command, parent=ctx, info_name=name)
        pages[f"{PROGRAM}-{name}.1"] = _page(f"{PROGRAM}-{name}", command, below, [PROGRAM])
    return pages


def render_completions() -> dict[str, str]:
    """Write what each shell needs, as `uwsgibridge completion` prints it.

    Returns:
        The text of each file, by its name.
    """
    files = {}
    for shell, name in COMPLETIONS.items():
        made = get_completion_class(shell)
        assert made is not None, f"click has no completion for {shell}"
        files[name] = made(main, {}, PROGRAM, VARIABLE).source() + "\n"
    return files


def _commands(group: click.Group, ctx: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        yield name, command


def _page(title: str, command: click.Command, ctx: click.Context, others: list[str]) -> str:
    description, sections = _read_help(command)
    lines = [
        r".\" From the commands themselves: python -m uwsgibridge.cli.manual docs",
        f'.TH {_text(title.upper())} 1 "" {PROGRAM} "User Commands"',
        # No word is broken or stretched: names of options and files are to be read and copied.
        ".nh",
        ".ad l",
        ".SH NAME",
        f"{_text(title)} \\-",
        *_prose(_summary(command)),
        ".SH SYNOPSIS",
        *_synopsis(command, ctx),
        ".SH DESCRIPTION",
        *description,
    ]
    options = _options(command, set())
    if options:
        lines += [".SH OPTIONS", *options]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        known = {name for it in command.params for name in it.opts}
        for name, below in _commands(command, ctx):
            lines += _subcommand(name, below, ctx, known, is_page=command is main)
    for heading, kept in sections.items():
        lines += [f".SH {heading}", *kept]
    if any(it.name in OPTIONS for it in command.params):
        lines += [".SH ENVIRONMENT", *_ENVIRONMENT, ".SH FILES", *_FILES]
    references = [f".BR {_text(it)} (1)," for it in others]
    lines += [".SH SEE ALSO", *references]
    lines[-1] = lines[-1].removesuffix(",")
    return "\n".join(lines) + "\n"


def _subcommand(
    name: str, command: click.Command, ctx: click.Context, known: set[str], *, is_page: bool
) -> list[str]:
    """Write a command of a group: in a line where it has a page of its own, else with its options."""
    if is_page:
        return [
            ".TP",
            f".BR {_text(PROGRAM + '-' + name)} (1)",
            *_prose(_summary(command) + "."),
        ]
    description, sections = _read_help(command)
    below = click.Context(command, parent=ctx, info_name=name)
    lines = [f".SS {_text(name)}", *_synopsis(command, below), ".PP", *description]
    for kept in sections.values():
        lines += [".PP", *kept]
    return lines + _options(command, known)


def _summary(command: click.Command) -> str:
    said = command.short_help or inspect.cleandoc(command.help or "").partition("\n")[0]
    return said.strip().removesuffix(".")


def _synopsis(command: click.Command, ctx: click.Context) -> list[str]:
    pieces = command.collect_usage_pieces(ctx)
    return [f".B {_text(ctx.command_path)}", " ".join(f"\\fI{_text(it)}\\fP" for it in pieces)]


def _read_help(command: click.Command) -> tuple[list[str], dict[str, list[str]]]:
    """Read a help: what describes the command, and the examples and statuses, which get sections of their own."""
    description: list[str] = []
    sections: dict[str, list[str]] = {}
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if not paragraph.startswith(_KEPT):
            description += [".PP", *_prose(paragraph)]
            continue
        first, *rest = paragraph.removeprefix(_KEPT).split("\n")
        if first in {"Examples:", "Exit status:"}:
            sections[first.removesuffix(":").upper()] = _kept(rest)
        elif first.endswith(":"):
            description += [".PP", *_prose(first), *_kept(rest)]
        else:
            description += [".PP", *_kept([first, *rest])]
    return description[1:], sections  # a heading has no paragraph mark behind it


def _kept(lines: list[str]) -> list[str]:
    indent = min(len(it) - len(it.lstrip()) for it in lines)
    return [".RS 4", ".nf", *(_text(it[indent:]) for it in lines), ".fi", ".RE"]


def _options(command: click.Command, known: set[str]) -> list[str]:
    """Write the options, those of the table under its sections; without those that the group has told of."""
    sections: dict[str, list[str]] = {}
    for parameter in command.params:
        if not isinstance(parameter, click.Option) or known.intersection(parameter.opts):
            continue
        row = OPTIONS.get(parameter.name or "")
        section: str = row.section if row is not None and row.help in (parameter.help or "") else ""
        sections.setdefault(section, []).extend(_option(parameter))
    own = sections.pop("", [])
    lines = []
    for section, options in sections.items():
        lines += [f".SS {_text(section)}", *options]
    return [*lines, *([".SS Other options"] if lines and own else []), *own]


def _option(option: click.Option) -> list[str]:
    names = ", ".join(f"\\fB{_text(it)}\\fP" for it in option.opts)
    if option.secondary_opts:
        names += f", \\fB{_text(option.secondary_opts[0])}\\fP"
    if not option.is_flag and not option.count:
        # A line may end behind each choice.
        names += f" \\fI{_text(_takes(option)).replace('|', _MAY_BREAK)}\\fP"
    said = (option.help or "").strip()
    default = _default(option)
    return [".TP", names, *_prose(f"{said} Default: {default}." if default else said)]


def _takes(option: click.Option) -> str:
    # Not Click's own words, which differ from version to version.
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "|".join(str(it) for it in option.type.choices)
    return option.type.name.upper().removesuffix(" RANGE")


def _default(option: click.Option) -> str:
    if isinstance(option.show_default, str):
        return option.show_default
    default = option.default
    if not option.show_default or not isinstance(default, str | int | float | list | tuple):
        return ""
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, float):
        return f"{default:g}"
    return " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)


def _prose(text: str) -> list[str]:
    """Write a text in lines of 79 characters at the most, with the names of options in bold."""
    place = 0
    pieces = []
    for found in _OPTION.finditer(text):
        pieces += [_escape(text[place : found.start()]), f"\\fB{_escape(found[0])}\\fP"]
        place = found.end()
    whole = "".join([*pieces, _escape(text[place:])])
    lines = textwrap.wrap(whole, 79, break_long_words=False, break_on_hyphens=False)
    return [_at_start(it) for it in lines]


# groff_char(7): a dash, a quote, a caret and a tilde have to stay those of ASCII, so that a reader can copy them.
_ESCAPES: Final = str.maketrans(
    {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", '"': "\\(dq"}
)


def _text(text: str) -> str:
    return _at_start(_escape(text))


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)


def _at_start(line: str) -> str:
    """Keep a line that starts with a dot from being taken for a request."""
    return f"\\&{line}" if line.startswith(".") else line


def write(directory: Path) -> None:
    """Write all files, and remove the pages of commands that there are no more.

    Args:
        directory: gets `man` and `completion`.
    """
    for place, files in (("man", render_pages()), ("completion", render_completions())):
        (directory / place).mkdir(parents=True, exist_ok=True)
        for file in (directory / place).iterdir():
            if file.name not in files:
                file.unlink()
        for name, text in files.items():
            (directory / place / name).write_text(text, "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
