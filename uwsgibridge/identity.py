"""Who the processes are to the system: user and group, title, and rank for the OOM killer."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import sys
from pathlib import Path
from typing import Final

from uwsgibridge.config.settings import Settings, SettingsError
from uwsgibridge.listener.sockets import SocketFiles
from uwsgibridge.system.safe_path import name_user, set_groups

# (uid_t) -1 means "leave it as it is": setreuid(2).
_MAX_ID: Final = 2**32 - 2

# proc_pid_oom_score_adj(5).
_OOM_SCORE: Final = Path("/proc/self/oom_score_adj")
_MAX_OOM_SCORE: Final = 1000


def resolve_user(user: str, group: str) -> tuple[int, int] | None:
    """Find out whom ``--user`` and ``--group`` mean.

    Args:
        user: a name or a number; empty for the one that runs this process.
        group: a name or a number; empty for the user's primary group, or for that of this process
            where it runs as that user already.

    Returns:
        The numbers of user and group to become; None where neither is given. Without root, a group that
        the user is a member of is fine: then it is the group of the sockets alone.

    Raises:
        SettingsError: there is no such user or group, or it takes root to become them.
    """
    if not user and not group:
        return None
    own = os.geteuid(), os.getegid()
    uid = _user_id(user) if user else own[0]
    if group:
        gid = _group_id(group)
    elif uid == own[0]:
        gid = own[1]
    else:
        gid = _primary_group_id(user, uid)
    if own[0] != 0 and uid == own[0] and gid in _own_groups():
        return own  # the group is for the sockets: see `socket_files`
    if own[0] != 0 and (uid, gid) != own:
        option = f"--user {user}" if uid != own[0] else f"--group {group}"
        raise SettingsError(f"{option}: only root can become another; start as root, or without it")
    return uid, gid


def drop_privileges(uid: int, gid: int) -> None:
    """Become a user for good, with the groups that the system's list gives them beside `gid`.

    Does nothing where the process is that user and group already. Until the next exec, Linux then
    leaves core dumps and files such as ``/proc/self/oom_score_adj`` to root alone (PR_SET_DUMPABLE).

    Args:
        uid: of `resolve_user`.
        gid: of `resolve_user`.

    Raises:
        SettingsError: the system refuses it, or would let the process be root again.
    """
    if {os.getuid(), os.geteuid()} == {uid} and {os.getgid(), os.getegid()} == {gid}:
        return
    try:
        # In this order: once the user is another, groups are out of reach.
        set_groups(uid, gid)
        os.setgid(gid)
        os.setuid(uid)
    except OSError as error:
        raise SettingsError(
            f"--user: the system refuses to become user {uid} with group {gid}: {error.strerror}; a "
            "container needs the capabilities SETUID and SETGID for it"
        ) from None
    if uid != 0 and _can_become_root():
        raise SettingsError(
            f"--user: root's privileges outlast the change to user {uid}; start without the secure bit "
            "no-setuid-fixup"
        )


def socket_files(settings: Settings) -> SocketFiles:
    """Find out whose the files of unix sockets are to be.

    They are ``--socket-owner``'s, else those of ``--user`` and ``--group``, else whoever makes them. The
    group is what usually lets Nginx in (``--socket-mode 0660``). At the end, the user can remove a file
    only if they may write in its directory: one of their own, as systemd's ``RuntimeDirectory=`` makes
    it, or one that is everybody's, such as /tmp, where they have to own the file as well. In any other,
    such as /run itself, the file stays behind, and the next start replaces it.

    Args:
        settings: say it in ``user``, ``group``, ``socket_owner`` and ``socket_mode``.

    Raises:
        SettingsError: there is no such user or group, or it takes root to give files to them.
    """
    user = resolve_user(settings.user, settings.group)
    uid, gid = user if user is not None else (-1, -1)
    if settings.group:
        gid = _group_id(settings.group)
    name, _, group = settings.socket_owner.partition(":")
    option = f"--socket-owner {settings.socket_owner}"
    if name:
        uid = _user_id(name, "--socket-owner")
    if group:
        gid = _group_id(group, "--socket-owner")
    if os.geteuid() != 0:
        if uid not in {-1, os.geteuid()}:
            raise SettingsError(
                f"{option}: only root can give a socket to another user; start as root"
            )
        if gid not in {-1, *_own_groups()}:
            raise SettingsError(
                f"{option}: {name_user(os.geteuid())} is no member of this group; take one of "
                f"{_named_groups()}, or start as root"
            )
    maker = user if os.geteuid() == 0 and user is not None and user[0] != 0 else None
    return SocketFiles(int(settings.socket_mode, 8), maker, uid, gid)


def set_title(name: str, role: str) -> None:
    """Show the process as ``name: role`` in ps and top.

    The memory for it is found by way of the environment as the process got it, once, and forked
    children inherit what was found: who forks sets a title before it runs code of others, which may
    change the environment. ``/proc/PID/environ`` is blank afterwards; ``os.environ`` stays.

    Args:
        name: of the site or service; with an empty one nothing is done.
        role: such as ``worker``.
    """
    # macOS: the package ends a forked child there with SIGSEGV (dvarrazzo/py-setproctitle#113, #165).
    if not name or sys.platform == "darwin":
        return
    from setproctitle import setproctitle

    # A title is never worth an exception, as for a surrogate, nor an escape sequence on a terminal.
    setproctitle("".join(it if it.isprintable() else "?" for it in f"{name}: {role}"))


def raise_oom_score(by: int) -> None:
    """Have the OOM killer prefer this process, and those that it forks, to its parent.

    Linux; does nothing elsewhere, nor where the system refuses it.

    Args:
        by: added to the score that the process has, up to 1000 in all; 0 leaves it.
    """
    if by <= 0 or sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        score = int(_OOM_SCORE.read_bytes()) + by
        _OOM_SCORE.write_bytes(b"%d" % min(score, _MAX_OOM_SCORE))


def _own_groups() -> set[int]:
    return {os.getegid(), *os.getgroups()}


def _named_groups() -> str:
    names = []
    for gid in sorted(_own_groups()):
        try:
            names.append(grp.getgrgid(gid).gr_name)
        except KeyError:
            names.append(str(gid))
    return ", ".join(names)


def _user_id(user: str, option: str = "--user") -> int:
    number = _number(user)
    if number is not None:
        return number
    try:
        return pwd.getpwnam(user).pw_uid
    except (KeyError, ValueError):  # ValueError: no name that the system's list could have
        raise SettingsError(f"{option} {user!r}: there is no such user") from None


def _group_id(group: str, option: str = "--group") -> int:
    number = _number(group)
    if number is not None:
        return number
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        raise SettingsError(f"{option} {group!r}: there is no such group") from None


def _primary_group_id(user: str, uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        raise SettingsError(
            f"--user {user}: this number has no name, and so no primary group; add --group"
        ) from None


def _number(text: str) -> int | None:
    if text.isascii() and text.isdecimal() and len(text) <= len(str(_MAX_ID)):
        number = int(text)
        return number if number <= _MAX_ID else None
    return None


def _can_become_root() -> bool:
    try:
        os.setuid(0)
    except PermissionError:
        return False
    return True
