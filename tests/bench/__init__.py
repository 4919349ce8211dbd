"""`make bench`: what the parts cost on this machine. `python -m tests.bench --help` names the subsets.

Everything that is compared is measured in turn, A B A B, several times over, and the tables show the median with the
least and the greatest of the rounds. Servers are judged by the CPU time they used (`/proc/PID/stat`) as well as by the
clock: the load comes from a Python client on the same machine, which is slower than the servers that it loads, and CPU
time per call is not distorted by that.
"""
