"""Calls what an application has registered by the module ``uwsgi``; without ``--uwsgi-module``, nothing is imported for that."""

from __future__ import annotations

from uwsgibridge.config.settings import Settings
from uwsgibridge.telemetry.logs import Logger
from uwsgibridge.telemetry.stacks import own_traceback


def become_worker(settings: Settings, number: int) -> None:
    """Have the module know that this process is a worker, before the application is loaded here, if it is.

    Args:
        settings: of the worker.
        number: of the worker, from 1 on.
    """
    if settings.uwsgi_module:
        from uwsgibridge.uwsgi_module import installing

        installing.install(settings)
        installing.become_worker(number)


def has_schedule(settings: Settings) -> bool:
    """Whether the application has registered timers or crons."""
    if not settings.uwsgi_module:
        return False
    from uwsgibridge.uwsgi_module import installing

    return installing.has_schedule()


def call_post_fork_hook(settings: Settings, logger: Logger) -> None:
    """Call ``uwsgi.post_fork_hook``. As with uWSGI, a worker serves also where that fails."""
    if settings.uwsgi_module:
        from uwsgibridge.uwsgi_module import installing

        try:
            installing.call_post_fork_hook()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a worker serves on
            _report(logger, "post_fork_hook", error)


def call_atexit(settings: Settings, logger: Logger) -> None:
    """Call ``uwsgi.atexit``, when a worker has drained."""
    if settings.uwsgi_module:
        from uwsgibridge.uwsgi_module import installing

        try:
            installing.call_atexit()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a worker serves on
            _report(logger, "atexit", error)


def _report(logger: Logger, hook: str, error: BaseException) -> None:
    logger.error("a hook of the module uwsgi failed", hook=hook, exception=own_traceback(error))
