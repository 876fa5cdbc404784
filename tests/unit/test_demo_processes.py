"""The ports that the demonstration gives to its institutions."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from gateway.demo.processes import free_ports

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_ports_are_distinct_and_free() -> None:
    ports = free_ports(40)
    assert len(set(ports)) == 40
    for port in ports:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))


@pytest.mark.skipif(sys.platform != "linux", reason="the range is read as Linux says it")
def test_no_connection_of_somebody_else_gets_a_port_meanwhile() -> None:
    first, last = map(int, RANGE.read_text().split())
    assert not [port for port in free_ports(200) if first <= port <= last]
