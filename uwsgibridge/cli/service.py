"""Runs a service in the foreground, whichever command has given its options."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Mapping
from types import MappingProxyType

from uwsgibridge.config.settings import Settings
from uwsgibridge.system.collector import rare_collections
from uwsgibridge.system.interpreter import end_interpreter


def import_for_service() -> None:
    """Import what `run_service` needs for a supervisor, while this process waits for something else."""
    with rare_collections():
        importlib.import_module("uwsgibridge.cli.start")
        importlib.import_module("uwsgibridge.supervisor.supervisor")
        importlib.import_module("uwsgibridge.worker.spare_template")


def run_service(
    app: str | None, settings: Settings, origins: Mapping[str, str] = MappingProxyType({})
) -> int:
    """Serve until a signal ends it.

    Args:
        app: the application's name; None where applications are mounted only.
        settings: of the service.
        origins: where each setting came from, by the name of its field.

    Returns:
        The exit status.
    """
    # Imported here, so that --help does not wait for trio.
    with rare_collections():
        from uwsgibridge.cli.environment import change_environment, variables_read_at_start
        from uwsgibridge.cli.start import fork_spare_template, hold_pid_file, prepare_process
        from uwsgibridge.supervisor.heritage import REHEARSAL_VARIABLE, check_takeover, is_upgrade
        from uwsgibridge.telemetry.failure import show_failure
        from uwsgibridge.telemetry.line_stream import own_standard_error
        from uwsgibridge.telemetry.service_log import make_service_logger

    with show_failure() as outcome, contextlib.ExitStack() as stack:
        if os.environ.get(REHEARSAL_VARIABLE):  # a supervisor has started this for an upgrade
            change_environment(settings)
            check_takeover(settings)
            from uwsgibridge.supervisor.rehearsed_start import rehearse_takeover

            logger = make_service_logger(settings)
            rehearse_takeover(app, settings, logger)
        else:
            own_standard_error()
            upgraded = is_upgrade()
            after_bind = prepare_process(settings, upgraded=upgraded)
            change_environment(
                settings
            )  # the title of the process is set before that, see `set_title`
            read_at_start = variables_read_at_start()
            spare = None if upgraded or read_at_start else fork_spare_template(settings)
            if spare is not None:
                stack.callback(spare.end)
            stack.enter_context(hold_pid_file(settings, upgraded=upgraded))
            logger = make_service_logger(settings)
            if settings.workers:
                with rare_collections():
                    from uwsgibridge.supervisor.supervisor import run_supervisor

                run_supervisor(
                    app, settings, logger, after_bind=after_bind, spare=spare, origins=origins
                )
            else:
                if read_at_start:
                    logger.warning(
                        "variables come too late for this process, which has read them at its start",
                        variables=read_at_start,
                        hint="set them where uwsgibridge is started; processes of --workers 1 or more read them, too",
                    )
                with rare_collections():
                    from uwsgibridge.worker.process import run_process

                run_process(app, settings, logger, after_bind=after_bind)
    if settings.log_file and outcome.status:
        from uwsgibridge.telemetry.starter import tell_starter

        tell_starter(
            f"Error: the start has failed with exit status {outcome.status}: {settings.log_file} (--log-file) says why"
        )
    if settings.workers and os.environ.get("PYTHONINSPECT"):
        # Whoever has set the variable where a service starts wants no prompt of the supervisor, which has no application.
        end_interpreter(outcome.status)
    return outcome.status
