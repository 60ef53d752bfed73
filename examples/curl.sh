#!/usr/bin/env bash
# A walk through the API of a running service; prints each command and its answer, and stops where one is not as it should be.
# BASE_URL says where the service is. The seasons and the game are the walk's own, and are reset in the end.
set -euo pipefail

base=${BASE_URL:-http://127.0.0.1:8080}
id=walk-$(date +%s)-$$
season=$base/v1/seasons/$id
arena=$base/v1/seasons/$id-arena
game=$(date +%s)$$
then=$(($(date +%s) - 30 * 3600))
then=$(date -u -d "@$then" +%FT%TZ 2>/dev/null || date -u -r "$then" +%FT%TZ) # GNU's, or BSD's and macOS's

# Print the command as one could type it.
show() {
  local word
  printf '\n$ curl'
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_./:=-]+$ ]]; then printf ' %s' "$word"; else printf " '%s'" "$word"; fi
  done
  printf '\n'
}

# A request that must succeed.
call() {
  show "$@"
  curl --silent --show-error --fail-with-body --max-time 10 "$@"
  printf '\n'
}

# A request that must be refused with this status.
refused() {
  local status=$1 told
  shift
  show "$@"
  told=$(curl --silent --show-error --max-time 10 --write-out '\n%{http_code}' "$@")
  printf '%s\n' "${told%$'\n'*}"
  if [[ ${told##*$'\n'} != "$status" ]]; then
    echo "expected $status, not ${told##*$'\n'}" >&2
    exit 1
  fi
}

# Until this is found: a score is on the board a few milliseconds later.
shown() {
  for _ in {1..200}; do
    if curl --silent --fail --output /dev/null --max-time 10 "$1"; then return; fi
    sleep 0.05
  done
}

echo "# Is it there, and are its servers?"
call "$base/healthz"
call "$base/readyz"

echo
echo "# A season that adds up what comes, the highest first."
call -X PUT "$season" -d '{"metadata":{"from":"examples/curl.sh"}}'

echo
echo "# A score with a key counts once, however often it is sent: the second answer says idempotent-replayed."
call -i "$season/scores" -H "Idempotency-Key: $id-ann" -d '{"userId":"ann","delta":25}'
call -i "$season/scores" -H "Idempotency-Key: $id-ann" -d '{"userId":"ann","delta":25}'

echo
echo "# Many at once, with a result for each."
call "$season/scores/batch" -d '[{"userId":"bob","delta":40},{"userId":"cid","delta":25},{"userId":"dan","delta":10},{"userId":"eve","delta":0}]'
refused 400 "$season/scores" -d '{"userId":"ann","delta":0}'

shown "$season/leaderboard/rank?userId=dan"

echo
echo "# Who leads; with equal scores on one rank; who comes behind the first two."
call "$season/leaderboard/top?limit=3"
call "$season/leaderboard/top?limit=3&ties=competition"
call "$season/leaderboard/top?limit=2&offset=2"

echo
echo "# One player, and who stands around; where 30 points would stand; several players; one player in all seasons."
call "$season/leaderboard/rank?userId=ann"
call "$season/leaderboard/around?userId=ann&range=1"
call "$season/leaderboard/around?score=30&range=1"
call "$season/leaderboard/ranks" -d '{"userIds":["dan","nobody"]}'
call "$base/v1/users/ann/ranks?limit=5"
refused 404 "$season/leaderboard/rank?userId=nobody"

echo
echo "# The season itself, the list of them, its end: no more scores, the board stays."
call "$season"
call "$base/v1/seasons?limit=1"
call -X POST "$season/close"
refused 409 "$season/scores" -d '{"userId":"ann","delta":1}'
call "$season/leaderboard/top?limit=1"

echo
echo "# A season with windows, in which who reached a score first stands higher. One score is of thirty hours ago."
call -X PUT "$arena" -d '{"aggregation":"best","windows":true,"tieBreak":"earliest"}'
call "$arena/scores" -d "{\"userId\":\"ann\",\"score\":900,\"occurredAt\":\"$then\"}"
call "$arena/scores" -d '{"userId":"bob","score":700}'
shown "$arena/leaderboard/rank?userId=bob"
call "$arena/scores" -d '{"userId":"cid","score":700}'
shown "$arena/leaderboard/rank?userId=cid"
call "$arena/leaderboard/top?window=24h"
call "$arena/leaderboard/top?window=3d"
refused 404 "$arena/leaderboard/rank?userId=ann&window=24h"
refused 409 "$season/leaderboard/top?window=24h"

echo
echo "# The games API: the best score of each player of a game, with windows."
call "$base/api/leaderboard/score" -d "{\"game_id\":$game,\"user_id\":42,\"score\":1200}"
call "$base/api/leaderboard/score" -d "{\"game_id\":$game,\"user_id\":43,\"score\":1500,\"timestamp\":\"$then\"}"
shown "$base/api/leaderboard/rank/$game/42"
shown "$base/api/leaderboard/rank/$game/43"
call "$base/api/leaderboard/top/$game?limit=3"
call "$base/api/leaderboard/top/$game?window=24h"
call "$base/api/leaderboard/rank/$game/42?window=7d"

echo
echo "# The reset: an empty board, and no score from before counts again."
call -X DELETE "$arena"
call -X DELETE "$base/v1/seasons/game:$game"
call -X DELETE "$season"
call "$season/leaderboard/top"
