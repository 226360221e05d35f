"""Distribution of a table from its owner to its subscribers (messages: cilia.contracts.tables).

=================  ================================================================================
changelog          owner, pure: rows by shard, a log of recent changes, deltas and beacons
batches            owner, pure: deltas of many shards as one message for a known subscriber
beacons            owner, pure: how far back a beacon reaches, and when the next one is due
snapshots          owner, pure: snapshots and changes as chunks, encoded once and kept
snapshot_server    owner, loop: answers to snapshot requests (every replica)
publisher          owner, loops: deltas and beacons (the leader)
shard              subscriber, pure: one shard; deltas, beacons and snapshots in, changes out
shards             subscriber, pure: all shards of interest
resync             subscriber, pure: which snapshot to request when: jitter, backoff, few in flight
snapshot_requests  subscriber, pure: requests in flight, their chunks joined to snapshots
changes            subscriber: changes for the reader, one per shard, a transaction's at once
subscriber         subscriber, loop
wire               both: rows as msgpack, packed to messages that the bus takes
=================  ================================================================================
"""
