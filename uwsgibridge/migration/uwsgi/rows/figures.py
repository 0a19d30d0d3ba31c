"""Rows of statistics and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from uwsgibridge.config.options import option_name
from uwsgibridge.config.settings import OPTIONS
from uwsgibridge.errors import SettingsError
from uwsgibridge.migration.plan import Setting
from uwsgibridge.migration.uwsgi import meaning
from uwsgibridge.migration.uwsgi.translation import (
    Row,
    Translation,
    last_of,
    mapped,
    passed_over,
    text_of,
    warned,
)

_OTHER_WAYS: Final = "--status-bind, --metrics-file and --statsd-host publish figures."


def _stats(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    try:
        address = meaning.address(text_of(last), translation.directory)
    except meaning.MeaninglessError as error:
        # No request depends on statistics, so that the service can go on without.
        translation.warn(last, f"There are no statistics: {error}.", row.group)
        return
    translation.map(last, row.group, uwsgi_stats=address)


def _stats_http(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    if not meaning.is_true(last.value):
        translation.pass_over(last, "It is off.", row.group)
    elif translation.last("stats", "stats-server") is None:
        translation.pass_over(last, "It is about stats.", row.group)
    else:
        translation.map(last, row.group, uwsgi_stats_http=True)


def _push(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    for setting in settings:
        kind, _, rest = text_of(setting).partition(":")
        if kind != "statsd":
            translation.warn(
                setting, f"Of pushers there is statsd:HOST:PORT. {_OTHER_WAYS}", row.group
            )
            continue
        host, _, prefix = rest.partition(",")
        values = {"statsd_host": host, **({"statsd_prefix": prefix} if prefix else {})}
        try:
            for name, value in values.items():
                OPTIONS[name].check(option_name(name), value)
        except SettingsError as error:
            translation.warn(setting, f"Nothing is sent: {error}.", row.group)
            continue
        translation.map(setting, row.group, **values)
        translation.warn(
            setting,
            "Figures have names of their own, such as uwsgibridge.requests: docs/metrics.md.",
            row.group,
        )


def _frequency(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    seconds = translation.number_of(last, row.group)
    if seconds > 0:
        translation.map(last, row.group, statsd_seconds=float(seconds))
    else:
        translation.pass_over(last, "It sets no interval.", row.group)


ROWS: Final = (
    mapped("stats stats-server", "`--uwsgi-stats`", _stats),
    mapped("stats-http", "`--uwsgi-stats-http`", _stats_http),
    mapped("stats-push", "`--statsd-host`, `--statsd-prefix` for `statsd:HOST:PORT,PREFIX`; a warning for other pushers", _push),
    mapped("stats-pusher-default-freq stats-pushers-default-freq", "`--statsd-seconds`", _frequency),
    passed_over("stats-minified stats-min", "The statistics are on one line anyway."),
    passed_over("stats-no-cores stats-no-metrics", "Whoever reads the statistics passes over what it does not need."),
    warned("metric enable-metrics metrics-dir metrics-dir-restore metric-dir metric-threshold carbon "
           "carbon-id carbon-freq carbon-timeout carbon-no-workers carbon-max-retry rrdtool rrdtool-freq",
           f"There are no metrics of uWSGI here; {_OTHER_WAYS}"),
)  # fmt: skip
