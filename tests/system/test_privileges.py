"""User, pid file, title and OOM score, as the system sees them; what only root can do runs as root."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import sys
from pathlib import Path

import pytest

from tests.other_users import NOBODY, as_nobody, names_in, need_root, run_script
from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.socket_files import SocketFiles, socket_files
from uwsgibridge.connection.sockets import open_sockets
from uwsgibridge.errors import BindError, SettingsError
from uwsgibridge.system.privileges import drop_privileges, resolve_user

# No user has it, and no group.
UNNAMED = 54_321
PATIENCE_SECONDS = 60.0

need_linux = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")

IMPORTS = """
import os
import sys
from pathlib import Path
from uwsgibridge.errors import SettingsError
from uwsgibridge.connection.sockets import open_sockets
from uwsgibridge.connection import socket_files
from uwsgibridge.system import oom, privileges, process_title
"""


def run(script: str, *arguments: str) -> str:
    return run_script(IMPORTS + script, *arguments)


# Whom the options mean.


def test_no_user_and_no_group_is_nobody_else():
    assert resolve_user("", "") is None


@need_root
def test_a_user_is_found_by_name_or_number_with_the_primary_group():
    user = pwd.getpwuid(NOBODY)
    assert resolve_user(user.pw_name, "") == (NOBODY, user.pw_gid)
    assert resolve_user(str(NOBODY), "") == (NOBODY, user.pw_gid)


@need_root
def test_a_group_is_found_by_name_or_number():
    group = grp.getgrall()[1]
    assert resolve_user(str(NOBODY), group.gr_name) == (NOBODY, group.gr_gid)
    assert resolve_user(str(NOBODY), str(group.gr_gid)) == (NOBODY, group.gr_gid)
    assert resolve_user("", group.gr_name) == (0, group.gr_gid)


@need_root
def test_numbers_need_no_name_where_the_group_is_given():
    assert resolve_user(str(UNNAMED), str(UNNAMED)) == (UNNAMED, UNNAMED)
    assert resolve_user("0", "4294967294") == (0, 4_294_967_294)


def test_number_without_name_needs_a_group():
    with pytest.raises(SettingsError, match=f"--user {UNNAMED}: .* add --group"):
        resolve_user(str(UNNAMED), "")


@pytest.mark.parametrize(
    "name",
    ["no-such-one", "-1", "4294967295", "\u0661", " ", "a\0b", "\ud800", "1e3", "9" * 5000],
    ids=lambda name: ascii(name)[:20],
)
def test_unknown_user_or_group_is_refused(name: str):
    with pytest.raises(SettingsError) as raised:
        resolve_user(name, "")
    assert str(raised.value) == f"--user {name!r}: there is no such user"
    with pytest.raises(SettingsError) as raised:
        resolve_user("", name)
    assert str(raised.value) == f"--group {name!r}: there is no such group"


def test_who_is_that_user_already_may_say_so():
    with as_nobody():
        own = os.geteuid(), os.getegid()
        # The group that the process has, whatever the list of users says.
        assert resolve_user(str(own[0]), "") == own
        assert resolve_user(str(own[0]), str(own[1])) == own
        assert resolve_user("", str(own[1])) == own


def test_only_root_becomes_another():
    with as_nobody():
        with pytest.raises(SettingsError, match=r"--user root: only root .* start as root"):
            resolve_user("root", "")
        with pytest.raises(SettingsError, match=f"--group {UNNAMED}: only root"):
            resolve_user("", str(UNNAMED))


# Becoming the user.


def drop(uid: int, gid: int) -> dict[str, list[int]]:
    """Become a user in a process of its own, and give the kernel's lines about it."""
    status = run(
        "os.setgroups([0, 1, 2])\n"
        "privileges.drop_privileges(int(sys.argv[1]), int(sys.argv[2]))\n"
        "print(Path('/proc/self/status').read_text())\n",
        str(uid),
        str(gid),
    )
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return {name: [int(it) for it in lines[name].split()] for name in ("Uid", "Gid", "Groups")} | {
        "CapEff": [int(lines["CapEff"], 16)]
    }


def user_of_most_groups() -> tuple[pwd.struct_passwd, list[int]]:
    users = [it for it in pwd.getpwall() if it.pw_uid not in {0, NOBODY}]
    groups = {it.pw_uid: os.getgrouplist(it.pw_name, it.pw_gid) for it in users}
    user = max(users, key=lambda it: len(groups[it.pw_uid]))
    return user, groups[user.pw_uid]


@need_root
@need_linux
def test_privileges_are_gone_for_good():
    user, groups = user_of_most_groups()
    found = drop(user.pw_uid, user.pw_gid)
    assert found["Uid"] == [user.pw_uid] * 4  # real, effective, saved, file system
    assert found["Gid"] == [user.pw_gid] * 4
    assert sorted(found["Groups"]) == sorted(groups)
    assert found["CapEff"] == [0]


@need_root
@need_linux
def test_user_with_another_group_has_that_one():
    user, _ = user_of_most_groups()
    found = drop(user.pw_uid, UNNAMED)
    assert found["Gid"] == [UNNAMED] * 4
    assert sorted(found["Groups"]) == sorted(os.getgrouplist(user.pw_name, UNNAMED))


@need_root
@need_linux
def test_number_without_name_has_only_its_group():
    found = drop(UNNAMED, UNNAMED + 1)
    assert found["Uid"] == [UNNAMED] * 4
    assert found["Gid"] == [UNNAMED + 1] * 4
    assert found["Groups"] == [UNNAMED + 1]


@need_root
@need_linux
def test_root_may_change_the_group_alone():
    found = drop(0, UNNAMED)
    assert found["Uid"] == [0] * 4
    assert found["Gid"] == [UNNAMED] * 4


@need_linux
def test_nothing_is_to_do_for_who_is_that_user():
    groups = os.getgroups()
    drop_privileges(os.geteuid(), os.getegid())
    assert os.getgroups() == groups


@need_root
def test_user_that_the_system_refuses():
    """As in a container that was started without the capability."""
    said = run(
        "os.setuid(int(sys.argv[1]))\n"
        "try:\n"
        "    privileges.drop_privileges(0, 0)\n"
        "except SettingsError as error:\n"
        "    print(error)\n",
        str(NOBODY),
    )
    assert said.startswith("--user: the system refuses to become user 0")
    assert "SETUID" in said


@need_root
@need_linux
def test_privileges_that_outlast_the_change_are_noticed():
    said = run(
        "import ctypes\n"
        "PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP = 28, 4\n"
        "if ctypes.CDLL(None).prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) != 0:\n"
        "    sys.exit()\n"
        "try:\n"
        "    privileges.drop_privileges(int(sys.argv[1]), int(sys.argv[1]))\n"
        "except SettingsError as error:\n"
        "    print(error)\n"
        "else:\n"
        "    print('nobody has noticed')\n",
        str(NOBODY),
    )
    if not said:
        pytest.skip("this container may not set secure bits")
    assert said.startswith(f"--user: root's privileges outlast the change to user {NOBODY}")


# The socket files.


def files_of(**options: str) -> SocketFiles:
    return socket_files(Settings(**options))  # type: ignore[arg-type] # all of these are texts


@need_root
def test_socket_files_are_given_before_anybody_can_meet_them(directory: Path):
    files = files_of(user=str(NOBODY), group=str(UNNAMED))
    assert files == SocketFiles(0o660, (NOBODY, UNNAMED), NOBODY, UNNAMED)
    with open_sockets([f"unix:{directory}/s", "127.0.0.1:0"], mode=files, backlog=1):
        found = (directory / "s").stat()
        assert (found.st_uid, found.st_gid) == (NOBODY, UNNAMED)
        assert stat.S_IMODE(found.st_mode) == 0o660


@need_root
@pytest.mark.parametrize(
    ("options", "owner"),
    [
        ({}, (0, 0)),
        ({"group": "1"}, (0, 1)),
        ({"socket_owner": str(NOBODY)}, (NOBODY, 0)),
        ({"socket_owner": ":2"}, (0, 2)),
        ({"socket_owner": f"{NOBODY}:2"}, (NOBODY, 2)),
        ({"socket_owner": f"{UNNAMED}:2", "user": str(NOBODY), "group": "1"}, (UNNAMED, 2)),
        ({"socket_owner": ":2", "user": str(NOBODY), "group": "1"}, (NOBODY, 2)),
    ],
)
@pytest.mark.parametrize("directory_owner", [0, NOBODY])
def test_a_socket_gets_its_owner(
    directory: Path, options: dict[str, str], owner: tuple[int, int], directory_owner: int
):
    os.chown(directory, directory_owner, directory_owner)
    with open_sockets([f"unix:{directory}/s"], mode=files_of(**options), backlog=1):
        found = (directory / "s").stat()
        assert (found.st_uid, found.st_gid) == owner
    assert names_in(directory) == []


@pytest.mark.parametrize(
    ("owner", "said"),
    [
        ("no-such-one", "--socket-owner 'no-such-one': there is no such user"),
        (":no-such-one", "--socket-owner 'no-such-one': there is no such group"),
    ],
)
def test_unknown_socket_owner_is_refused(owner: str, said: str):
    with pytest.raises(SettingsError, match=said):
        files_of(socket_owner=owner)


AS_A_MEMBER = """
if os.geteuid() == 0:
    os.setgroups([int(sys.argv[3])])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
from uwsgibridge.config.settings import Settings
os.chdir(sys.argv[1])
try:
    settings = Settings(**eval(sys.argv[4]))
    user = privileges.resolve_user(settings.user, settings.group)
    with open_sockets(["unix:s"], mode=socket_files.socket_files(settings), backlog=1):
        print(os.stat("s").st_uid, os.stat("s").st_gid, user)
except SettingsError as error:
    print(error)
"""


@need_root
@pytest.mark.parametrize("options", [{"group": "4"}, {"socket_owner": ":4"}])
def test_without_root_sockets_can_have_a_group_that_the_user_is_a_member_of(
    directory: Path, options: dict[str, str]
):
    os.chown(directory, NOBODY, NOBODY)
    said = run(AS_A_MEMBER, str(directory), str(NOBODY), "4", repr(options))
    # The process stays what it is.
    user = (NOBODY, NOBODY) if "group" in options else None
    assert said == f"{NOBODY} 4 {user}\n"


@need_root
@pytest.mark.parametrize(
    ("owner", "reason"),
    [
        (
            ":6",
            "--socket-owner :6: nobody is no member of this group; take one of adm, nogroup, or",
        ),
        ("0", "--socket-owner 0: only root can give a socket to another user; start as root"),
    ],
)
def test_without_root_nothing_else_is_given(directory: Path, owner: str, reason: str):
    os.chown(directory, NOBODY, NOBODY)
    said = run(AS_A_MEMBER, str(directory), str(NOBODY), "4", repr({"socket_owner": owner}))
    assert said.startswith(reason)


@need_root
def test_socket_file_that_can_not_be_given_is_told(directory: Path):
    """As in a container that was started without the capability."""
    os.chown(directory, NOBODY, NOBODY)
    with (
        as_nobody(),
        pytest.raises(BindError) as raised,
        open_sockets(
            [f"unix:{directory}/s"], mode=SocketFiles(0o660, None, UNNAMED, UNNAMED), backlog=1
        ),
    ):
        raise AssertionError("it was given")
    assert str(raised.value).startswith(
        f"unix:{directory}/s: the socket can't be given to user {UNNAMED} with group {UNNAMED}"
    )
    assert "--socket-owner" in str(raised.value)
    assert names_in(directory) == []


@need_root
@pytest.mark.parametrize(
    ("owner", "mode", "is_removed"),
    [(NOBODY, 0o755, True), (0, 0o1777, True), (0, 0o755, False)],
    ids=["of-the-user", "of-everybody", "of-root"],
)
def test_the_user_removes_the_socket_file_where_that_is_allowed(
    directory: Path, owner: int, mode: int, is_removed: bool
):
    directory.chmod(mode)
    os.chown(directory, owner, owner)
    run(
        "from uwsgibridge.config.settings import Settings\n"
        "files = socket_files.socket_files(Settings(user=sys.argv[2], group=sys.argv[2]))\n"
        "with open_sockets([sys.argv[1]], mode=files, backlog=1) as sockets:\n"
        "    privileges.drop_privileges(int(sys.argv[2]), int(sys.argv[2]))\n",
        f"unix:{directory}/s",
        str(NOBODY),
    )
    assert (directory / "s").exists() is not is_removed
    # What stays behind is in nobody's way.
    with open_sockets([f"unix:{directory}/s"], mode="0660", backlog=1):
        assert (directory / "s").is_socket()


# The title.

SHOW = """
def show():
    text = Path('/proc/self/cmdline').read_bytes().strip(b'\\0').decode()
    print(text, Path('/proc/self/comm').read_text().strip(), sep='|', flush=True)
"""


@need_linux
def test_title_is_what_ps_shows():
    said = run(
        SHOW + "process_title.set_title('mysite', 'supervisor')\nshow()\n", "a", "few", "words"
    )
    assert said == "mysite: supervisor|mysite:supervis\n"  # the kernel keeps 15 bytes for top


@need_linux
def test_forked_children_have_titles_of_their_own():
    said = run(
        SHOW
        # Python takes it for threads where the kernel's name of the process has spaces. As an error, the warning
        # is lost in Python 3.12 to 3.14.
        + "os.nice(5)\n"
        + "import warnings\n"
        + "warnings.simplefilter('always')\n"
        + "process_title.set_title('my site', 'template')\n"
        + "os.environ.clear()\n"  # as an application may
        + "for role in ('worker', 'a much longer role than that'):\n"
        + "    child = os.fork()\n"
        + "    if child == 0:\n"
        + "        process_title.set_title('my site', role)\n"
        + "        show()\n"
        + "        sys.exit()\n"
        + "    os.waitpid(child, 0)\n"
        + "show()\n"
    )
    titles = [line.partition("|")[0] for line in said.splitlines()]
    assert titles == [
        "my site: worker", "my site: a much longer role than that", "my site: template",
    ]  # fmt: skip


@need_linux
def test_first_title_in_a_forked_child_breaks_nothing():
    """Whatever the application has done to the environment, which is where the title's place is found."""
    said = run(
        "import subprocess\n"
        "changes = (\n"
        "    lambda: None,\n"
        "    lambda: os.environ.clear(),\n"
        "    lambda: [\n"
        "        os.environ.__setitem__(name, 'x' * 5000)\n"
        "        for name in list(os.environ)\n"
        "        if not name.startswith('PYTHON')\n"  # which the Python that is started next reads
        "    ],\n"
        "    lambda: (os.environ.clear(), os.environ.update(A='1')),\n"
        ")\n"
        "for change in changes:\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        change()\n"
        "        process_title.set_title('mysite', 'worker')\n"
        "        os.environ['AFTER'] = 'seen'\n"
        "        command = [sys.executable, '-c', 'import os; print(os.environ[\"AFTER\"])']\n"
        "        sys.exit(subprocess.run(command, check=False).returncode)\n"
        "    _, status = os.waitpid(child, 0)\n"
        "    assert status == 0, status\n"
    )
    assert said == "seen\n" * 4


@need_linux
def test_environment_outlasts_the_title():
    said = run(
        "import subprocess\n"
        "os.environ['BEFORE'] = 'kept'\n"
        "process_title.set_title('mysite' * 1000, 'worker')\n"
        "print(os.environ['BEFORE'], os.environ['PATH'] != '', flush=True)\n"
        "subprocess.run([sys.executable, '-c', 'import os; print(os.environ[\"BEFORE\"])'], check=True)\n"
    )
    assert said == "kept True\nkept\n"


@need_linux
def test_title_with_what_does_not_print():
    said = run(SHOW + "process_title.set_title('\\ud800my\\0si\\x1b[2J\\nté', 'worker')\nshow()\n")
    assert said.partition("|")[0] == "?my?si?[2J?té: worker"


@need_linux
def test_without_a_name_the_title_stays():
    said = run(
        SHOW
        + "process_title.set_title('', 'worker')\nshow()\nprint('setproctitle' in sys.modules)\n"
    )
    assert "set_title" in said
    assert said.endswith("False\n")


# The OOM killer.


@need_linux
def test_oom_score_is_raised_up_to_its_limit():
    said = run(
        "score = Path('/proc/self/oom_score_adj')\n"
        "score.write_text('200')\n"
        "for by in (0, 100, -50, 650, 100, 100):\n"
        "    oom.raise_oom_score(by)\n"
        "    print(score.read_text().strip())\n"
    )
    assert said.split() == ["200", "300", "300", "950", "1000", "1000"]


@need_linux
@need_root
def test_oom_score_that_is_out_of_reach_is_left():
    """As after a drop without an exec: the file is root's."""
    said = run(
        "privileges.drop_privileges(int(sys.argv[1]), int(sys.argv[1]))\n"
        "oom.raise_oom_score(100)\n"
        "print(Path('/proc/self/oom_score_adj').read_text().strip())\n",
        str(NOBODY),
    )
    assert said.split() == [Path("/proc/self/oom_score_adj").read_text().strip()]
