"""Whose the files of unix sockets are to be, and with which mode."""

from __future__ import annotations

import grp
import os
from dataclasses import dataclass

from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import SettingsError
from uwsgibridge.system.privileges import group_id, own_groups, resolve_user, user_id
from uwsgibridge.system.safe_path import (
    name_user,
)


@dataclass(frozen=True, slots=True)
class SocketFiles:
    """Whose the files of unix sockets are, and what they permit.

    Attributes:
        mode: permissions.
        maker: user and group as whom root makes them where that user may; None for this process's.
        uid: the owner that they are given; -1 leaves who made them.
        gid: the group that they are given; -1 leaves that of who made them.
    """

    mode: int
    maker: tuple[int, int] | None = None
    uid: int = -1
    gid: int = -1


def socket_files(settings: Settings) -> SocketFiles:
    """Find out whose the files of unix sockets are to be.

    They are ``--socket-owner``'s, else those of ``--user`` and ``--group``, else whoever makes them. The
    group is what usually lets Nginx in (``--socket-mode 0660``). At the end, the user can remove a file
    only if they may write in its directory: one of their own, as systemd's ``RuntimeDirectory=`` makes
    it, or one that is everybody's, such as /tmp, where they have to own the file as well. In any other,
    such as /run itself, the file stays behind, and the next start replaces it; after a start that failed,
    `removing_files_unless_started` removes it.

    Args:
        settings: say it in ``user``, ``group``, ``socket_owner`` and ``socket_mode``.

    Raises:
        SettingsError: there is no such user or group, or it takes root to give files to them.
    """
    user = resolve_user(settings.user, settings.group)
    uid, gid = user if user is not None else (-1, -1)
    if settings.group:
        gid = group_id(settings.group)
    name, _, group = settings.socket_owner.partition(":")
    option = f"--socket-owner {settings.socket_owner}"
    if name:
        uid = user_id(name, "--socket-owner")
    if group:
        gid = group_id(group, "--socket-owner")
    if os.geteuid() != 0:
        if uid not in {-1, os.geteuid()}:
            raise SettingsError(
                f"{option}: only root can give a socket to another user; start as root"
            )
        if gid not in {-1, *own_groups()}:
            raise SettingsError(
                f"{option}: {name_user(os.geteuid())} is no member of this group; take one of "
                f"{named_groups()}, or start as root"
            )
    maker = user if os.geteuid() == 0 and user is not None and user[0] != 0 else None
    return SocketFiles(int(settings.socket_mode, 8), maker, uid, gid)


def named_groups() -> str:
    names = []
    for gid in sorted(own_groups()):
        try:
            names.append(grp.getgrgid(gid).gr_name)
        except KeyError:
            names.append(str(gid))
    return ", ".join(names)
