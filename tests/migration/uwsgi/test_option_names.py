"""The lists of option names are whole, and no name stands in two of them."""

from __future__ import annotations

from uwsgibridge.migration.uwsgi.option_names import (
    FLAGS,
    MAY_TAKE_A_VALUE,
    OPTION_NAMES,
    SHORT,
    TAKING_A_VALUE,
)
from uwsgibridge.migration.uwsgi.table import ROW_OF, ROWS


def test_each_row_is_of_an_option() -> None:
    assert not set(ROW_OF) - OPTION_NAMES - set(SHORT)


def test_no_name_has_two_rows() -> None:
    names = [name for row in ROWS for name in row.names]
    assert sorted({it for it in names if names.count(it) > 1}) == []


def test_each_option_takes_a_value_in_one_way() -> None:
    assert not FLAGS & TAKING_A_VALUE
    assert not FLAGS & MAY_TAKE_A_VALUE
    assert not TAKING_A_VALUE & MAY_TAKE_A_VALUE


def test_each_letter_is_an_option() -> None:
    assert set(SHORT.values()) <= OPTION_NAMES
