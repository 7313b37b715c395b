"""Images in, PAD records out.

`annotator` works in this process, `run` on Ray: `resume` finds what is left to do, `stream` sends
it through the stages' workers in chunks, `ledger` commits each chunk and writes the shards.
`heartbeat` and `status` show how a run stands, `retry` annotates failed images again, `probe` and
`planner` are the command `plan`.
"""
