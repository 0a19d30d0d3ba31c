"""Rows of what says how a configuration is read. The reader has done it, and says so where a line deserves a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from uwsgibridge.migration.plan import Setting, Verdict
from uwsgibridge.migration.uwsgi.translation import Row, Translation, passed_over


def _nothing(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    """Leave the finding to the reader, which knows what has become of the line."""


def _read(names: str, text: str) -> Row:
    return Row(
        names=tuple(names.split()), verdict=Verdict.PASSED_OVER, text=text, translate=_nothing
    )


ROWS: Final = (
    _read("ini include inherit xml xmlconfig x yaml yml y json js j", "It is read as uWSGI reads it."),
    _read("if-env ifenv if-not-env if-opt if-not-opt if-file if-not-file if-dir ifdir if-directory if-not-dir if-exists "
          "ifexists if-not-exists if-plugin ifplugin if-not-plugin if-hostname if-not-hostname if-reload if-not-reload",
          "Its lines count where it holds; a start is never a reload."),
    _read("for for-times for-glob for-readline", "Its lines are repeated."),
    passed_over("endif end-if endfor end-for", "It ends a block."),
    passed_over("set S set-placeholder set-ph", "It is a setting or a placeholder like others."),
    passed_over("declare-option declare-option2", "What it stands for is applied."),
    passed_over("strict", "A misspelt option is refused then, here as well."),
)  # fmt: skip
