"""What other servers are told for prometheus_client, and an option does here."""

from __future__ import annotations

from typing import Final

# The second one is what versions before 0.10 have looked for.
MULTIPROC_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
MULTIPROC_VARIABLES: Final = frozenset({MULTIPROC_VARIABLE, MULTIPROC_VARIABLE.lower()})

# The function by which a hook removes what an ended worker has left.
MARK_DEAD: Final = "mark_process_dead"
