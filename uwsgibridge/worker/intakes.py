"""Makes what accepts connections in batches and hands plain requests to their hosts: the accelerator's part of a listener."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from uwsgibridge.connection.connection import Connection, keeps_input_in_kernel
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.fast import Intake, accelerator
from uwsgibridge.hosts.mounts import Mounts
from uwsgibridge.link.flights import FlightRecorder
from uwsgibridge.protocol.packet import PacketLimits
from uwsgibridge.protocol.request import Request
from uwsgibridge.quick_dataclass import dataclass
from uwsgibridge.telemetry.counters import Counters, RequestCount

if TYPE_CHECKING:
    from uwsgibridge.worker.peer_check import PeerCheck

Take = Callable[[Connection, int | None], None]


@dataclass(frozen=True, slots=True, eq=False)
class Intakes:
    """What all intakes of a worker have in common.

    Attributes:
        mounts: the hosts.
        limits: what a packet may have.
        max_body_bytes: what a body may have; 0 is no limit.
        max_requests: the requests from this number on are not plain; 0 for none.
        counters: where requests are counted.
        looks: whether requests of clients that are gone are no plain ones.
        peers: looks who connects; None where everybody may.
    """

    mounts: Mounts
    limits: PacketLimits
    max_body_bytes: int
    max_requests: int
    counters: Counters
    looks: bool
    peers: PeerCheck | None = None

    def make(
        self,
        listening: ListeningSocket,
        flights: FlightRecorder,
        take: Take,
        counters: RequestCount | None = None,
    ) -> Intake | None:
        """Make an intake; None without the accelerator.

        Args:
            listening: where it accepts.
            flights: of the thread that accepts.
            take: called in that thread with a connection that is not plain, and with the number of bytes that `flights`
                has of it; None where nothing was received.
            counters: where that thread counts its requests, where others accept at the same time.
        """
        if accelerator is None:
            return None
        return accelerator.Intake(
            connection_type=Connection,
            request_type=Request,
            family=int(listening.socket.family),
            keeps_input=keeps_input_in_kernel(is_unix=listening.is_unix),
            max_vars_bytes=self.limits.max_vars_bytes,
            max_vars=self.limits.max_vars,
            max_body_bytes=self.max_body_bytes,
            max_requests=self.max_requests,
            flights=flights,
            arrived=(counters or self.counters.own).cell,
            host=self.mounts.only,
            select=self.mounts.select,
            looks=self.looks,
            file_prefixes=self.mounts.file_prefixes,
            take=take,
            listening=listening.socket.fileno(),
            admits=None if self.peers is None else self.peers.of(listening),
        )
