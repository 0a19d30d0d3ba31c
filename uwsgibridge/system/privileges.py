"""Finds the user and group that processes run as, and drops privileges."""

from __future__ import annotations

import grp
import os
import pwd
from typing import Final

from uwsgibridge.errors import SettingsError
from uwsgibridge.system.safe_path import set_groups

# setreuid(2) takes (uid_t) -1 for "no change".
_MAX_ID: Final = 2**32 - 2


def resolve_user(user: str, group: str) -> tuple[int, int] | None:
    """Find the user and group that ``--user`` and ``--group`` name.

    Args:
        user: a name or a number; empty for the user of this process.
        group: a name or a number; empty for the user's primary group, or for the group of this process
            where it runs as that user already.

    Returns:
        The numbers of user and group to become; None where neither is given. A process that is not root may
        name a group that its user is a member of: only the sockets get that group.

    Raises:
        SettingsError: there is no such user or group, or only root may become them.
    """
    if not user and not group:
        return None
    own = os.geteuid(), os.getegid()
    uid = user_id(user) if user else own[0]
    if group:
        gid = group_id(group)
    elif uid == own[0]:
        gid = own[1]
    else:
        gid = _primary_group_id(user, uid)
    if own[0] != 0 and uid == own[0] and gid in own_groups():
        return own  # only the sockets get the group: see `socket_files`
    if own[0] != 0 and (uid, gid) != own:
        option = f"--user {user}" if uid != own[0] else f"--group {group}"
        raise SettingsError(f"{option}: only root can become another; start as root, or without it")
    return uid, gid


def drop_privileges(uid: int, gid: int) -> None:
    """Become a user for good, with `gid` and the groups that the system's list gives that user.

    Does nothing where the process has that user and group already. Afterwards, until the next exec, Linux
    allows core dumps and files such as ``/proc/self/oom_score_adj`` to root alone (PR_SET_DUMPABLE).

    Args:
        uid: of `resolve_user`.
        gid: of `resolve_user`.

    Raises:
        SettingsError: the system refuses it, or the process could become root again.
    """
    if {os.getuid(), os.geteuid()} == {uid} and {os.getgid(), os.getegid()} == {gid}:
        return
    try:
        # Groups first: after the change of user, they can't be changed any more.
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


def own_groups() -> set[int]:
    return {os.getegid(), *os.getgroups()}


def user_id(user: str, option: str = "--user") -> int:
    number = _number(user)
    if number is not None:
        return number
    try:
        return pwd.getpwnam(user).pw_uid
    except (KeyError, ValueError):  # ValueError: the system's list can't have such a name
        raise SettingsError(f"{option} {user!r}: there is no such user") from None


def group_id(group: str, option: str = "--group") -> int:
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
