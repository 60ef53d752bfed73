"""The Lua scripts that touch a season's boards. Each runs atomically on the node that holds the season.

KEYS[1] is the meta hash; behind it stand the season's boards (`shared.keys.shown`). ARGV[1] says how many keys each
board has: 1, or 2 with the hash of its ties. Every reply is {verdict, timeline, epoch, token, base, count, members}:
what is stored *after* the script, `base` being its last writer's `prev` and `members` the number of entries in all
those keys together. Boards that nobody wrote answer with zeros.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple


class Script(NamedTuple):
    name: str
    text: str
    sha: str


def _script(name: str, body: str) -> Script:
    text = _PRELUDE + body
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


# unpack() takes some 8,000 values at most (LUAI_MAXCSTACK): commands go in slices.
_PRELUDE: Final = """
local meta, stride, last = KEYS[1], tonumber(ARGV[1]), #KEYS

-- Entries of the keys from one to another.
local function entries(from, to)
  local sum = 0
  for i = from, to do
    sum = sum + redis.call((i - from) % stride == 0 and 'ZCARD' or 'HLEN', KEYS[i])
  end
  return sum
end

local function stored()
  local noted = redis.call('HMGET', meta, 'timeline', 'epoch', 'token', 'base', 'count')
  for i = 1, 5 do noted[i] = tonumber(noted[i] or '') or 0 end
  noted[6] = entries(2, last)
  return noted
end

local function answer(verdict)
  return {verdict, unpack(stored())}
end

local function sliced(command, key, values)
  for i = 1, #values, 2000 do
    redis.call(command, key, unpack(values, i, math.min(i + 1999, #values)))
  end
end

-- The ties of players, false where there is none.
local function ties_of(key, players)
  local found = {}
  for i = 1, #players, 2000 do
    local some = redis.call('HMGET', key, unpack(players, i, math.min(i + 1999, #players)))
    for j = 1, #some do found[#found + 1] = some[j] end
  end
  return found
end

-- Of a board with ties: score, player, tie, … and players who go, as it is to be written: score, member, … and members
-- that go. The hash is written at once.
local function with_ties(hash, shown, gone)
  local pairs_of, ties, players, members = {}, {}, {}, {}
  for i = 1, #shown, 3 do
    pairs_of[#pairs_of + 1] = shown[i]
    pairs_of[#pairs_of + 1] = shown[i + 2] .. shown[i + 1]
    ties[#ties + 1] = shown[i + 1]
    ties[#ties + 1] = shown[i + 2]
    players[#players + 1] = shown[i + 1]
  end
  local before = ties_of(hash, players)
  for i = 1, #players do
    if before[i] and before[i] ~= shown[3 * i] then members[#members + 1] = before[i] .. players[i] end
  end
  before = ties_of(hash, gone)
  for i = 1, #gone do
    if before[i] then members[#members + 1] = before[i] .. gone[i] end
  end
  sliced('HSET', hash, ties)
  sliced('HDEL', hash, gone)
  return pairs_of, members
end

-- `packed`, MessagePack, for each board: a list of score, member, score, member, …, and a list of members to remove. As
-- arguments they would cost the client a millisecond per thousand.
local function write(packed)
  local boards = cmsgpack.unpack(packed)
  for i = 1, #boards do
    local at, shown, gone = 2 + (i - 1) * stride, boards[i][1], boards[i][2]
    if stride == 2 then shown, gone = with_ties(KEYS[at + 1], shown, gone) end
    sliced('ZREM', KEYS[at], gone)
    sliced('ZADD', KEYS[at], shown)
  end
end

local function unchanged(at)
  local now = stored()
  for i = 1, 6 do
    if now[i] ~= tonumber(ARGV[at + i - 1]) then return false end
  end
  return true
end

-- Its answer is what stored() would find. The last three are for who reads the boards.
local function applied(timeline, epoch, token, base, order, ties, windows)
  local count = entries(2, last)
  redis.call('HSET', meta, 'timeline', timeline, 'epoch', epoch, 'token', token, 'base', base, 'count', count,
             'order', order, 'ties', ties, 'windows', windows)
  return {'applied', tonumber(timeline), tonumber(epoch), tonumber(token), tonumber(base), count, count}
end
"""

INSPECT: Final = _script("inspect", "return answer('stored')")

# ARGV: players. Their scores, and their ties where there are such, come as two lists for each board behind the seven
# values: read in one go with what the boards say of themselves, or a batch between the two would make healthy ones look
# wrong.
LOOK: Final = _script(
    "look",
    """
local found, boards, players = answer('stored'), {}, {unpack(ARGV, 2)}
for at = 2, #players > 0 and last or 1, stride do
  local members, ties = players, {}
  if stride == 2 then
    members, ties = {}, ties_of(KEYS[at + 1], players)
    -- Nobody's id is empty: who has no tie is not found.
    for i = 1, #players do members[i] = ties[i] and ties[i] .. players[i] or '' end
  end
  boards[#boards + 1] = {redis.call('ZMSCORE', KEYS[at], unpack(members)), ties}
end
found[8] = boards
return found
""",
)

# ARGV: timeline, epoch, prev, token, changes as for write(), order, ties, windows. A stored token between prev and ours
# is that of a batch that never committed, provided that it stood on the commit that we stand on (base = prev). A
# season's first batch (prev = 0: none was ever committed) on boards that nobody wrote is all that they show.
APPLY: Final = _script(
    "apply",
    """
local now = stored()
local timeline, epoch, prev, token = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

if now[1] > timeline or (now[1] == timeline and now[2] > epoch)
   or (now[1] == timeline and now[2] == epoch and (now[3] >= token or now[4] > prev)) then
  return answer('late')
end
local first = prev == 0 and now[1] + now[2] + now[3] + now[4] + now[5] + now[6] == 0
if not first and (now[1] < timeline or now[2] < epoch or now[3] < prev
                  or (now[3] > prev and now[4] ~= prev) or now[5] ~= now[6]) then
  return answer('behind')
end
write(ARGV[6])
return applied(ARGV[2], ARGV[3], ARGV[5], ARGV[4], ARGV[7], ARGV[8], ARGV[9])
""",
)

# ARGV: the six numbers that APPLY reported, prev, token, changes as for write(), order, ties, windows.
PATCH: Final = _script(
    "patch",
    """
if not unchanged(2) then return answer('moved') end
write(ARGV[10])
return applied(ARGV[2], ARGV[3], ARGV[9], ARGV[8], ARGV[11], ARGV[12], ARGV[13])
""",
)

# KEYS: whatever may show the season. ARGV: a timeline, before which the boards must have been written.
DROP: Final = _script(
    "drop",
    """
if stored()[1] >= tonumber(ARGV[2]) then return answer('stored') end
redis.call('UNLINK', unpack(KEYS))
return answer('dropped')
""",
)

# KEYS: behind the boards those that are staged, as many; then what else may show the season. ARGV: the number of the
# former, the six numbers that APPLY reported, timeline, epoch, prev, token, staged entries, order, ties, windows.
SWAP: Final = _script(
    "swap",
    """
local count = tonumber(ARGV[2])
last = 1 + count
if not unchanged(3) or entries(last + 1, last + count) ~= tonumber(ARGV[13]) then return answer('moved') end
redis.call('UNLINK', unpack(KEYS, 2, last))
if #KEYS > last + count then redis.call('UNLINK', unpack(KEYS, last + count + 1)) end
for i = 2, last do
  if redis.call('EXISTS', KEYS[i + count]) == 1 then
    redis.call('RENAME', KEYS[i + count], KEYS[i])
    redis.call('PERSIST', KEYS[i])
  end
end
return applied(ARGV[9], ARGV[10], ARGV[12], ARGV[11], ARGV[14], ARGV[15], ARGV[16])
""",
)
