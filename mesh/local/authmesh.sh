#!/bin/sh
# The `authmesh` command of a checkout; the Makefile puts it into the environment. An environment holds absolute paths, so that of a checkout which was
# moved or copied would run another checkout's code, or none. `-I`: neither PYTHONPATH nor the working directory brings another `mesh`.
bin=$(dirname "$(readlink -f "$0")")
here=$(cd "$bin/../../.." && pwd -P)
made=$(cat "$bin/../../place")
if [ "$here" != "$made" ]; then
  echo "authmesh: this environment was made in $made: run \`make run-mesh\` in $here, which makes it again" >&2
  exit 1
fi
exec "$bin/python" -I -m mesh.cli "$@"
