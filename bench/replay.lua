-- wrk: sends the requests of a file over and over, from beginning to end. bench/traffic.py writes it.
--
--   REQUESTS    the file
--   KEY_PREFIX  unless empty: each request gets an Idempotency-Key of its own, this and a number
local prefix = os.getenv("KEY_PREFIX") or ""
local threads, heads, tails, reading, last, at = {}, {}, {}, {}, 0, 0

io.stdout:setvbuf("line") -- so that who started this sees that it began

setup = function(thread)
  table.insert(threads, thread)
end

init = function()
  reads, writes = 0, 0
  for line in io.lines(os.getenv("REQUESTS")) do
    local method, path, body = line:match("^([^\t]*)\t([^\t]*)\t(.*)$")
    local headers = {}
    if method == "GET" then body = nil else headers["Content-Type"] = "application/json" end
    if prefix ~= "" then headers["Idempotency-Key"] = "@" end
    local head, tail = wrk.format(method, path, headers, body), nil
    if prefix ~= "" then
      local from = head:find("Idempotency-Key: @", 1, true) + 16
      head, tail = head:sub(1, from) .. prefix, head:sub(from + 2)
    end
    last = last + 1
    heads[last], tails[last], reading[last] = head, tail, method == "GET"
  end
end

request = function()
  at = at % last + 1
  if reading[at] then reads = reads + 1 else writes = writes + 1 end
  local tail = tails[at]
  return tail and heads[at] .. (reads + writes) .. tail or heads[at]
end

done = function(summary, latency)
  local errors = summary.errors
  local reads, writes = threads[1]:get("reads"), threads[1]:get("writes")
  io.write(string.format('{"requests":%d,"seconds":%.6f,"errors":%d,"reads":%d,"writes":%d,', summary.requests,
    summary.duration / 1e6, errors.connect + errors.read + errors.write + errors.status + errors.timeout, reads, writes))
  io.write(string.format('"latency_ms":{"p50":%.3f,"p90":%.3f,"p95":%.3f,"p99":%.3f}}\n', latency:percentile(50) / 1e3,
    latency:percentile(90) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
