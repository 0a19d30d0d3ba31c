#!/usr/bin/env bash
# trio 0.35.0 on CPython: `import trio` starts a program, /sbin/ldconfig.
#
# To name its threads, trio looks for the library of pthreads when it is imported, by ctypes.util.find_library. On Linux
# that reads what `ldconfig -p` prints; where ldconfig finds nothing, a C compiler and a linker are tried next. So each
# process that imports trio has a child at its start: whoever forbids programs (seccomp, a limit on processes), counts
# the children of a process, or traces what a service executes, sees it. Python's audit events show it. A process that
# was forked after the import does not do it again.
#
# Output seen:
#   import asyncio starts []
#   import anyio starts []
#   import trio starts ['/sbin/ldconfig -p']
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'trio==0.35.0' 'anyio==4.11.0'

cat > "$work/look.py" <<'PYTHON'
import sys

started = []


def note(event, arguments):
    if event == "subprocess.Popen":
        started.append(" ".join(arguments[1]))


sys.addaudithook(note)
__import__(sys.argv[1])
print("import", sys.argv[1], "starts", started)
PYTHON

for library in asyncio anyio trio; do
  timeout 60 "$work/venv/bin/python" "$work/look.py" "$library"
done | tee "$work/out"
diff - "$work/out" <<'SEEN'
import asyncio starts []
import anyio starts []
import trio starts ['/sbin/ldconfig -p']
SEEN
