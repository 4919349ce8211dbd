"""`make run-mesh`: starts, watches and stops everything on one machine, on real components and without privileges.

`components/` holds what is started, one file each, usable alone (`async with postgres.running(directory) as server`);
`supervisor` keeps processes alive, `authority` issues their certificates, `provisioning` makes databases and queues,
`run` is the start order, `status` what other programs may read about it.
"""
