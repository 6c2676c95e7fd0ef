"""What the parts can do, with nothing around them: without a promise, a key or an event loop."""

from __future__ import annotations

import gc
import json
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import hiredis
import orjson

from tests.benchmarks.contender import LIMIT, Contender, Done, Load, Location
from tests.benchmarks.load import EVENTS, State, student

PIPELINE = 100
"""How many commands go in one packet."""

ROWS = 200
"""How many rows go in one transaction."""


Decode = Callable[[bytes], Any]
Encode = Callable[[Any], bytes]


def our_codec() -> tuple[Decode, Encode]:
    """Return the package's; imported here, because older checkouts of the package have another."""
    from learning_observer_kvs import json_codec

    return json_codec.decode, json_codec.encode


class Limit(Contender):
    """Reduces events in plain loops."""

    promise = LIMIT

    async def open(self, state: State) -> None:
        self.state = state
        self.names = [state.keys(student(number)) for number in range(1000)]

    async def run(self, load: Load) -> Done:
        events = load.students * load.each
        gc.collect()
        started = time.perf_counter()
        self.reduce(events, min(load.students, len(self.names)))
        return Done(events, time.perf_counter() - started)

    def reduce(self, events: int, students: int) -> None:
        """Reduce so many events of so many students."""
        raise NotImplementedError

    def pair(self, number: int) -> tuple[bytes, bytes]:
        """Return the texts of a student's two states after an event."""
        internal, external = self.state.reduce(EVENTS[number % len(EVENTS)], self.state.null_state())
        return _compact(internal), _compact(external)


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(',', ':'), ensure_ascii=False).encode()


class Codec(Limit):
    """A dictionary of JSON text: decode, reduce, encode twice."""

    name = 'limit: dictionary and our codec'

    def codec(self) -> tuple[Decode, Encode]:
        """Return what decodes a text and what encodes a value."""
        return our_codec()

    async def open(self, state: State) -> None:
        await super().open(state)
        self._decode, self._encode = self.codec()
        first = self._encode(state.null_state())
        self.texts = {key: first for pair in self.names for key in pair}

    def reduce(self, events: int, students: int) -> None:
        texts, names, decode, encode, reduce = self.texts, self.names, self._decode, self._encode, self.state.reduce
        for number in range(events):
            internal_key, external_key = names[number % students]
            internal, external = reduce(EVENTS[number % len(EVENTS)], decode(texts[internal_key]))
            texts[internal_key] = encode(internal)
            texts[external_key] = encode(external)


class LooseCodec(Codec):
    """The same with orjson, which would store NaN as null and accept what is read back as another value."""

    name = 'limit: dictionary and orjson'

    def codec(self) -> tuple[Decode, Encode]:
        return orjson.loads, orjson.dumps


class BareSocket(Limit):
    """The same bytes, packed beforehand, through one socket: MSET of both states, many in a packet."""

    name = 'limit: the same bytes through a bare socket'

    def __init__(self, location: Location) -> None:
        super().__init__(location)
        self._reader = hiredis.Reader()

    async def open(self, state: State) -> None:
        await super().open(state)
        prefix = self.location.fresh()
        self.names = [(f'{prefix}:{internal}', f'{prefix}:{external}') for internal, external in self.names]
        self._socket = socket.create_connection(('127.0.0.1', self.location.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._commands = [self._mset(number, *self.pair(number)) for number in range(len(self.names))]

    def _mset(self, number: int, internal: bytes, external: bytes) -> bytes:
        internal_key, external_key = self.names[number]
        command: tuple[Any, ...] = ('MSET', internal_key, internal, external_key, external)
        return bytes(hiredis.pack_command(command))

    def reduce(self, events: int, students: int) -> None:
        size = min(students, PIPELINE, max(1, (4 << 20) // len(self._commands[0])))
        starts = range(0, students - size + 1, size)
        packets = [b''.join(self._commands[start : start + size]) for start in starts]
        done = 0
        while done < events:
            for packet in packets:
                self._exchange(packet, size)
                done += size
                if done >= events:
                    return

    def _exchange(self, packet: bytes, count: int) -> None:
        self._socket.sendall(packet)
        while count:
            self._reader.feed(self._socket.recv(65536))
            while (reply := self._reader.gets()) is not False:
                if reply != b'OK':
                    raise RuntimeError(f'Redis answered {reply!r}.')
                count -= 1

    async def close(self) -> None:
        self._socket.close()


class CodecAndSocket(BareSocket):
    """Decode, reduce, encode, pack, send: what one Python process can do on one core without promising anything."""

    name = 'limit: our codec and a bare socket'

    async def open(self, state: State) -> None:
        await super().open(state)
        self._decode, self._encode = our_codec()
        self._texts = [self._encode(state.null_state())] * len(self.names)

    def reduce(self, events: int, students: int) -> None:
        size = min(students, PIPELINE, max(1, (4 << 20) // len(self._commands[0])))
        packet: list[bytes] = []
        decode, encode, reduce = self._decode, self._encode, self.state.reduce
        for number in range(events):
            position = number % students
            internal, external = reduce(EVENTS[number % len(EVENTS)], decode(self._texts[position]))
            text = self._texts[position] = encode(internal)
            packet.append(self._mset(position, text, encode(external)))
            if len(packet) == size:
                self._exchange(b''.join(packet), size)
                packet.clear()
        if packet:
            self._exchange(b''.join(packet), len(packet))


class BareSQLite(Limit):
    """The same bytes, encoded beforehand, into SQLite: one durable transaction for every 200 rows."""

    name = f'limit: SQLite itself, {ROWS} rows a transaction'

    async def open(self, state: State) -> None:
        await super().open(state)
        self._directory = self.location.directory / self.location.fresh()
        self._directory.mkdir()
        self._database = sqlite3.connect(self._directory / 'limit.sqlite3', isolation_level=None)
        self._database.execute('PRAGMA journal_mode = WAL')
        self._database.execute('PRAGMA synchronous = FULL')
        self._database.execute('CREATE TABLE kvs (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID')
        self._pairs = [self.pair(number) for number in range(len(self.names))]
        self._written = 0

    def reduce(self, events: int, students: int) -> None:
        rows: list[tuple[str, bytes]] = []
        for number in range(events):
            position = number % students
            self._written += 1
            # A page that does not change is not written, so each text ends in another number.
            end = b',"n":%d}' % self._written
            for key, text in zip(self.names[position], self._pairs[position], strict=True):
                rows.append((key, text[:-1] + end))
            if len(rows) >= ROWS:
                self._commit(rows)
        self._commit(rows)

    def _commit(self, rows: list[tuple[str, bytes]]) -> None:
        self._database.execute('BEGIN IMMEDIATE')
        self._database.executemany('REPLACE INTO kvs VALUES (?, ?)', rows)
        self._database.execute('COMMIT')
        rows.clear()

    async def close(self) -> None:
        self._database.close()
        shutil.rmtree(self._directory, ignore_errors=True)
