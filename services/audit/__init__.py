"""Audit: what the other services say happened, on its way from the queue to S3, which is the record.

And the proof that nothing of it is missing.

`envelope` reads what EventBridge delivers and `objects` lays it out for S3: pure functions. `consumer` moves events
with them, and never loses one. `follower` reads the objects into the `projection`, from which `service` answers;
`checkpointer` signs what is there (`checkpoints`, `merkle`). `verification` needs none of that: only the objects
(`archive`) and the public keys. It walks each chain (`walk`, `parkings`), and knows what operators acknowledged
(`acknowledgements`; both kinds of signed objects are `statement`s). `cli` is `authmesh audit`.
"""
