"""Where partitions are: a pure planner, how long nodes have been steady, and who may decide.

`planner` is the function, `repair` and `balance` its two halves, `moves` what operators ask for,
`steadiness` and `nearness` the memory that keeps it calm, `controller` the driver, `watch` what
everybody reads.
"""
