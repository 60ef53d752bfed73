"""The Lua scripts that read a board. KEYS[1] is the board, KEYS[2] the season's meta hash, KEYS[3] the hash of the
board's ties; each sees one moment.

They know which scores are the better ones, and whether members begin with ties, from the hash that the worker writes
beside the boards, so that a read stays one call. Members come back as they are: a number in the reply says how much of
each is its tie.
"""

from __future__ import annotations

from typing import Final

from shared.board_entries import TIE_LENGTH

# Places count from 0.
_BOARD: Final = f"""
local board, call = KEYS[1], redis.call
local told = call('HMGET', KEYS[2], 'order', 'ties')
local ascending, skipped = told[1] == 'asc', 0
-- A board that has lost its meta hash is read as it may be, until it is repaired: a second at most.
if told[2] == 'earliest' or (not told[2] and call('EXISTS', KEYS[3]) == 1) then skipped = {TIE_LENGTH} end
local find = ascending and 'ZRANK' or 'ZREVRANK'

local function at(first, last)
  if ascending then return call('ZRANGE', board, first, last, 'WITHSCORES') end
  return call('ZRANGE', board, first, last, 'REV', 'WITHSCORES')
end

-- How many have a better score than this one.
local function better(score)
  if ascending then return call('ZCOUNT', board, '-inf', '(' .. score) end
  return call('ZCOUNT', board, '(' .. score, '+inf')
end

-- The player's member, false where it is on no board that has ties.
local function member_of(player)
  if skipped == 0 then return player end
  local tie = call('HGET', KEYS[3], player)
  return tie and tie .. player
end
"""

# ARGV: how many, from which place on (0 = the first), or else behind which score and member, which need not be there
# any more. The reply: member, score, …, best first, then the first one's place, the best place of those who are as good
# as the first one, how many there are, and how much of each member is its tie.
TOP: Final = f"""{_BOARD}
-- Byte by byte, as boards are sorted: Lua's own comparison obeys the locale.
local function stands_behind(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then return (x > y) == ascending end
  end
  return #a ~= #b and (#a > #b) == ascending
end

local function behind(score, member)
  local low = better(score)
  local high = low + call('ZCOUNT', board, score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if stands_behind(at(middle, middle)[1], member) then high = middle else low = middle + 1 end
  end
  return low
end

local first = ARGV[3] and behind(ARGV[3], ARGV[4]) or tonumber(ARGV[2])
local found = at(first, first + ARGV[1] - 1)
local tied = found[2] and better(found[2]) or first
found[#found + 1] = first
found[#found + 1] = tied
found[#found + 1] = call('ZCARD', board)
found[#found + 1] = skipped
return found
"""

# ARGV: a score, how many on each side of where it would stand, behind all that are as good. The reply: member, score,
# …, then the first one's place, the best place of those as good as the first one, the score's place, the best one of
# those as good as it, and how much of each member is its tie.
AROUND_SCORE: Final = f"""{_BOARD}
local best = better(ARGV[1])
local place = best + call('ZCOUNT', board, ARGV[1], ARGV[1])
local first = math.max(0, place - ARGV[2])
local found = place + ARGV[2] > 0 and at(first, place + ARGV[2] - 1) or {{}}
local tied = found[2] and better(found[2]) or first
found[#found + 1] = first
found[#found + 1] = tied
found[#found + 1] = place
found[#found + 1] = best
found[#found + 1] = skipped
return found
"""

# ARGV: MessagePack of player, how many neighbours on each side, whether equal scores share a place, …; the reply is
# MessagePack too: how many there are, how much of each member is its tie, then for each player: false when it is not on
# the board, with -1 neighbours its place and score, else member, score, … of the neighbours, then the first one's
# place, and the place that it shares where they are shared. One script for many players: a command takes client and
# server as long as ten more players in it. One text in, one out: as arguments and lists of Redis' own they would take a
# sixth more.
PLACES: Final = f"""{_BOARD}
local asked, places = cmsgpack.unpack(ARGV[1]), {{call('ZCARD', board), skipped}}
for i = 1, #asked, 3 do
  local member, size, shared, place = member_of(asked[i]), asked[i + 1], asked[i + 2], false
  if not member then
    place = false
  elseif size < 0 then
    place = call(find, board, member, 'WITHSCORE')
    if place and shared then place[1] = better(place[2]) end
  else
    local rank = call(find, board, member)
    if rank then
      local first = math.max(0, rank - size)
      place = at(first, rank + size)
      local tied = shared and better(place[2])
      place[#place + 1] = first
      place[#place + 1] = tied or nil
    end
  end
  places[#places + 1] = place
end
return cmsgpack.pack(places)
"""
