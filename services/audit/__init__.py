"""Audit: what the other services say happened, on its way from the queue to S3, which is the record.

`envelope` reads what EventBridge delivers and `objects` lays it out for S3: pure functions. `consumer` moves events with them, and never loses one.
Queries (`QueryEvents`, `WatchEvents`) are not part of this release.
"""
