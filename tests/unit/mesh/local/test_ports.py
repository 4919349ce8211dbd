"""Loopback ports."""

import socket

import pytest

from mesh.local.ports import HOST, HeldPorts, free_port, is_free
from mesh.operator.errors import OperatorError


def test_a_port_on_which_closed_connections_linger_can_be_held_and_served() -> None:
    port = free_port()
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((HOST, port))
        server.listen()
        with socket.create_connection((HOST, port)) as client:
            # Who closes first has the connection linger.
            accepted, _ = server.accept()
            accepted.close()
            assert client.recv(1) == b""
    with socket.socket() as plain, pytest.raises(OSError, match="in use"):
        plain.bind((HOST, port))
    ports = HeldPorts()
    try:
        assert ports.hold(port) == port
        with socket.socket() as envoy:
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                envoy.setsockopt(socket.SOL_SOCKET, option, 1)
            envoy.bind((HOST, port))
            envoy.listen()
    finally:
        ports.close()


def test_a_free_port_is_below_the_ephemeral_ones() -> None:
    assert free_port() < 32768


def test_a_port_that_somebody_listens_on_is_busy() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(OperatorError, match=f"port {port} is in use"):
            HeldPorts().hold(port)


def test_a_held_port_is_busy_for_others_and_open_to_a_server_with_reuse_port() -> None:
    ports = HeldPorts()
    port = ports.hold_any()
    try:
        assert not is_free(port)
        with socket.create_server((HOST, port), reuse_port=True), socket.create_connection((HOST, port), timeout=1):
            assert not is_free(port)
    finally:
        ports.close()
    assert is_free(port)
