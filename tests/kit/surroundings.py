"""An environment that is meant for other programs, and a directory with other code."""

from pathlib import Path

NOWHERE = "/nowhere/at/all"
PROXY = "http://127.0.0.1:9"
HOSTILE = {
    # libpq's, which asyncpg reads.
    "PGHOST": "203.0.113.1", "PGPORT": "1", "PGUSER": "nobody", "PGPASSWORD": "wrong", "PGDATABASE": "other",
    "PGSSLMODE": "verify-full",
    "PGSSLROOTCERT": NOWHERE, "PGSSLNEGOTIATION": "direct", "PGTARGETSESSIONATTRS": "standby", "PGSERVICE": "other",
    "PGSERVICEFILE": NOWHERE, "PGPASSFILE": NOWHERE, "PGGSSLIB": "none",
    "PGOPTIONS": "-c default_transaction_read_only=on",
    # The AWS SDK's.
    "AWS_PROFILE": "missing", "AWS_DEFAULT_PROFILE": "missing", "AWS_CONFIG_FILE": NOWHERE,
    "AWS_SHARED_CREDENTIALS_FILE": NOWHERE,
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "wrong", "AWS_SESSION_TOKEN": "wrong",
    "AWS_REGION": "eu-north-1",
    "AWS_DEFAULT_REGION": "eu-north-1", "AWS_CA_BUNDLE": NOWHERE, "AWS_DEFAULTS_MODE": "nonsense",
    "AWS_RETRY_MODE": "nonsense",
    "AWS_MAX_ATTEMPTS": "none", "AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_ENDPOINT_URL_S3": PROXY, "AWS_ENDPOINT_URL_SQS": PROXY, "AWS_DATA_PATH": NOWHERE,
    # Proxies and certificates, which most clients read.
    "HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY, "ALL_PROXY": PROXY, "http_proxy": PROXY, "https_proxy": PROXY,
    "grpc_proxy": PROXY,
    "SSL_CERT_FILE": NOWHERE, "SSL_CERT_DIR": NOWHERE, "REQUESTS_CA_BUNDLE": NOWHERE,
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": NOWHERE,
    # The interpreter's.
    "PYTHONHOME": "", "PYTHONSTARTUP": NOWHERE, "PYTHONWARNINGS": "error", "PYTHONUSERBASE": NOWHERE, "LC_ALL": "C",
}  # fmt: skip


def other_code(directory: Path) -> Path:
    """Packages of our names, which end what imports them."""
    for package in ("mesh", "services", "authmesh", "grpc", "typer"):
        (directory / package).mkdir(parents=True)
        (directory / package / "__init__.py").write_text("raise SystemExit('other code')\n")
    return directory
