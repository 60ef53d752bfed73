"""The Lua scripts that touch a board. Each runs atomically on the node that holds the season.

KEYS[1] is the board, KEYS[2] its meta hash. Every reply is {verdict, timeline, epoch, token, base, count, members}:
what is stored *after* the script, `base` being its last writer's `prev` and `members` ZCARD. A board that nobody wrote
answers with zeros.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple


class Script(NamedTuple):
    text: str
    sha: str


def _script(body: str) -> Script:
    text = _PRELUDE + body
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


# unpack() takes some 8,000 values at most (LUAI_MAXCSTACK): commands go in slices.
_PRELUDE: Final = """
local board, meta = KEYS[1], KEYS[2]

local function stored()
  local noted = redis.call('HMGET', meta, 'timeline', 'epoch', 'token', 'base', 'count')
  for i = 1, 5 do noted[i] = tonumber(noted[i] or '') or 0 end
  noted[6] = redis.call('ZCARD', board)
  return noted
end

local function answer(verdict)
  return {verdict, unpack(stored())}
end

local function sliced(command, values)
  for i = 1, #values, 2000 do
    redis.call(command, board, unpack(values, i, math.min(i + 1999, #values)))
  end
end

-- `packed`, MessagePack: a list of score, member, score, member, …, then a list of members to remove. As arguments
-- they would cost the client a millisecond per thousand.
local function write(packed)
  local shown, gone = unpack(cmsgpack.unpack(packed))
  sliced('ZADD', shown)
  sliced('ZREM', gone)
end

local function unchanged(at)
  local now = stored()
  for i = 1, 6 do
    if now[i] ~= tonumber(ARGV[at + i - 1]) then return false end
  end
  return true
end

-- Its answer is what stored() would find. The order is for who reads the board.
local function applied(timeline, epoch, token, base, order)
  local count = redis.call('ZCARD', board)
  redis.call('HSET', meta, 'timeline', timeline, 'epoch', epoch, 'token', token, 'base', base, 'count', count,
             'order', order)
  return {'applied', tonumber(timeline), tonumber(epoch), tonumber(token), tonumber(base), count, count}
end
"""

INSPECT: Final = _script("return answer('stored')")

# ARGV: members. Their scores come as a list behind the seven values: read in one go with what the board says of itself,
# or a batch between the two would make a healthy board look wrong.
LOOK: Final = _script("""
local found = answer('stored')
found[8] = #ARGV > 0 and redis.call('ZMSCORE', board, unpack(ARGV)) or {}
return found
""")

# ARGV: timeline, epoch, prev, token, changes as for write(), order. A stored token between prev and ours is that of a
# batch that never committed, provided that it stood on the commit that we stand on (base = prev). A season's first
# batch (prev = 0: none was ever committed) on a board that nobody wrote is the whole board.
APPLY: Final = _script("""
local now = stored()
local timeline, epoch, prev, token = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

if now[1] > timeline or (now[1] == timeline and now[2] > epoch)
   or (now[1] == timeline and now[2] == epoch and (now[3] >= token or now[4] > prev)) then
  return answer('late')
end
local first = prev == 0 and now[1] + now[2] + now[3] + now[4] + now[5] + now[6] == 0
if not first and (now[1] < timeline or now[2] < epoch or now[3] < prev
                  or (now[3] > prev and now[4] ~= prev) or now[5] ~= now[6]) then
  return answer('behind')
end
write(ARGV[5])
return applied(ARGV[1], ARGV[2], ARGV[4], ARGV[3], ARGV[6])
""")

# ARGV: the six numbers that APPLY reported, prev, token, changes as for write(), order.
PATCH: Final = _script("""
if not unchanged(1) then return answer('moved') end
write(ARGV[9])
return applied(ARGV[1], ARGV[2], ARGV[8], ARGV[7], ARGV[10])
""")

# KEYS[3]: the staged board. ARGV: the six numbers that APPLY reported, timeline, epoch, prev, token, staged
# members, order.
SWAP: Final = _script("""
if not unchanged(1) or redis.call('ZCARD', KEYS[3]) ~= tonumber(ARGV[11]) then return answer('moved') end
redis.call('UNLINK', board)
if tonumber(ARGV[11]) > 0 then
  redis.call('RENAME', KEYS[3], board)
  redis.call('PERSIST', board)
end
return applied(ARGV[7], ARGV[8], ARGV[10], ARGV[9], ARGV[12])
""")
