"""A store that keeps everything in one JSON file, for several processes of one machine."""

import asyncio
import fcntl
import json
import os
from concurrent.futures import ThreadPoolExecutor

from learning_observer_kvs import Store, StoreUnavailable
from learning_observer_kvs.config.options import Option


class OneFileKVS(Store):
    TYPE = 'onefile'
    OPTIONS = (*Store.COMMON, Option('path', 'path', required=True, doc='the file.'))

    def __init__(self, path, **common):
        super().__init__(**common)
        self.path = os.path.abspath(path)
        self.thread = ThreadPoolExecutor(1)  # off the event loop, and in the order of the calls

    def location(self):
        return self.path

    async def read_bytes(self, keys):
        texts = await self._in_thread(self._load)
        return [texts.get(key) for key in keys]

    async def commit_bytes(self, writes, expected):
        return await self._in_thread(self._change, writes, expected)

    async def _scan(self, prefix, cursor, limit):
        texts = await self._in_thread(self._load)
        keys = sorted(key for key in texts if key.startswith(prefix) and key > (cursor or ''))
        return keys[:limit], keys[limit - 1] if len(keys) > limit else None

    async def _in_thread(self, function, *arguments):
        try:
            return await asyncio.get_running_loop().run_in_executor(self.thread, function, *arguments)
        except OSError as error:
            raise StoreUnavailable(f'{self.path}: {error}') from error

    def _load(self):
        if not os.path.exists(self.path):
            return {}
        with open(self.path) as file:
            return {key: text.encode(errors='surrogateescape') for key, text in json.load(file).items()}

    def _change(self, writes, expected):
        with open(f'{self.path}.lock', 'w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed; other processes wait
            texts = self._load()
            if any(texts.get(key) != text for key, text in expected.items()):
                return False
            texts |= writes
            with open(f'{self.path}.new', 'w') as file:
                kept = {key: text.decode(errors='surrogateescape') for key, text in texts.items() if text is not None}
                json.dump(kept, file)
            os.replace(f'{self.path}.new', self.path)  # readers see the old file or the new one
            return True
