"""What a worker gets: three packages with generic names, their data files, and nothing else."""

import ast
import tarfile
from pathlib import Path

import apache_beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.stager import Stager

import pipelines
import schemas
import transforms
from schemas.tables import TABLES, VIEWS
from tests.contract.dataflow_jobs import one_build_at_a_time

ROOT = Path(__file__).parent.parent.parent
SHIPPED = {"pipelines", "transforms", "schemas"}
SOURCES = sorted(path for package in SHIPPED | {"services"} for path in (ROOT / package).rglob("*.py"))


@pytest.mark.slow
def test_exactly_three_packages_are_shipped_with_their_data_files(tmp_path: Path) -> None:
    with one_build_at_a_time():
        Stager.create_job_resources(PipelineOptions(["--setup_file", str(ROOT / "setup.py")]), str(tmp_path))
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        members = [Path(*Path(name).parts[1:]) for name in tar.getnames()]
    code = {
        member.parts[0] for member in members if len(member.parts) > 1 and member.suffix in (".py", ".json", ".sql")
    }

    assert code == SHIPPED
    assert {member.stem for member in members if member.match("schemas/tables/*.json")} == set(TABLES)
    assert {member.stem for member in members if member.match("schemas/views/*.sql")} == set(VIEWS)
    assert Path("schemas/identity_settings.toml") in members
    assert {str(member) for member in members if member.suffix == ".py" and len(member.parts) == 1} == {"setup.py"}


def test_the_generic_names_are_ours() -> None:
    for package in (pipelines, transforms, schemas):
        assert Path(package.__file__ or "").parent.parent == ROOT


def test_the_version_of_beam_is_the_one_in_setup() -> None:
    assert f"apache-beam[gcp]=={apache_beam.__version__}" in (ROOT / "setup.py").read_text()


def imported(source: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(source: Path) -> None:
    """pipelines -> transforms -> schemas; services -> schemas; logic and schemas know no Beam; nobody imports tests."""
    package, names = source.relative_to(ROOT).parts[0], imported(source)
    tops = {name.split(".")[0] for name in names if package != "services" or name != "pipelines.clients"}
    allowed = {
        "pipelines": SHIPPED,
        "transforms": {"transforms", "schemas"},
        "schemas": {"schemas"},
        "services": {"services", "schemas"},
    }[package]

    assert not tops & ((SHIPPED | {"tests", "scripts", "benchmarks", "services"}) - allowed)
    if package in ("schemas", "services") or "logic" in source.parts:
        assert "apache_beam" not in tops
    if package == "transforms":
        assert not tops & {"google", "pyarrow", "requests", "grpc"} or "logic" not in source.parts


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_hides_annotations_from_beam_or_our_packages_behind_beams(source: Path) -> None:
    tree = ast.parse(source.read_text())
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        names = {alias.asname or alias.name for alias in node.names}
        if source.is_relative_to(ROOT / "transforms"):
            assert (node.module, "annotations") not in {("__future__", name) for name in names}
        if (node.module or "").startswith("apache_beam"):
            assert not names & SHIPPED
