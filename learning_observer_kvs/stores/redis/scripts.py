"""What runs inside Redis: the scripts of the Redis stores.

A script is atomic, and is sent by its digest; the server learns its text when it does not know it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import NoScriptError

from learning_observer_kvs.stores.redis.cluster_client import Command

Exchange = Callable[[Sequence[Command]], Awaitable[list[Any]]]

RECORD_MS = 3_600_000
"""How long the record of a writer's last batch is kept: far longer than that batch could be sent again."""


@dataclass(frozen=True)
class Script:
    """A Lua script and its digest."""

    text: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'digest', hashlib.sha1(self.text.encode()).hexdigest())


READ = Script("""
-- Like MGET, but a key that holds no text is an error in its place, and not a missing one.
local found = {}
for i, key in ipairs(KEYS) do
    found[i] = redis.pcall('GET', key)
end
return found
""")

COMMIT = Script(f"""
-- A batch of commits of one writer, applied once however often it arrives.
-- KEYS: the writer's record, then the keys of each commit, each once.
-- ARGV: the batch's number, milliseconds to live (0: for ever); then for each commit a word with two letters a key,
-- and the texts that its letters ask for, in order. The first letter says what the key must hold: * anything, 0
-- nothing, = this text, # a text of this SHA-1. The second says what becomes of it: * nothing, S it is set to this
-- text, - it is removed, E only its time to live begins anew. The texts come after the word.
-- The reply has a letter a commit: 1 done, 0 not done (the condition failed, or nothing was there to remove), T a key
-- to compare holds no text.
local number, expiry = ARGV[1], ARGV[2]
local record = redis.call('GET', KEYS[1])
if record then
    local last, reply = string.match(record, '^(%d+) (.*)$')
    if last == number then return reply end
    if tonumber(last) > tonumber(number) then return redis.error_reply('LATE a newer batch was applied') end
end
local call, byte = redis.call, string.byte
local outcomes, k, a, count = {{}}, 2, 3, #ARGV
while a <= count do
    local word = ARGV[a]
    a = a + 1
    local letters = #word
    local outcome, compared = '1', false
    for i = 1, letters, 2 do
        local wanted = byte(word, i)
        if wanted ~= 42 then
            compared = true
            local text = redis.pcall('GET', KEYS[k + (i - 1) / 2])
            if type(text) == 'table' then
                if outcome == '1' then outcome = 'T' end
            elseif wanted == 48 then
                if text then outcome = '0' end
            elseif wanted == 61 then
                if text ~= ARGV[a] then outcome = '0' end
            elseif not text or redis.sha1hex(text) ~= ARGV[a] then
                outcome = '0'
            end
            if wanted ~= 48 then a = a + 1 end
        end
    end
    local there = compared
    for i = 1, letters, 2 do
        local act = byte(word, i + 1)
        if act == 83 then
            if outcome == '1' then
                if expiry == '0' then
                    call('SET', KEYS[k], ARGV[a])
                else
                    call('SET', KEYS[k], ARGV[a], 'PX', expiry)
                end
                there = true
            end
            a = a + 1
        elseif act == 45 and outcome == '1' and call('UNLINK', KEYS[k]) == 1 then
            there = true
        elseif act == 69 and outcome == '1' then
            call('PEXPIRE', KEYS[k], expiry)
        end
        k = k + 1
    end
    if outcome == '1' and not there then outcome = '0' end
    outcomes[#outcomes + 1] = outcome
end
local reply = table.concat(outcomes)
redis.call('SET', KEYS[1], number .. ' ' .. reply, 'PX', {RECORD_MS})
return reply
""")


async def run(exchange: Exchange, script: Script, calls: Sequence[Sequence[Any]]) -> list[Any]:
    """Run a script with each of these numbers of keys, keys and arguments; the replies, errors in their places."""
    commands: list[Command] = [('EVALSHA', script.digest, *call) for call in calls]
    replies = await exchange(commands)
    if any(isinstance(reply, NoScriptError) for reply in replies):
        # The server does not know it yet, so none of its calls has run; to others of a cluster they are known.
        replies = await exchange([('EVAL', script.text, *call) for call in calls])
    return replies
