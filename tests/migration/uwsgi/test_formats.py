"""YAML, XML and JSON: what the builds of uWSGI read alike is read, what they read otherwise is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.uwsgi_configurations import (
    XML_OF_TWO_READINGS,
    YAML_OF_ONE_READING,
    YAML_OF_TWO_READINGS,
    TwoReadings,
)
from tests.uwsgi_reading import pairs, said, write
from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.migration.plan import Verdict
from uwsgibridge.migration.uwsgi.reading import Reading, read_configuration


def read_yaml(directory: Path, text: str) -> Reading:
    write(directory, {"a.yaml": text})
    return read_configuration(["--yaml", "a.yaml"], {}, str(directory))


@pytest.mark.parametrize("case", YAML_OF_TWO_READINGS, ids=lambda it: it.text)
def test_yaml_that_two_readers_read_otherwise_is_refused(case: TwoReadings, tmp_path: Path) -> None:
    reading = read_yaml(tmp_path, case.text)
    assert tuple(pairs(reading)) == case.first
    refusals = said(reading, Verdict.REFUSED)
    assert refusals
    assert refusals[0].startswith("a.yaml:")
    for refusal in refusals:
        assert "uWSGI reads it in two ways: with libyaml (Debian's) as " in refusal
        assert "--ignore yaml-form" in refusal


def test_both_readings_of_yaml_are_said(tmp_path: Path) -> None:
    (refusal,) = said(read_yaml(tmp_path, 'uwsgi:\n  a: 1\n  x: "3"\n'), Verdict.REFUSED)
    assert refusal == (
        "a.yaml:3: uWSGI reads it in two ways: with libyaml (Debian's) as x = 3, without (PyPI's) as x = \"3\". Write "
        "it so that both agree: no quotes, no list (repeat the name), no # within a value (--ignore yaml-form takes "
        "libyaml's)."
    )


@pytest.mark.parametrize("case", YAML_OF_ONE_READING, ids=lambda it: it.text)
def test_yaml_that_libyaml_can_not_read_has_one_reading(case: TwoReadings, tmp_path: Path) -> None:
    reading = read_yaml(tmp_path, case.text)
    assert tuple(pairs(reading)) == case.second
    assert said(reading, Verdict.REFUSED) == []


@pytest.mark.parametrize(
    "text",
    [
        "uwsgi:\n  a: |\n    x\n",
        "uwsgi:\n  a: &x 1\n",
        "uwsgi:\n  a: {b: 1}\n",
        "uwsgi:\n  a: 1\n    b: 2\n",
        "uwsgi:\n  a: 1\n b: 2\n",
        "uwsgi:\n  a:1\n",
        "uwsgi:\n  - a\n",
        "uwsgi:\n  a: 'x\n",
        "uwsgi:\n  a: [x, [y]]\n",
        "uwsgi:\n  ? a\n",
        "uwsgi:\n  'a': 1\n",
    ],
)
def test_other_yaml_is_an_error_with_its_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^a\.yaml:[23]: "):
        read_yaml(tmp_path, text)


def test_yaml_without_the_section(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r'^a\.yaml: there is no line "uwsgi:" at the left margin'
    ):
        read_yaml(tmp_path, "other:\n  a: 1\n")


@pytest.mark.parametrize("case", XML_OF_TWO_READINGS, ids=lambda it: it.text)
def test_xml_that_two_readers_read_otherwise_is_refused(case: TwoReadings, tmp_path: Path) -> None:
    write(tmp_path, {"a.xml": case.text})
    reading = read_configuration(["a.xml"], {}, str(tmp_path))
    assert case.first is not None
    assert tuple(pairs(reading)) == case.first
    (refusal,) = said(reading, Verdict.REFUSED)
    first, second = case.first[0][1], case.second[0][1]
    assert f"built with libxml2 as {first!r}, built with expat as {second!r}" in refusal


def test_a_value_of_xml_on_lines_of_its_own_keeps_them(tmp_path: Path) -> None:
    write(tmp_path, {"a.xml": "<uwsgi><x>\n  a\n</x></uwsgi>"})
    reading = read_configuration(["a.xml"], {}, str(tmp_path))
    assert pairs(reading) == [("x", "\n  a\n")]
    assert len(said(reading, Verdict.REFUSED)) == 1


def test_xml_with_more_than_options(tmp_path: Path) -> None:
    text = (
        '<c><uwsgi id="a"><x>1</x></uwsgi><uwsgi id="b"><y id="a">1</y><y>2</y><app mountpoint="/m">m:a</app>'
        "<![CDATA[import x]]></uwsgi></c>"
    )
    write(tmp_path, {"a.xml": text})
    reading = read_configuration(["--xml", "a.xml:b"], {}, str(tmp_path))
    assert pairs(reading) == [("y", "2"), ("mount", "/m=m:a"), ("eval", "import x")]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('<!DOCTYPE u [<!ENTITY a "b">]><uwsgi><x>&a;</x></uwsgi>', "a.xml:1: it has a DTD"),
        ("<uwsgi>" + "<a>" * 100, "a.xml:1: its elements are nested deeper than 64"),
        ("<a/>", "a.xml:1: there is no element <uwsgi>"),
        ("<uwsgi><a><b/></a></uwsgi>", "a.xml:1: <a> has an element in place of a value"),
        ("", "a.xml:1: it is no XML"),
    ],
)
def test_broken_xml_has_one_error(text: str, error: str, tmp_path: Path) -> None:
    write(tmp_path, {"a.xml": text})
    with pytest.raises(ConfigurationError) as refusal:
        read_configuration(["a.xml"], {}, str(tmp_path))
    assert str(refusal.value).startswith(error)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[" * 100_000, "a.json: its lists and objects are nested too deep"),
        ('{"uwsgi":\n{"a": 1,}}', "a.json:2: it is no JSON"),
        ('{"uwsgi":\n{"a": {}}}', "a.json:2: a is an object"),
        ("[]", 'a.json: there is no object "uwsgi"'),
    ],
)
def test_broken_json_has_one_error(text: str, error: str, tmp_path: Path) -> None:
    write(tmp_path, {"a.json": text})
    with pytest.raises(ConfigurationError) as refusal:
        read_configuration(["a.json"], {}, str(tmp_path))
    assert str(refusal.value).startswith(error)


def test_a_huge_number_stays_a_text(tmp_path: Path) -> None:
    write(tmp_path, {"a.json": '{"uwsgi": {"a": ' + "9" * 100_000 + "}}"})
    ((_, value),) = pairs(read_configuration(["a.json"], {}, str(tmp_path)))
    assert value == "9" * 100_000
