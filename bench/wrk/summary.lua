-- Ends wrk's output with one machine-readable line, in exact numbers instead of rounded text.
-- Loaded by the workloads. Latencies are in microseconds, as wrk keeps them.
--
-- Each thread of wrk loads a port of its own, of those in BENCH_PORTS; `thread_number` counts from 0.

local threads = 0

function setup(thread)
  local ports = {}
  for port in (os.getenv("BENCH_PORTS") or ""):gmatch("%d+") do
    table.insert(ports, port)
  end
  if #ports > 0 then
    thread.addr = wrk.lookup("127.0.0.1", ports[threads % #ports + 1])[1]
  end
  thread:set("thread_number", threads)
  threads = threads + 1
end

function done(summary, latency, requests)
  io.write(string.format(
    "BENCH {\"requests\": %d, \"duration_us\": %d, \"bytes\": %d, "
      .. "\"connect_errors\": %d, \"read_errors\": %d, \"write_errors\": %d, "
      .. "\"status_errors\": %d, \"timeouts\": %d, "
      .. "\"p50_us\": %d, \"p90_us\": %d, \"p99_us\": %d, \"max_us\": %d, \"mean_us\": %.1f}\n",
    summary.requests, summary.duration, summary.bytes,
    summary.errors.connect, summary.errors.read, summary.errors.write,
    summary.errors.status, summary.errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency.max, latency.mean))
end
