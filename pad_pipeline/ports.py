"""Takes the port that a server listens at."""

from __future__ import annotations

import errno
import socket

from pad_pipeline.errors import Setting, UserError

_BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; connections that are made before a server accepts them wait for it.

    Port 0 takes a free one. Raises `UserError` where the port is taken or out of range, or the host
    is no address of this machine.
    """
    if not 0 <= port <= 65535:
        raise UserError(f"expected a port from 0 to 65535, found {port}")
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = infos[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise _listen_error(error, host, port) from error
    return listening


def _listen_error(error: OSError, host: str, port: int) -> UserError:
    if error.errno == errno.EADDRINUSE:
        return UserError(
            f"port {port} of {host} is taken by another program: choose another with ",
            Setting("port"),
        )
    if error.errno == errno.EACCES:
        return UserError(
            f"port {port} may not be used by this account: choose one from 1024 on with ",
            Setting("port"),
        )
    return UserError(
        f"{host} is no address of this machine ({error.strerror or error}): leave ",
        Setting("host"),
        " out, or give 0.0.0.0 for all of its addresses",
    )
