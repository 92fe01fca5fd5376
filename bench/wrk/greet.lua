-- POST /Greeter/greet with a name: the plainest call there is.

dofile("bench/wrk/summary.lua")

wrk.method = "POST"
wrk.path = "/Greeter/greet"
wrk.body = "\"Ann\""
wrk.headers["Content-Type"] = "application/json"
