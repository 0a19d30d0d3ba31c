#!/usr/bin/env bash
# CPython 3.11.7 and 3.13.0: io.BufferedReader.read() ignores buffer_size and reads by 8 KiB.
#
# With a buffer of 64 KiB, read(n) and readline() ask the raw stream for 64 KiB at a time. read() without a size, which
# is how applications take a whole upload from wsgi.input, calls the readall() of the raw stream instead, and the one
# that io.RawIOBase has asks for io.DEFAULT_BUFFER_SIZE: 8 KiB for each call of recv() or read(). One would have expected
# that the larger buffer makes the reads larger. What helps is a readall() of the raw stream's own class. Pythons whose
# DEFAULT_BUFFER_SIZE is larger ask for that.
#
# Output seen:
#   Python 3.11.7
#   read(100000): asked for 65536
#   read(): asked for the default
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 --version
cat > check.py <<'PYTHON'
import io


class Raw(io.RawIOBase):
    def __init__(self):
        self.left = 200_000
        self.asked = set()

    def readable(self):
        return True

    def readinto(self, buffer):
        self.asked.add(len(buffer))
        size = min(len(buffer), self.left)
        self.left -= size
        return size


raw = Raw()
assert len(io.BufferedReader(raw, 65_536).read(100_000)) == 100_000
print("read(100000): asked for", *raw.asked)
raw = Raw()
assert len(io.BufferedReader(raw, 65_536).read()) == 200_000
assert raw.asked == {io.DEFAULT_BUFFER_SIZE} != {65_536}, raw.asked
print("read(): asked for the default")
PYTHON

cat > expected <<'TEXT'
read(100000): asked for 65536
read(): asked for the default
TEXT
python3 check.py | tee seen
diff expected seen
