"""Auth: accounts, proof of addresses, sign-in.

`service` translates gRPC; `sign_up`, `sign_in` and `credentials` decide; `throttle`, `verification`, `password_policy`
and `address` are their rules, pure functions; `hasher` is Argon2id in threads, `turns` and
`fair_queue` share it among networks; `store` is the SQL; `main` wires it all.

There is no unverified account: until its code is used, a sign-up is a row of its own that ends after a day. Any number
of people may sign up with an address; the one who reads its mail decides which sign-up becomes the account, by whose
code is used, and that one's password counts.
"""
