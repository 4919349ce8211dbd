"""`make gen` refuses an RPC that does not say who may call it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

IMPORT = 'import "authmesh/options/v1/audit.proto";\n'
REPOSITORY = Path(__file__).parents[3]


def generate(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, directory / "protos" / "generate.py"], capture_output=True, text=True, check=False
    )


def test_an_rpc_without_an_access_rule_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "protos", tmp_path / "protos")
    directory = tmp_path / "protos" / "authmesh" / "user" / "v1" / "user_directory.proto"
    without = re.sub(
        r"option \(authmesh\.options\.v1\.access\) = \{.*?\n    \};",
        "",
        directory.read_text(),
        count=1,
        flags=re.DOTALL,
    )
    directory.write_text(without)
    done = generate(tmp_path)
    assert done.returncode != 0
    assert done.stderr == (
        "make gen: authmesh.user.v1.UserDirectory/CreateUser has no access rule: add option "
        "(authmesh.options.v1.access)\n"
    )
    assert not (tmp_path / "gen").exists()


def test_a_limit_for_each_caller_where_no_token_names_one_is_refused(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "protos", tmp_path / "protos")
    directory = tmp_path / "protos" / "authmesh" / "user" / "v1" / "user_directory.proto"
    limited = directory.read_text().replace(
        "    option idempotency_level = IDEMPOTENT;",
        "    option (authmesh.options.v1.limit) = {streams: 1};\n    option idempotency_level = IDEMPOTENT;",
    )
    directory.write_text(limited.replace(IMPORT, IMPORT + 'import "authmesh/options/v1/limit.proto";\n'))
    done = generate(tmp_path)
    assert done.returncode != 0
    wrong = "make gen: /authmesh.user.v1.UserDirectory/CreateUser has a limit for each caller and takes no token"
    assert done.stderr == f"{wrong}: remove (authmesh.options.v1.limit)\n"
    assert not (tmp_path / "gen").exists()


def test_what_is_committed_is_what_the_protos_say() -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "protos" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
