"""The Lua scripts that the Redis stores run in the server, and the codes by which Python and Lua understand each other.

A script is atomic. It is called by its digest; a server that does not know it yet gets its text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from learning_observer_kvs.errors import KVSError
from learning_observer_kvs.stores.redis import redis_py
from learning_observer_kvs.stores.redis.cluster_client import Command

Exchange = Callable[[Sequence[Command]], Awaitable[list[Any]]]

RECORD_MS = 86_400_000
"""Milliseconds for which an idempotency record is kept after its writer's last batch.

Its writer may be killed and never remove it, so it expires. A day is longer than any outage in which a batch is sent
again, and longer than most caches live: ``volatile-ttl`` evicts those first.
"""

NEW_RECORD = '[0,""]'
"""The idempotency record of a writer that has not written yet. Records are JSON: the sequence and the outcomes."""

# What a key must hold for a commit: anything, nothing, a text that is sent, a text whose SHA-1 is sent.
ANYTHING, ABSENT, EQUAL_TEXT, EQUAL_SHA1 = b'*', b'0', b'=', b'#'

# What a commit does with a key: nothing, set it to a text that is sent, set it to the text that was sent last (for the
# key before), delete it, begin its TTL anew.
KEEP, SET, SET_AGAIN, DELETE, REFRESH_TTL = b'*', b'S', b'A', b'-', b'E'

# What became of a commit: applied; not applied, because a condition failed or there was nothing to delete; not applied,
# because a key that was to be compared does not hold a string; not applied, because the server refuses a command.
APPLIED, NOT_APPLIED, WRONG_TYPE, REFUSED = b'10TR'

# The reply to a batch of which nothing was applied, because the record is not that of a batch just before: it is gone,
# or older, since the server lost what it had not saved or replicated; or this is a late copy of an old batch.
NO_RECORD = b'?'


@dataclass(frozen=True)
class Script:
    """A Lua script and its digest.

    Args:
        text: the script.
    """

    text: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'digest', hashlib.sha1(self.text.encode()).hexdigest())


READ = Script("""
-- Like MGET, but a key that does not hold a string gives an error in its place, and does not look like a missing one.
local found = {}
for i, key in ipairs(KEYS) do
    found[i] = redis.pcall('GET', key)
end
return found
""")

HIDDEN = Script("""
-- Write a hidden record about a store, if it is as expected; an empty text stands for no record.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('UNLINK', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2]) end
return 1
""")

COMMIT = Script(f"""
-- Apply a batch of commits of one writer, once however often it arrives, or nothing of it.
-- KEYS: the writer's idempotency record, then the keys of each commit, each once.
-- ARGV: the sequence of the batch, that of the last one that was answered, the TTL in milliseconds (0: none), which of
-- DELETE and REFRESH_TTL occur in the batch; then for each commit its codes (two letters a key: what it must hold,
-- what is done with it), the texts and digests to compare with, the texts to set.
-- The reply has one letter a commit.
local ANYTHING, ABSENT, EQUAL_TEXT = {ANYTHING[0]}, {ABSENT[0]}, {EQUAL_TEXT[0]}
local SET, SET_AGAIN, DELETE, REFRESH_TTL = {SET[0]}, {SET_AGAIN[0]}, {DELETE[0]}, {REFRESH_TTL[0]}
local APPLIED, NOT_APPLIED = '{APPLIED:c}', '{NOT_APPLIED:c}'
local WRONG_TYPE, REFUSED = '{WRONG_TYPE:c}', '{REFUSED:c}'
local sequence, answered, ttl_ms, actions = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local call, byte = redis.call, string.byte

local record = call('GET', KEYS[1])
if not record then return '{NO_RECORD.decode()}' end
local last, reply = string.match(record, '^%[(%d+),"(.*)"]$')
if last == sequence then return reply end
if last ~= answered and (not last or last - answered < 0 or last - sequence > 0) then return '{NO_RECORD.decode()}' end

-- A server may refuse some commands to this user. One that is refused after another one has written would leave a
-- commit half applied; so each is tried on the record before. SET comes last, as the one that a full memory refuses.
local refused = ''
if actions ~= '' then
    if string.find(actions, '{REFRESH_TTL.decode()}', 1, true) then
        local tried = redis.pcall('PEXPIRE', KEYS[1], {RECORD_MS})
        if type(tried) == 'table' then refused = refused .. '{REFRESH_TTL.decode()}' end
    end
    if string.find(actions, '{DELETE.decode()}', 1, true) then
        local tried = redis.pcall('UNLINK', KEYS[1])
        if type(tried) == 'table' then refused = refused .. '{DELETE.decode()}' end
    end
    call('SET', KEYS[1], record, 'PX', {RECORD_MS})
end

local outcomes, k, a, count = {{}}, 2, 5, #ARGV
while a <= count do
    local codes = ARGV[a]
    local letters = #codes
    local outcome, changed = APPLIED, false
    if refused ~= '' and string.find(codes, '[' .. refused .. ']') then outcome = REFUSED end
    a = a + 1
    for i = 1, letters, 2 do
        local condition = byte(codes, i)
        if condition ~= ANYTHING then
            changed = true -- a commit with a condition needs nothing to delete
            local text = redis.pcall('GET', KEYS[k + (i - 1) / 2])
            if type(text) == 'table' then
                if outcome == APPLIED then outcome = WRONG_TYPE end
            elseif condition == ABSENT then
                if text then outcome = NOT_APPLIED end
            elseif condition == EQUAL_TEXT then
                if text ~= ARGV[a] then outcome = NOT_APPLIED end
            elseif not text or redis.sha1hex(text) ~= ARGV[a] then
                outcome = NOT_APPLIED
            end
            if condition ~= ABSENT then a = a + 1 end
        end
    end
    for i = 1, letters, 2 do
        local action = byte(codes, i + 1)
        if action == SET or action == SET_AGAIN then
            if action == SET then a = a + 1 end
            if outcome == APPLIED then
                if ttl_ms == '0' then
                    call('SET', KEYS[k], ARGV[a - 1])
                else
                    call('SET', KEYS[k], ARGV[a - 1], 'PX', ttl_ms)
                end
                changed = true
            end
        elseif action == DELETE and outcome == APPLIED and call('UNLINK', KEYS[k]) == 1 then
            changed = true
        elseif action == REFRESH_TTL and outcome == APPLIED then
            call('PEXPIRE', KEYS[k], ttl_ms)
        end
        k = k + 1
    end
    if outcome == APPLIED and not changed then outcome = NOT_APPLIED end
    outcomes[#outcomes + 1] = outcome
end

reply = table.concat(outcomes)
call('SET', KEYS[1], '[' .. sequence .. ',"' .. reply .. '"]', 'PX', {RECORD_MS})
return reply
""")


async def run(exchange: Exchange, script: Script, calls: Sequence[Sequence[Any]]) -> list[Any]:
    """Run a script several times.

    Args:
        exchange: sends commands and returns their replies in order, errors in their places.
        script: the script.
        calls: of each call the number of keys, the keys and the arguments.

    Returns:
        The replies in order, errors in their places; what ``exchange`` raises at first passes through.
    """
    replies = await exchange([('EVALSHA', script.digest, *call) for call in calls])
    # A call that met a server without the script has not run. Those that other nodes of a cluster have answered have.
    unknown: list[int] = []
    for position, reply in enumerate(replies):
        if isinstance(reply, Exception) and isinstance(reply, redis_py.exceptions.NoScriptError):
            unknown.append(position)
    if unknown:
        again: list[Any]
        try:
            again = await exchange([('EVAL', script.text, *calls[position]) for position in unknown])
        except KVSError as error:  # nothing was sent
            again = [error] * len(unknown)
        for position, reply in zip(unknown, again, strict=True):
            replies[position] = reply
    return replies
