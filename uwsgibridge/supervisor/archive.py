"""Writes a zip archive that Python can import modules from.

`zipfile` takes twice as long, and every start of a supervisor writes such an archive.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final

# The three kinds of records, as APPNOTE.TXT of PKWARE has them in 4.3.7, 4.3.12 and 4.3.16.
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_END: Final = struct.Struct("<4s4H2LH")

_VERSION: Final = 20
_UTF_8_NAMES: Final = 1 << 11
_STORED: Final = 0
_MIDNIGHT: Final = 0
_FIRST_OF_1980: Final = 1 << 5 | 1  # the zero of the format's dates, which nobody reads here


def write_archive(file: BinaryIO, members: Iterable[tuple[str, str]]) -> None:
    """Write files into an archive, without compression.

    Args:
        file: an empty file.
        members: for each file its path, and its name in the archive.

    Raises:
        OSError: a file can't be read, or the archive can't be written.
        struct.error: there are more than 65,535 files.
    """
    central = []
    at = 0
    for path, name in members:
        content = Path(path).read_bytes()
        encoded = name.encode()
        kind = (_VERSION, _UTF_8_NAMES, _STORED, _MIDNIGHT, _FIRST_OF_1980)
        facts = (zlib.crc32(content), len(content), len(content), len(encoded), 0)
        central.append(_CENTRAL.pack(b"PK\1\2", _VERSION, *kind, *facts, 0, 0, 0, 0, at) + encoded)
        head = _LOCAL.pack(b"PK\3\4", *kind, *facts) + encoded
        file.write(head)
        file.write(content)
        at += len(head) + len(content)
    directory = b"".join(central)
    file.write(directory)
    count = len(central)
    file.write(_END.pack(b"PK\5\6", 0, 0, count, count, len(directory), at, 0))
