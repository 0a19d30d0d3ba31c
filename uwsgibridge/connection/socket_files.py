"""Decides on owner, group and mode of the files of unix sockets."""

from __future__ import annotations

import grp
import os

from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import SettingsError
from uwsgibridge.quick_dataclass import dataclass
from uwsgibridge.system.privileges import group_id, own_groups, resolve_user, user_id
from uwsgibridge.system.safe_path import (
    name_user,
)


@dataclass(frozen=True, slots=True)
class SocketFiles:
    """Owner, group and mode of the files of unix sockets.

    Attributes:
        mode: permissions of the files.
        maker: user and group with whose rights root makes the files, where these suffice; None for those of
            this process.
        uid: the owner that the files get; -1 keeps the maker.
        gid: the group that the files get; -1 keeps the maker's.
    """

    mode: int
    maker: tuple[int, int] | None = None
    uid: int = -1
    gid: int = -1


def socket_files(settings: Settings) -> SocketFiles:
    """Find owner, group and mode of the files of unix sockets.

    The files belong to ``--socket-owner``, else to ``--user`` and ``--group``, else to the user who makes them. The
    group usually lets Nginx connect (``--socket-mode 0660``). At the end, the user can remove a file only with
    write access to its directory. That is a directory of the user's own, as systemd's ``RuntimeDirectory=`` makes
    it, or one of everybody's, such as /tmp, where the user also has to own the file. In other directories, such as
    /run itself, the file stays behind, and the next start replaces it. After a failed start,
    `removing_files_unless_started` removes it.

    Args:
        settings: of which ``user``, ``group``, ``socket_owner`` and ``socket_mode`` count.

    Raises:
        SettingsError: there is no such user or group, or only root may give files to them.
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
