"""Resource: things that belong to someone, whom they are shared with, and the stream of their changes.

A call goes `service` (translates) -> `resources` or `sharing` (one transaction each) -> `gate` (who may) -> the stores
(SQL). `resource`, `share`, `events` hold the rules and do no I/O. `change_log` numbers what happened, `watch` tells the
people who watch.
"""
