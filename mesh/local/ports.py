"""Finds free loopback ports and holds them until their server takes them.

They are below the range that the system hands out by itself.
"""

import errno
import random
import socket
from pathlib import Path

from mesh.operator.errors import OperatorError

LOWEST = 15000
HOST = "127.0.0.1"


def _highest() -> int:
    """The last port below the ephemeral ones; a common bound where the system doesn't tell."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]) - 1
    except (OSError, ValueError):
        return 32767


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a server could listen on the port of an address of ours now.

    Raises:
        OperatorError: the port needs a privilege that we don't have.
    """
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        # A port that only closed connections linger on can be listened on.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise OperatorError(
                f"cannot listen on port {port} ({error.strerror}): choose one above 1023 with EDGE_PORT="
            ) from None
    return True


def free_port(avoid: frozenset[int] = frozenset()) -> int:
    """A port that is free now, at random, so that two meshes that start together rarely meet.

    Raises:
        OperatorError: none was found.
    """
    highest = _highest()
    lowest = LOWEST if highest - LOWEST >= 1000 else 1024
    for _ in range(200):
        port = random.randint(lowest, highest)
        if port not in avoid and is_free(port):
            return port
    raise OperatorError(f"no free port between {lowest} and {highest} on {HOST}")


class HeldPorts:
    """Ports that are ours while this is open.

    A server that sets SO_REUSEPORT and runs under our account, as Envoy does, can still listen on them: a socket that
    is bound and does not listen gets no connections.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def hold(self, port: int, host: str = HOST) -> int:
        """Takes this port of an address.

        Raises:
            OperatorError: someone else has it.
        """
        if not is_free(port, host):
            raise OperatorError(f"port {port} is in use")
        held = socket.socket(_family(host), socket.SOCK_STREAM)
        self._sockets.append(held)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            try:
                held.bind((host, port))
            except OSError:
                # Connections that were closed a moment ago linger on it. This way others could take it before its
                # server does; still, it is there to be taken.
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                held.bind((host, port))
        except OSError as error:
            raise OperatorError(f"port {port} is in use ({error.strerror})") from None
        return port

    def hold_any(self) -> int:
        """Takes a free port.

        Raises:
            OperatorError: none was found.
        """
        return self.hold(free_port())

    def close(self) -> None:
        """Gives all of them back."""
        for held in self._sockets:
            held.close()
        self._sockets.clear()
