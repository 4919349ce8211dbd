"""The keys that access tokens are signed with: their life, where they are kept, and who changes them.

`policy` has every time of a key's life, and refuses unsafe ones; `key` the states and the rules, without I/O; `store`
the SQL. `custody` is the port behind which private keys are kept, with three forms: `local`, `kms` (KMS signs) and
`rooted` (KMS protects what signs here); `deployment` puts together those that the settings name. `keeper` moves keys
through their states, under one lock for all replicas; `orders` is what people may say to that, by `service` or
`commands`; `ring` is what one process knows.
"""
