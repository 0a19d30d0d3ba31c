#!/usr/bin/env bash
# CPython 3.13.0: what a signal handler raises during a `while` loop can miss the `try` that the loop stands in.
#
# Python calls signal handlers, and raises what PyThreadState_SetAsyncExc has left for a thread, where a loop jumps
# back. The jump of `while condition:` belongs to no `try` in 3.13.0: the exception goes past `except` and `finally`.
# So KeyboardInterrupt, and what time limits raise, leave such a loop without its clean-up; a tight loop each time.
# `while True:` and `for` are not concerned, and neither is a loop in a function that the `try` calls.
# With the same lines, 3.11.7, 3.12.1 and 3.14.10 miss nothing.
#
# Output seen:
#   while condition: finally was missed 20 of 20 times
#   while True: finally was missed 0 of 20 times
#   the loop in a function: finally was missed 0 of 20 times
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python=
# On PATH, or where pyenv keeps those that are not.
for candidate in python3.13 python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.13.0/bin/python3; do
  if [ "$("$candidate" --version 2> /dev/null)" = "Python 3.13.0" ]; then
    python=$candidate
    break
  fi
done
[ -n "$python" ] || { echo "this needs Python 3.13.0"; exit 1; }

cat > jump.py <<'PYTHON'
import signal

cleaned_up = 0


class TimeIsOver(BaseException):
    pass


def raise_it(number, frame):
    raise TimeIsOver


def while_condition():
    global cleaned_up
    goes_on = True
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        while goes_on:
            pass
    finally:
        cleaned_up += 1


def while_true():
    global cleaned_up
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        while True:
            pass
    finally:
        cleaned_up += 1


def loop():
    goes_on = True
    while goes_on:
        pass


def in_a_function():
    global cleaned_up
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        loop()
    finally:
        cleaned_up += 1


def missed(function):
    global cleaned_up
    cleaned_up = 0
    for _ in range(20):
        try:
            function()
        except TimeIsOver:
            pass
    return 20 - cleaned_up


signal.signal(signal.SIGALRM, raise_it)
print("while condition: finally was missed", missed(while_condition), "of 20 times")
print("while True: finally was missed", missed(while_true), "of 20 times")
print("the loop in a function: finally was missed", missed(in_a_function), "of 20 times")
PYTHON

timeout 60 "$python" jump.py | tee out
diff - out <<'SEEN'
while condition: finally was missed 20 of 20 times
while True: finally was missed 0 of 20 times
the loop in a function: finally was missed 0 of 20 times
SEEN
