#!/usr/bin/env bash
# Python 3.11.2 (Debian 12, python3.11 3.11.2-6+deb12u6): multiprocessing does not notice an os.fork().
#
# A server that loads an application once and forks its workers with os.fork() gives each of them the state that
# multiprocessing has in the parent. It is put in order only in children that multiprocessing has forked itself
# (BaseProcess._bootstrap), and nothing is registered with os.register_at_fork(). So with a Manager that was started
# before the fork, and a proxy that was used before it:
#   - each child takes the manager's process for its own child, and fails at its exit; the status is 0 all the same;
#   - all children speak to the manager over one and the same connection, so that answers can go to the wrong one.
# What a server can do in the child: multiprocessing.process._children = set(), and
# multiprocessing.util._run_after_forkers(), after which the proxy opens a connection of its own.
#
# Output seen:
#   exit of the child: AssertionError: can only join a child process (status 0)
#   connection of the child: the parent's
#   connection after _run_after_forkers(): its own
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

pinned=python3.11-minimal=3.11.2-6+deb12u6
installed=python3.11-minimal=$(dpkg-query --show --showformat '${Version}' python3.11-minimal)
[ "$installed" = "$pinned" ] || apt-get install --quiet --yes --allow-downgrades "$pinned" >/dev/null

cat > fork.py <<'PYTHON'
import multiprocessing
import multiprocessing.process
import multiprocessing.util
import os
import sys

manager = multiprocessing.get_context("fork").Manager()
shared = manager.dict()
shared["key"] = "value"


def connection():
    """The connection by which this process has asked the manager last."""
    shared["key"]
    found = os.fstat(shared._tls.connection.fileno())
    return found.st_dev, found.st_ino


def in_child(act):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        act()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def leave_in_order():
    sys.exit(0)


def tell_connection():
    os._exit(0 if connection() == before else 3)


def tell_connection_after_forkers():
    multiprocessing.process._children = set()
    multiprocessing.util._run_after_forkers()
    os._exit(0 if connection() == before else 3)


before = connection()
print("status", in_child(leave_in_order))
print("plain", {0: "the parent's", 3: "its own"}[in_child(tell_connection)])
print("after", {0: "the parent's", 3: "its own"}[in_child(tell_connection_after_forkers)])
PYTHON

timeout 60 /usr/bin/python3 fork.py > out 2> err
said=$(grep -o 'AssertionError: can only join a child process' err | head -1)
echo "exit of the child: $said (status $(sed -n 's/^status //p' out))"
echo "connection of the child: $(sed -n 's/^plain //p' out)"
echo "connection after _run_after_forkers(): $(sed -n 's/^after //p' out)"
[ "$said" = 'AssertionError: can only join a child process' ]
grep -qx 'status 0' out
grep -qx "plain the parent's" out
grep -qx 'after its own' out
