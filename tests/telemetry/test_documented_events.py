"""docs/logs.md has a row for each event that the source can log, with the level, and no other row."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "logs.md"

# A method of a logger, and the level of what it writes.
LEVELS = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
}

Levels = dict[str, set[str]]


def calls_of_loggers(tree: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """Give the first argument of each call that logs something, and its level."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in LEVELS
            and ast.unparse(node.func.value).rpartition(".")[2] in {"log", "_log", "logger"}
        ):
            yield node.args[0], LEVELS[node.func.attr]


def functions_that_log_an_argument(tree: ast.AST) -> dict[str, tuple[int, str]]:
    """Give the functions that log what they get as `event`: by name, its place among the arguments and the level."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names = [it.arg for it in node.args.args if it.arg != "self"]
            for event, level in calls_of_loggers(node):
                if isinstance(event, ast.Name):
                    assert event.id in names, f"{node.name} logs {event.id}, which it does not get"
                    found[node.name] = (names.index(event.id), level)
    return found


def texts(event: ast.expr) -> list[str]:
    """Give the texts that an expression can be."""
    if isinstance(event, ast.IfExp):
        return texts(event.body) + texts(event.orelse)
    assert isinstance(event, ast.Constant), f"not a text that a search finds: {ast.unparse(event)}"
    return [str(event.value)]


def events_of_source(source: str) -> Levels:
    """Collect the events that a module can log, each with its levels."""
    tree = ast.parse(source)
    passed_on = functions_that_log_an_argument(tree)
    found: Levels = {}
    for event, level in calls_of_loggers(tree):
        if not isinstance(event, ast.Name):
            for text in texts(event):
                found.setdefault(text, set()).add(level)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if name in passed_on:
                place, level = passed_on[name]
                for text in texts(node.args[place]):
                    found.setdefault(text, set()).add(level)
    return found


def rows(page: str) -> list[tuple[str, set[str], str, str]]:
    """Give the rows of the page's tables of events: event, levels, when, what to do."""
    found = []
    for line in page.splitlines():
        cells = [it.strip() for it in line.strip("|").split(" | ")]
        if line.startswith("| `") and len(cells) == 4:
            found.append((cells[0].strip("`"), set(cells[1].split(", ")), cells[2], cells[3]))
    return found


def test_each_event_has_a_row_with_its_level() -> None:
    logged: Levels = {}
    for module in sorted((ROOT / "uwsgibridge").rglob("*.py")):
        for event, levels in events_of_source(module.read_text("utf-8")).items():
            logged.setdefault(event, set()).update(levels)
    described = rows(PAGE.read_text("utf-8"))
    assert {event: levels for event, levels, _, _ in described} == logged
    assert len(described) == len(logged), "an event has two rows"


def test_each_row_says_when_and_what_to_do() -> None:
    for event, _, when, what in rows(PAGE.read_text("utf-8")):
        assert re.search(r"\w", when), event
        assert what == "-" or re.search(r"\w", what), event


def test_events_are_found_however_a_logger_is_called() -> None:
    found = events_of_source("""
class Reporter:
    def first(self, broken):
        self._log.error("one" if broken else "two", reason="not this one")
        self._once("three, in "
                   "two parts", why="nor this one")

    def _once(self, event, **why):
        self.log.warning(event, **why)

def second(logger):
    try:
        logger.info("four")
    except Exception:
        logger.exception("four")
""")
    assert found == {
        "one": {"error"},
        "two": {"error"},
        "three, in two parts": {"warning"},
        "four": {"info", "error"},
    }
