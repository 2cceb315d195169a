"""A fluxrelay client in another language, written from protocol.md alone. Needs the `websockets` package."""

import os
import struct
import time
from collections import deque

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

OUTCOMES = {"completed": 1, "failed": 2, "awaiting_player": 3, "in_doubt": 4}
STATUSES = ["", "pending", "delivered", "awaiting_player", "completed", "failed", "in_doubt", "cancelled", "expired"]
PLAYERS = {"online": 1, "joined": 2, "left": 3}


def number(size, value):
    return value.to_bytes(size, "little")


def text(value):
    data = value.encode()
    return number(2, len(data)) + data


def many(values, write):
    return number(2, len(values)) + b"".join(map(write, values))


def ids(values):
    return many(values, lambda value: number(8, value))


def player(name):
    return b"\0" + text(name)


def flagged(*fields):
    """A flags byte and the fields that are there: each field is (mask, bytes or None or True)."""
    flags = sum(mask for mask, data in fields if data)
    return bytes([flags]), b"".join(data for _, data in fields if data and data is not True)


def frame(kind, payload):
    return bytes([kind]) + number(3, len(payload)) + payload


def credential(token):
    return b"\0" if token is None else b"\1" + text(token)


def plugin_hello(token=None, window=256, held=(), started=(), finished=(), in_doubt=(), players=None):
    lists = b"".join(map(ids, (held, started, finished, in_doubt)))
    online = b"\0" if players is None else b"\1" + many(players, player)
    head = struct.pack("<HHI16sI", 1, 1, 0, os.urandom(16), window)
    return frame(0x01, head + credential(token) + lists + online)


def publisher_hello(key=None):
    return frame(0x02, struct.pack("<HHI", 1, 1, 0) + credential(key))


def results(batch, outcomes):
    """`outcomes` are (id, attempt, outcome, error, output)."""

    def one(result):
        id, attempt, outcome, error, output = result
        flags, texts = flagged((1, error and text(error)), (2, output and text(output)))
        return struct.pack("<QHB", id, attempt, OUTCOMES[outcome]) + flags + texts

    return frame(0x05, number(8, batch) + many(outcomes, one))


def players_frame(kind, names):
    return frame(0x06, bytes([PLAYERS[kind]]) + many(names, player))


def publish(request, commands, key=None, reference=None, name=None):
    """`commands` are dicts: server (a number), text, and maybe player, require_online, rerun."""

    def one(command):
        name = command.get("player")
        flags, fields = flagged(
            (1, command.get("require_online")), (2, command.get("rerun")), (4, name and player(name))
        )
        return number(4, command["server"]) + flags + text(command["text"]) + fields

    flags, head = flagged((2, key and text(key)), (4, reference and text(reference)), (8, name and player(name)))
    return frame(0x07, number(8, request) + flags + head + many(commands, one))


def subscribe(place=None):
    return frame(0x08, b"\0" if place is None else b"\1" + struct.pack("<IQ", *place))


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        assert self.at + size <= len(self.data), "the payload ends inside a field"
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size):
        return int.from_bytes(self.take(size), "little")

    def text(self):
        return self.take(self.number(2)).decode()

    def many(self, read):
        return [read() for _ in range(self.number(2))]

    def numbers(self, **sizes):
        return {name: self.number(size) for name, size in sizes.items()}

    def player(self):
        flags = self.number(1)
        return {"name": self.text(), "uuid": self.take(16).hex() if flags & 1 else None}

    def delivery(self):
        head = self.numbers(id=8, attempt=2, flags=1)
        head.update(text=self.text(), require_online=bool(head["flags"] & 1), rerun=bool(head["flags"] & 2))
        return head | {"player": self.player() if head["flags"] & 4 else None}

    def event(self):
        event = self.numbers(boot=4, ordinal=8, at=8, server=4, kind=1)
        if event["kind"] == 3:
            event |= self.numbers(seq=8, order=8, status=1, attempt=2, note=1, flags=1)
            event |= {"status": STATUSES[event["status"]], "error": self.text() if event["flags"] & 1 else None}
        return event


READERS = {
    0x10: ("ping", lambda r: r.numbers(nonce=8)),
    0x11: ("pong", lambda r: r.numbers(nonce=8)),
    0x41: ("plugin_welcome", lambda r: r.numbers(
        version=2, capabilities=4, epoch=8, heartbeat_ms=4, ack_deadline_ms=4, frame_bytes_max=4, window_max=4
    ) | {"ticket": r.take(r.number(2)), "forget": r.many(lambda: r.number(8))}),
    0x42: ("publisher_welcome", lambda r: r.numbers(
        version=2, capabilities=4, store=4, heartbeat_ms=4, frame_bytes_max=4, publishes_in_flight_max=4)),
    0x43: ("deliver", lambda r: {"commands": r.many(r.delivery)}),
    0x44: ("confirm", lambda r: r.numbers(batch=8)),
    0x45: ("published", lambda r: r.numbers(request=8, order=8, replayed=1) | {
        "commands": r.many(lambda: (r.number(4), r.number(8)))}),
    0x46: ("refused", lambda r: r.numbers(request=8, code=2, retry_after_ms=4) | {"detail": r.text()}),
    0x47: ("event", lambda r: r.event()),
    0x48: ("events_lost", lambda r: r.numbers(boot=4, ordinal=8)),
    0x49: ("go_away", lambda r: r.numbers(code=2, delay_ms=4)),
    0x4A: ("error", lambda r: r.numbers(code=2, retry_after_ms=4) | {"detail": r.text()}),
}


def decode(message):
    """The frames of one message as (name, fields)."""
    frames, rest = [], Reader(message)
    while rest.at < len(message):
        kind, payload = rest.number(1), Reader(rest.take(rest.number(3)))
        if kind in READERS:
            name, read = READERS[kind]
            frames.append((name, read(payload)))
            assert payload.at == len(payload.data), f"bytes after the last field of {name}"
        else:
            assert kind >= 0x80, f"unknown frame type {kind:#x}"
    return frames


class Link:
    """One connection. `wait` gives the next frame of a name and keeps the others for later."""

    def __init__(self, base, path, bearer=None):
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        url = base.replace("http", "ws", 1) + path
        self.socket = connect(url, subprotocols=["fluxrelay.v1"], additional_headers=headers, compression=None)
        assert self.socket.subprotocol == "fluxrelay.v1"
        self.kept = deque()

    def send(self, *frames):
        self.socket.send(b"".join(frames))

    def wait(self, name, timeout=10):
        deadline = time.monotonic() + timeout
        while True:
            for place, (found, fields) in enumerate(self.kept):
                if found == name:
                    del self.kept[place]
                    return fields
            try:
                message = self.socket.recv(timeout=max(0, deadline - time.monotonic()))
            except (TimeoutError, ConnectionClosed) as error:
                raise AssertionError(f"waited for {name}: {error!r}; got {list(self.kept)}") from None
            for found, fields in decode(message):
                if found == "ping":
                    self.send(frame(0x11, number(8, fields["nonce"])))
                else:
                    self.kept.append((found, fields))

    def closed(self, timeout=10):
        """Whether the broker closes the connection; frames before that are kept."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.kept.extend(decode(self.socket.recv(timeout=max(0, deadline - time.monotonic()))))
            except ConnectionClosed:
                return True
            except TimeoutError:
                return False

    def close(self):
        self.socket.close()
