-- POST /Greeter/greet3 with a name: a call of three recorded steps, one after the other.

dofile("bench/wrk/summary.lua")

wrk.method = "POST"
wrk.path = "/Greeter/greet3"
wrk.body = "\"Ann\""
wrk.headers["Content-Type"] = "application/json"
