-- POST /Counter/{key}/add with 1, over 1000 keys in turn.
--
-- In turn and not at random: calls in flight then nearly never meet on one key, so what is
-- measured is the cost of keyed calls and not the wait for a lock.

dofile("bench/wrk/summary.lua")

local keys = 1000
local requests = {}
local turn = 0

-- The requests are built once: the load must not cost more for one workload than for another.
function init(args)
  wrk.headers["Content-Type"] = "application/json"
  -- Each thread begins elsewhere, so that two do not walk through the keys side by side.
  turn = thread_number * 377 % keys
  for index = 1, keys do
    requests[index] = wrk.format("POST", "/Counter/k" .. index .. "/add", nil, "1")
  end
end

function request()
  turn = turn % keys + 1
  return requests[turn]
end
