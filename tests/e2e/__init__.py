"""The whole mesh, run as its user runs it, called as its clients call it: through the edge, in gRPC, gRPC-Web and
JSON."""
