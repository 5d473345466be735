-- For wrk: posts every line of a file (signature, tab, body) once, and says how it went, as JSON.
local path = os.getenv("BENCH_BODIES")
local signatures, bodies, count, next = {}, {}, 0, 0

function init(args)
  for line in io.lines(path) do
    local tab = line:find("\t", 1, true)
    count = count + 1
    signatures[count], bodies[count] = line:sub(1, tab - 1), line:sub(tab + 1)
  end
  wrk.headers["Content-Type"] = "application/json"
end

function request()
  next = next + 1
  if next > count then next = 1 end
  wrk.headers["Stripe-Signature"] = signatures[next]
  return wrk.format("POST", nil, nil, bodies[next])
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.4f, "p50": %.3f, "p99": %.3f, "max": %.3f, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency.max / 1e3, errors.connect + errors.read + errors.write + errors.timeout + errors.status))
end
