"""The socket that the server listens on."""

from __future__ import annotations

import socket

import pytest

from hpskit.errors import InputError
from hpskit.web import listen, socket_name


def test_replies_are_sent_at_once() -> None:
    """asyncio turns Nagle's algorithm off only where a socket says that it is TCP; else each reply takes 40 ms more."""
    with listen("127.0.0.1", 0) as made:
        assert made.proto == socket.IPPROTO_TCP
        assert socket_name(made).startswith("127.0.0.1:")


def test_an_address_that_is_taken_is_named() -> None:
    with listen("127.0.0.1", 0) as made, made.dup():
        port = made.getsockname()[1]
        with pytest.raises(InputError, match=f"127.0.0.1:{port}"):
            listen("127.0.0.1", port)
