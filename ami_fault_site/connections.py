"""Say whether a process group is talking to the service: how a worker without the hook is found out (Linux)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_CLOSED = "07"  # the kernel's TCP_CLOSE; every other state means that somebody tried to connect


def talks_to(group: int, wanted: frozenset[str]) -> bool:
    """Say whether any process of the group has a TCP connection to one of these endpoints."""
    inodes = {inode for remote, inode in _connections() if remote in wanted}
    return bool(inodes) and any(inodes & set(_socket_inodes(pid)) for pid in _members(group))


def endpoints(host: str, port: int) -> frozenset[str]:
    """Return host:port as the kernel writes it: hexadecimal, each 32-bit word in the machine's order.

    None where connections cannot be seen (not on Linux) or the host has no address.
    """
    found_endpoints = set()
    if not (_PROC / "net" / "tcp").exists():
        return frozenset()
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return frozenset()
    for family, _, _, _, address in found:
        packed = socket.inet_pton(family, str(address[0]).partition("%")[0])
        if family == socket.AF_INET:
            found_endpoints.add(f"{_words(bytes(10) + bytes([255, 255]) + packed)}:{port:04X}")
        found_endpoints.add(f"{_words(packed)}:{port:04X}")
    return frozenset(found_endpoints)


def _words(packed: bytes) -> str:
    words = (packed[i : i + 4] for i in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, 'little'):08X}" for word in words)


def _connections() -> Iterator[tuple[str, str]]:
    for name in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if columns[3] != _CLOSED:
                yield columns[2], columns[9]


def _members(group: int) -> Iterator[int]:
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                if os.getpgid(int(entry.name)) == group:
                    yield int(entry.name)
            except OSError:
                continue  # it has just ended


def _socket_inodes(pid: int) -> Iterator[str]:
    try:
        for descriptor in (_PROC / str(pid) / "fd").iterdir():
            link = os.readlink(descriptor)
            if link.startswith("socket:["):
                yield link[8:-1]
    except OSError:
        return  # it has just ended, or is not ours to look at
