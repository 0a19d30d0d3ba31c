"""How much of a configuration is read. What is over a limit is hostile or broken, and ends the reading with an error."""

from __future__ import annotations

from typing import Final

# The largest configuration that was seen in public has 5 KiB; a Linux argument may have 128 KiB.
MOST_FILE_BYTES: Final = 1024 * 1024
MOST_BYTES: Final = 4 * 1024 * 1024
MOST_FILES: Final = 200
# Files within files, and own options (declare-option) within own options.
MOST_DEPTH: Final = 16
MOST_SETTINGS: Final = 10_000
MOST_VALUE_CHARACTERS: Final = 128 * 1024
# What is looked through and written while placeholders are replaced. It bounds the time that this takes to seconds.
MOST_EXPANDED_CHARACTERS: Final = 10_000_000
# uWSGI counts in 64 bits; beyond them its result depends on how it was compiled.
LARGEST_NUMBER: Final = 2**63 - 1
MOST_XML_DEPTH: Final = 64
# A pipe, such as bash's <(command), or standard input.
PIPE_SECONDS: Final = 10.0
