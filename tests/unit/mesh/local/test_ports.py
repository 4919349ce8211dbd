"""Loopback ports."""

import socket

import pytest

from mesh.local.ports import HOST, HeldPorts, free_port, is_free
from mesh.operator.errors import OperatorError


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
