"""Compaction, vacuum and restore by the real binary, killed at each step: the rows stay, for other readers too."""

import os
import signal
import subprocess

import pytest
import readers
from conftest import LODE
from pyiceberg.table import StaticTable


def make(project):
    project.lode("sql", "-c", "create table t (id bigint, name text)")
    for first in range(0, 500, 100):
        project.lode("sql", "-c", f"insert into t select v, 'n' || v from generate_series({first}, {first + 99}) as s(v)")
    project.lode("sql", "-c", "delete from t where id % 10 = 3")


def rows(project):
    return [tuple(row.values()) for row in project.sql("select id, name from t order by id")]


@pytest.mark.parametrize("step", ["compact", "restore", "vacuum"])
@pytest.mark.parametrize("point", ["maintain.compact.written", "lake.commit.before_put", "lake.commit.after_put"])
def test_a_kill_changes_no_row(project, step, point):
    make(project)
    old, new = None, rows(project)
    arguments = {"compact": ["compact", "t"], "restore": ["restore", "t", "5"], "vacuum": ["vacuum", "t", "--retain", "0s"]}[step]
    if step == "vacuum":
        project.lode("table", "compact", "t")
    if step == "restore":
        old = [(at, f"n{at}") for at in range(500)]
    killed = subprocess.run(
        [LODE, "table", *arguments, "--project-dir", str(project.folder)],
        env={**os.environ, "LODE_FAIL_POINT": f"{point}=kill"},
        capture_output=True,
        timeout=120,
    )
    if (step, point) in {("restore", "maintain.compact.written"), ("vacuum", "maintain.compact.written")}:
        assert killed.returncode == 0, killed
    else:
        assert killed.returncode == -signal.SIGKILL, killed
    assert rows(project) in ([new] if old is None else [old, new])
    project.lode("table", *arguments)
    assert rows(project) == (new if old is None else old)
    assert project.lode("table", "verify").returncode == 0
    project.lode("sql", "-c", "insert into t values (1000, 'last')")
    wanted = sorted(rows(project))
    for engine in ("deltalake", "duckdb", "polars"):
        theirs = readers.read(engine, project.path("public.t"))
        assert sorted(readers.rows(theirs.select(["id", "name"]))) == wanted, engine


def test_verify_names_what_is_damaged(project):
    make(project)
    name = project.sql("select path from table_files('t') limit 1")[0]["path"]
    file = project.lake / "public" / "t" / name
    whole = file.read_bytes()
    file.write_bytes(whole[:300] + bytes([whole[300] ^ 1]) + whole[301:])
    found = project.lode("table", "verify", "t", check=False)
    assert found.returncode == 1
    assert name in found.stdout + found.stderr and "fix:" in found.stdout + found.stderr
    file.write_bytes(whole)
    project.lode("table", "verify", "t")


def test_an_exposed_table_is_compacted_for_iceberg_readers_too(project):
    (project.folder / "dbt_project.yml").write_text("name: shop\nversion: '1.0'\n")
    (project.folder / "models").mkdir()
    (project.folder / "models" / "t.sql").write_text(
        "{{ config(materialized='incremental', unique_key='id', incremental_strategy='merge', expose=['delta', 'iceberg']) }}\n"
        "select v as id, {{ var('state') }} as state from generate_series({{ var('first') }}, {{ var('first') }} + 9) as s(v)\n"
    )
    for first in (0, 5, 10, 40):
        project.lode("build", "--vars", f"{{state: {first}, first: {first}}}")
    before = project.sql("select id, state from t order by id")
    project.lode("table", "compact", "t")
    assert project.sql("select id, state from t order by id") == before
    hint = (project.lake / "public" / "t" / "metadata" / "version-hint.text").read_text().strip()
    table = StaticTable.from_metadata(str(project.lake / "public" / "t" / "metadata" / f"v{hint}.metadata.json"))
    theirs = table.scan().to_arrow().sort_by("id").to_pylist()
    assert theirs == before
