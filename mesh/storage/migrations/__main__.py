"""`python -m mesh.storage.migrations services.auth …`."""

import asyncio
import sys

from mesh.storage.migrations import main

if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
