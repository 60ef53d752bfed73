-- wrk: scores with an Idempotency-Key each, for PLAYERS players in SEASONS seasons.
-- The environment: RUN (makes the keys of this run its own), PLAYERS, SEASONS.
local run = os.getenv("RUN")
local players, seasons = tonumber(os.getenv("PLAYERS")), tonumber(os.getenv("SEASONS"))
local sent = 0

request = function()
  sent = sent + 1
  local headers = { ["Content-Type"] = "application/json", ["Idempotency-Key"] = run .. "-" .. sent }
  local body = '{"userId":"u' .. math.random(players) .. '","delta":1}'
  return wrk.format("POST", "/v1/seasons/soak-" .. math.random(seasons) .. "/scores", headers, body)
end

done = function(summary)
  io.write(string.format('{"requests":%d,"errors":%d,"seconds":%.1f}\n', summary.requests,
    summary.errors.status + summary.errors.timeout + summary.errors.read + summary.errors.write,
    summary.duration / 1e6))
end
