"""The files of prometheus_client, read and written without it."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.mmap_dict import MmapedDict

from tests.prometheus_files import key_of, open_file
from uwsgibridge.multiproc.records import (
    PLAIN,
    TIMED,
    DamagedError,
    Records,
    form,
    merge,
    parse,
    used_bytes,
)

SAMPLES = st.dictionaries(
    st.text(max_size=40).map(lambda it: key_of("a", label=it).encode()),
    st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)),
    min_size=1,
)


@settings(max_examples=30)
@given(SAMPLES)
def test_what_is_formed_is_parsed(samples: dict[bytes, tuple[float, float]]) -> None:
    assert parse(form(Records(TIMED, samples))) == Records(TIMED, samples)
    plain = {key: (value, 0.0) for key, (value, _) in samples.items()}
    assert parse(form(Records(PLAIN, samples))) == Records(PLAIN, plain)


def test_prometheus_client_reads_what_is_formed(tmp_path: Path) -> None:
    records = Records(TIMED, {key_of("a", label="é" * n).encode(): (n, 2.0 * n) for n in range(20)})
    path = tmp_path / "gauge_all_1.db"
    path.write_bytes(form(records))
    read = MmapedDict.read_all_values_from_file(str(path))
    assert {key.encode(): (value, at) for key, value, at, _ in read} == records.samples


def test_what_prometheus_client_writes_is_parsed(tmp_path: Path) -> None:
    file = open_file(tmp_path, "counter", 1)
    for number in range(2000):  # more than the file's first size
        file.write_value(key_of("a", label=f"{number}"), number, 0.5)
    file.close()
    data = (tmp_path / "counter_1.db").read_bytes()
    assert used_bytes(data) > 65_536
    records = parse(data)
    assert records.width == TIMED
    assert records.samples == {
        key_of("a", label=f"{n}").encode(): (float(n), 0.5) for n in range(2000)
    }


@pytest.mark.parametrize("data", [b"", bytes(65536), struct.pack("i4x", 8)])
def test_a_process_that_has_written_nothing(data: bytes) -> None:
    assert parse(data).samples == {}


def _cut(data: bytes) -> bytes:
    return data[:-1]


def _with_a_longer_key(data: bytes) -> bytes:
    return data[:8] + struct.pack("i", 1 << 30) + data[12:]


def _with_a_negative_key(data: bytes) -> bytes:
    return data[:8] + struct.pack("i", -8) + data[12:]


def _with_other_bytes(data: bytes) -> bytes:
    return data[:8] + bytes(len(data) - 8)


def _with_a_negative_size(data: bytes) -> bytes:
    return struct.pack("i4x", -1) + data[8:]


def _with_a_record_too_few(data: bytes) -> bytes:
    return struct.pack("i4x", len(data) - 24) + data[8:]


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _with_a_negative_size,
        _with_a_longer_key,
        _with_a_negative_key,
        _with_other_bytes,
        _with_a_record_too_few,
    ],
)
def test_what_is_damaged_is_refused(damage: Callable[[bytes], bytes]) -> None:
    whole = form(Records(TIMED, {key_of("a", n=str(n)).encode(): (1.0, 1.0) for n in range(3)}))
    with pytest.raises(DamagedError):
        parse(damage(whole))


@settings(max_examples=30)
@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    with contextlib.suppress(DamagedError):
        parse(data)


@pytest.mark.parametrize(
    ("kind", "merged"),
    [
        ("counter", (6.0, 0.0)),
        ("histogram", (6.0, 0.0)),
        ("summary", (6.0, 0.0)),
        ("gauge_sum", (6.0, 0.0)),
        ("gauge_min", (1.0, 30.0)),
        ("gauge_max", (3.0, 10.0)),
        ("gauge_mostrecent", (1.0, 30.0)),
    ],
)
def test_figures_of_several_processes(kind: str, merged: tuple[float, float]) -> None:
    several = [
        Records(TIMED, {b'["a"]': sample}) for sample in ((2.0, 20.0), (3.0, 10.0), (1.0, 30.0))
    ]
    assert merge(kind, several).samples == {b'["a"]': merged}


def test_the_newer_form_is_kept_when_the_application_has_got_it() -> None:
    both = [
        Records(PLAIN, {b'["a"]': (1.0, 0.0)}),
        Records(TIMED, {b'["b"]': (1.0, 0.0)}),
    ]
    samples = {b'["a"]': (1.0, 0.0), b'["b"]': (1.0, 0.0)}
    assert merge("counter", both) == merge("counter", both[::-1]) == Records(TIMED, samples)
