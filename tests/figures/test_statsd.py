"""The lines that statsd and dogstatsd take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from uwsgibridge.figures.family import Family, Histogram, Kind, Sample
from uwsgibridge.figures.statsd import StatsdText, datagrams

GET = (("mount", "/"), ("method", "GET"))
API = (("mount", "/api/v1"), ("method", "GET"))


def requests(root: int, api: int = 0) -> Family:
    return Family("bridge_requests", Kind.COUNTER, "", [Sample(GET, root), Sample(API, api)])


def times(counts: Sequence[int], total: float) -> Family:
    histogram = Histogram((("mount", "/"),), (0.005, 1.0), tuple(counts), total)
    return Family("bridge_request_seconds", Kind.HISTOGRAM, "", [histogram], "seconds")


def gauge(value: float) -> Family:
    return Family("bridge_in_flight", Kind.GAUGE, "", [Sample((), value)])


def test_a_counter_is_sent_as_its_change() -> None:
    text = StatsdText("", None)
    text.start_from([requests(5)])
    assert text.lines([requests(7)]) == ["bridge.requests.root.GET:2|c"]
    text.mark_sent()
    assert text.lines([requests(7)]) == []
    assert text.lines([requests(7, 1)]) == ["bridge.requests.api_v1.GET:1|c"]


def test_what_was_not_sent_is_in_the_next_change() -> None:
    text = StatsdText("", None)
    text.start_from([requests(5)])
    text.lines([requests(7)])
    assert text.lines([requests(8)]) == ["bridge.requests.root.GET:3|c"]


def test_a_counter_that_went_back_began_anew() -> None:
    text = StatsdText("", None)
    text.start_from([requests(5)])
    assert text.lines([requests(2)]) == ["bridge.requests.root.GET:2|c"]


def test_a_histogram_is_counters_of_its_ranges() -> None:
    text = StatsdText("", None)
    text.start_from([times((1, 0, 0), 0.001)])
    assert text.lines([times((2, 1, 3), 12.5)]) == [
        "bridge.request_seconds.bucket.root.0_005:1|c",
        "bridge.request_seconds.bucket.root.1_0:1|c",
        "bridge.request_seconds.bucket.root.inf:3|c",
        "bridge.request_seconds.count.root:5|c",
        "bridge.request_seconds.sum.root:12.499|c",
    ]


def test_a_gauge_is_always_sent_and_a_negative_one_is_no_change() -> None:
    assert StatsdText("", None).lines([gauge(3)]) == ["bridge.in_flight:3|g"]
    assert StatsdText("", None).lines([gauge(-3)]) == [
        "bridge.in_flight:0|g",
        "bridge.in_flight:-3|g",
    ]
    assert StatsdText("", []).lines([gauge(-3)]) == ["bridge.in_flight:-3|g"]


def test_dogstatsd_has_labels_as_tags() -> None:
    text = StatsdText("shop", ["env:live", "web"])
    assert text.lines([requests(1), gauge(0.5)]) == [
        "shop.bridge.requests:1|c|#env:live,web,mount:/,method:GET",
        "shop.bridge.in_flight:0.5|g|#env:live,web",
    ]
    odd = replace(requests(0), samples=[Sample((("mount", "/a,b|c#d\ne"),), 1)])
    assert StatsdText("", []).lines([odd]) == ["bridge.requests:1|c|#mount:/a_b_c_d_e"]


def test_an_info_has_no_name_without_tags() -> None:
    info = Family("bridge_build", Kind.INFO, "", [Sample((("version", "1.2"),), 1)])
    assert StatsdText("", None).lines([info]) == []
    assert StatsdText("", []).lines([info]) == ["bridge.build:1|g|#version:1.2"]


def test_a_prefix_has_one_dot() -> None:
    assert StatsdText("shop.", None).lines([gauge(1)]) == ["shop.bridge.in_flight:1|g"]


def test_numbers_have_no_exponent() -> None:
    assert StatsdText("", None).lines([gauge(0.00001)]) == ["bridge.in_flight:0.00001|g"]
    assert StatsdText("", None).lines([gauge(1e15)]) == ["bridge.in_flight:1000000000000000|g"]


def test_datagrams_are_as_full_as_they_may_be() -> None:
    assert list(datagrams(["aaa", "bbb", "ccc", "d" * 20, "e"], 7)) == [
        b"aaa\nbbb",
        b"ccc",
        b"d" * 20,
        b"e",
    ]
    assert list(datagrams([], 7)) == []
