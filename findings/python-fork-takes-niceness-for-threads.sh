#!/usr/bin/env bash
# CPython 3.12.1, 3.13.0, 3.14.10, 3.15.2, Linux: in a niced process whose name has a space, os.fork() warns of threads
# that there are not.
#
# From 3.12 on, os.fork() warns in a process with several threads. It counts them by the 20th field of /proc/self/stat,
# and takes a space for the end of a field. The second field is the process's name, which may have spaces: setproctitle
# gives names such as "site: worker", and so does any write to /proc/self/comm. With one space, the 20th field is the
# niceness, and with two the priority. A service with systemd's Nice=5 is told with each fork, and with each process that
# multiprocessing starts, that it may deadlock. One would have expected the name's closing parenthesis to be looked for,
# as proc_pid_stat(5) says. A name without spaces avoids it.
#
# Output seen:
#   python 3.12.1, niceness 0, site: worker: no warning
#   python 3.12.1, niceness 5, site:worker: no warning
#   python 3.12.1, niceness 5, site: worker: This process is multi-threaded, use of fork() may lead to deadlocks
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python=
# On PATH, or where pyenv keeps those that are not.
for candidate in python3.15 python3.14 python3.13 python3.12 python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-5].*/bin/python3; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2> /dev/null; then
    python=$candidate
    break
  fi
done
[ -n "$python" ] || { echo "this needs Python 3.12 or later"; exit 1; }

cat > fork.py <<'PYTHON'
import os
import sys
import threading
import warnings

with open("/proc/self/comm", "w") as file:
    file.write(sys.argv[1])
assert threading.active_count() == len(os.listdir("/proc/self/task")) == 1
with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("always")
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
said = "This process is multi-threaded, use of fork() may lead to deadlocks" if found else "no warning"
print(f"python {sys.version.split()[0]}, niceness {os.nice(0)}, {sys.argv[1]}: {said}")
PYTHON

# What this was started with may be niced already.
[ "$(nice)" = 0 ] || { echo "this needs a niceness of 0 to begin with"; exit 1; }
plain=$("$python" fork.py "site: worker")
joined=$(nice -n 5 "$python" fork.py "site:worker")
spaced=$(nice -n 5 "$python" fork.py "site: worker")
printf '%s\n' "$plain" "$joined" "$spaced"
[[ $plain == *"no warning" && $joined == *"no warning" && $spaced == *"multi-threaded"* ]]
