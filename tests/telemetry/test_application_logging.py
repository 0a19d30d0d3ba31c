"""What an application tells the standard library's logging is an event, unless the application has a log of its own."""

from __future__ import annotations

import logging
import logging.config
import logging.handlers
import queue
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO

import pytest

from tests.log_events import LogEvents
from uwsgibridge.config.settings import Settings
from uwsgibridge.telemetry.capturing import capture_logging, capturing_logging
from uwsgibridge.telemetry.logs import Logger, make_logger


class Root:
    """The root logger as Python has it, which loses all that a test has made of it."""

    def __init__(self) -> None:
        self.log = LogEvents()
        self.logger: Logger = make_logger("json", "info", self.log, facts={"worker": 7})
        self.settings = Settings(workers=1)
        self._has_begun = False

    def begin(self) -> None:
        """Take the handlers away that pytest gives the root logger when a test begins."""
        if not self._has_begun:
            self._has_begun = True
            logging.getLogger().handlers = []

    def capture(self, **settings: str) -> None:
        self.begin()
        capture_logging(replace(self.settings, **settings), self.logger)  # type: ignore[arg-type] # names of options

    @property
    def told(self) -> list[object]:
        return [it["event"] for it in self.log.find()]


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Root]:
    found = logging.getLogger()
    level = found.level
    monkeypatch.setattr(found, "handlers", [])
    monkeypatch.setattr(found.manager, "loggerDict", {})
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    found.setLevel(logging.WARNING)
    yield Root()
    found.setLevel(level)


def test_a_record_is_an_event_with_all_that_it_has(root: Root) -> None:
    root.capture()
    logging.getLogger("shop.views").warning(
        "sold %d of %s", 3, "tea", extra={"cart": 5, "level": "of mine"}
    )
    (event,) = root.log.find()
    assert event.pop("where").startswith(__file__)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "sold 3 of tea",
        "level": "warning",
        "logger": "shop.views",
        "cart": 5,
        "extra_level": "of mine",
        "worker": 7,
    }


def test_a_traceback_is_part_of_its_event(root: Root) -> None:
    root.capture()
    try:
        raise ValueError("of the application")
    except ValueError:
        logging.getLogger("shop").exception("no sale")
    (event,) = root.log.find()
    assert (event["event"], event["level"]) == ("no sale", "error")
    assert event["exception"].startswith("Traceback (most recent call last)")
    assert event["exception"].endswith("ValueError: of the application")


@pytest.mark.parametrize(
    ("level", "name"),
    [(50, "critical"), (45, "error"), (35, "warning"), (25, "info"), (10, "debug"), (5, "debug")],
)
def test_levels_between_have_the_name_of_the_one_below(root: Root, level: int, name: str) -> None:
    root.capture()
    logger = logging.getLogger("shop")
    logger.setLevel(1)
    logger.log(level, "told")
    assert root.log.find(event="told", level=name)


def test_the_least_level_is_pythons(root: Root) -> None:
    root.capture()
    logging.getLogger("shop").info("not told")
    assert root.told == []


def test_the_least_level_is_an_option(root: Root) -> None:
    root.capture(app_log_level="debug")
    # Also below --log-level, which is that of the bridge's own events.
    logging.getLogger("shop").debug("told")
    assert root.told == ["told"]


def test_loggers_of_other_servers_tell_what_they_do_there(root: Root) -> None:
    logger = logging.getLogger("uvicorn.error")
    root.capture()
    logger.info("told")
    assert root.told == ["told"]


def test_a_later_configuration_by_basic_config_takes_over(root: Root) -> None:
    root.capture()
    own = StringIO()
    assert not logging.getLogger().hasHandlers()
    logging.basicConfig(stream=own, format="own %(message)s")
    logging.getLogger("shop").warning("once")
    assert own.getvalue() == "own once\n"
    assert root.told == []


def test_functions_of_logging_configure_nothing_by_the_way(root: Root) -> None:
    root.capture()
    logging.warning("told")  # noqa: LOG015 - it would call basicConfig
    assert root.told == ["told"]
    assert not logging.getLogger().hasHandlers()


@pytest.mark.parametrize("where", ["", "shop", "shop.views"])
def test_a_later_handler_anywhere_on_the_way_takes_over(root: Root, where: str) -> None:
    root.capture()
    own = StringIO()
    logging.getLogger(where).addHandler(logging.StreamHandler(own))
    logging.getLogger("shop.views").warning("once")
    logging.getLogger("library").warning("of somebody else")
    assert own.getvalue().count("once") == 1
    assert root.told == ([] if not where else ["of somebody else"])


def test_a_later_configuration_by_a_dictionary_takes_over(root: Root) -> None:
    root.capture()
    handlers = {"own": {"class": "logging.handlers.BufferingHandler", "capacity": 9}}
    logging.config.dictConfig({"version": 1, "handlers": handlers, "root": {"handlers": ["own"]}})
    logging.getLogger("shop").warning("once")
    (own,) = logging.getLogger().handlers
    assert isinstance(own, logging.handlers.BufferingHandler)
    assert [it.getMessage() for it in own.buffer] == ["once"]
    assert root.told == []


def test_an_earlier_configuration_is_left_alone(root: Root) -> None:
    root.begin()
    own = StringIO()
    logging.basicConfig(stream=own)
    before = list(logging.getLogger().handlers)
    root.capture()
    assert logging.getLogger().handlers == before
    logging.getLogger("shop").warning("once")
    assert root.told == []
    assert own.getvalue().count("once") == 1


def test_what_is_no_log_takes_nothing_over(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    root.capture()
    logger = logging.getLogger("library")
    logger.addHandler(logging.NullHandler())
    mail = logging.handlers.SMTPHandler("127.0.0.1", "a@example.org", ["b@example.org"], "failed")
    monkeypatch.setattr(mail, "emit", lambda record: None)
    logger.addHandler(mail)
    logger.error("told")
    assert root.told == ["told"]


@pytest.mark.parametrize(("debug", "told"), [(False, ["failed"]), (True, [])])
def test_djangos_default_configuration_leaves_no_error_untold(
    root: Root, debug: bool, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from django.conf import settings
    from django.utils.log import DEFAULT_LOGGING

    if not settings.configured:
        settings.configure()
    root.capture()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "DEBUG", debug)
        logging.config.dictConfig({**DEFAULT_LOGGING, "disable_existing_loggers": False})
        logging.getLogger("django.request").error("failed")
    assert root.told == told
    # By its own handler, where it is in force.
    assert capsys.readouterr().err.count("failed") == debug


def test_warnings_that_logging_captures_are_events(root: Root) -> None:
    root.capture()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        # What logging.captureWarnings has `warnings` call.
        logging._showwarning("old", DeprecationWarning, "shop.py", 5)  # type: ignore[attr-defined]
    (event,) = root.log.find(logger="py.warnings")
    assert "DeprecationWarning: old" in event["event"]


def test_a_record_from_a_queue_has_its_traceback(root: Root) -> None:
    root.capture()
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    try:
        raise ValueError("elsewhere")
    except ValueError:
        record = logging.makeLogRecord(
            {"name": "shop", "msg": "failed", "levelno": logging.ERROR, "exc_info": sys.exc_info()}
        )
    logging.handlers.QueueHandler(records).handle(record)
    logging.getLogger("shop").handle(records.get_nowait())
    (event,) = root.log.find()
    assert "ValueError: elsewhere" in event["event"] + event.get("exception", "")


def test_a_record_that_can_t_be_told_ends_nothing(
    root: Root, capsys: pytest.CaptureFixture[str]
) -> None:
    root.capture()
    logging.getLogger("shop").warning("%d", "no number")
    assert "--- Logging error ---" in capsys.readouterr().err


def test_a_dictionary_that_takes_all_handlers_away_leaves_events(root: Root) -> None:
    root.begin()
    with capturing_logging(root.settings, root.logger):
        logging.config.dictConfig({"version": 1, "root": {"handlers": [], "level": "INFO"}})
    logging.getLogger("shop").info("told")
    assert root.told == ["told"]


def test_a_logger_that_hands_nothing_on_has_events_of_warnings(root: Root) -> None:
    root.capture()
    logger = logging.getLogger("shop")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.info("not told, as without the bridge")
    logger.warning("told")
    assert root.told == ["told"]


def test_warnings_of_the_import_are_events_and_basic_config_works_then(root: Root) -> None:
    root.begin()
    own = StringIO()
    with capturing_logging(root.settings, root.logger):
        logging.getLogger("shop").warning("at the import")
        logging.getLogger("shop").info("not told")
        logging.basicConfig(stream=own)
    assert root.told == ["at the import"]
    logging.getLogger("shop").warning("once")
    assert own.getvalue().count("once") == 1
    assert root.told == ["at the import"]


def test_a_forked_worker_tells_with_its_own_logger(root: Root) -> None:
    root.capture()
    other = LogEvents()
    capture_logging(root.settings, make_logger("json", "info", other))
    logging.getLogger("shop").warning("told once")
    assert root.told == []
    assert len(other.find(event="told once")) == 1


def test_own_leaves_logging_alone(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    root.begin()
    with capturing_logging(replace(root.settings, app_logging="own"), root.logger):
        pass
    logging.getLogger("shop").warning("of Python")
    assert root.told == []
    assert not logging.getLogger().handlers
    assert capsys.readouterr().err == "of Python\n"
