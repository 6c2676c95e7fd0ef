"""What runs inside Redis: the scripts of the Redis stores.

A script is atomic, and is sent by its digest; the server learns its text when it does not know it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

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
-- KEYS: the writer's record, then the keys of each commit: first those compared, then those written.
-- ARGV: the batch's number, milliseconds to live (0: for ever), how many commits; then for each commit how many keys
-- are compared and written; what is expected of each ('' for a missing key, '=' and its text, '#' and its SHA-1); and
-- what is written to each ('=' and its text, '-' to remove it).
-- The reply has a letter a commit: 1 done, 0 the condition failed, 2 done, but nothing was there to remove,
-- T a key to compare holds no text.
local number = tonumber(ARGV[1])
local record = redis.call('GET', KEYS[1])
if record then
    local last, reply = string.match(record, '^(%d+) (.*)$')
    if tonumber(last) == number then return reply end
    if tonumber(last) > number then return 'late' end
end
local outcomes, k, a = {{}}, 2, 4
for commit = 1, tonumber(ARGV[3]) do
    local compared, written = tonumber(ARGV[a]), tonumber(ARGV[a + 1])
    a = a + 2
    local outcome = '1'
    for _ = 1, compared do
        if outcome == '1' then
            local text = redis.pcall('GET', KEYS[k])
            if type(text) == 'table' then
                outcome = 'T'
            else
                local mark, rest = string.sub(ARGV[a], 1, 1), string.sub(ARGV[a], 2)
                local same = not text
                if mark == '=' then same = text == rest end
                if mark == '#' then same = text and redis.sha1hex(text) == rest end
                if not same then outcome = '0' end
            end
        end
        k, a = k + 1, a + 1
    end
    local stored, removed = 0, 0
    for _ = 1, written do
        if outcome == '1' then
            local text = ARGV[a]
            if text == '-' then
                removed = removed + redis.call('UNLINK', KEYS[k])
            elseif ARGV[2] == '0' then
                redis.call('SET', KEYS[k], string.sub(text, 2))
                stored = stored + 1
            else
                redis.call('SET', KEYS[k], string.sub(text, 2), 'PX', ARGV[2])
                stored = stored + 1
            end
        end
        k, a = k + 1, a + 1
    end
    if outcome == '1' and written > 0 and stored + removed == 0 then outcome = '2' end
    outcomes[commit] = outcome
end
local reply = table.concat(outcomes)
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. reply, 'PX', {RECORD_MS})
return reply
""")
