"""Opens the log files anew in all processes, after logrotate has moved the old ones away."""

from __future__ import annotations

import signal
from pathlib import Path

from uwsgibridge.supervisor.fleet import Fleet
from uwsgibridge.telemetry.log_file import open_log_file


def reopen_logs(fleet: Fleet) -> list[str]:
    """Open the log's file anew, and have all other processes open theirs; log what has become of it.

    The other processes are told by SIGUSR1, and are not waited for: each says by itself what fails.

    Args:
        fleet: the workers.

    Returns:
        The files that the settings name; empty where there is none.

    Raises:
        LogFileError: the file of ``--log-file`` can't be opened. The old one stays open, in all processes.
    """
    settings = fleet.settings
    files = [it for it in (settings.log_file, settings.access_log_file) if it]
    if not files:
        fleet.log.info("nothing to open anew: there is no log file", option="--log-file")
        return files
    if settings.log_file:
        open_log_file(Path(settings.log_file).absolute())
    for generation in fleet.generations:
        generation.signal_template(signal.SIGUSR1)
        for worker in generation.workers.values():
            worker.signal(signal.SIGUSR1)
    fleet.log.info("log file opened anew")
    return files
