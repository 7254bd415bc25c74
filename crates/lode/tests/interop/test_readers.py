"""deltalake, DuckDB and Polars read every table that the demo wrote: same rows, same types, as Lode itself."""

import pathlib

import duckdb
import duckdb_extension_avro
import duckdb_extension_iceberg
import readers
from deltalake import DeltaTable, write_deltalake
from pyiceberg.table import StaticTable


def test_the_demo_wrote_all_layers(demo):
    layers = {table.split(".")[0] for table in demo.tables()}
    assert {"bronze", "silver", "gold"} <= layers, demo.tables()


def test_every_table_reads_the_same(demo, engine):
    """All rows of all tables of the demo, against what `lode sql` prints."""
    assert demo.tables()
    for table in demo.tables():
        theirs = readers.read(engine, demo.path(table))
        ours = demo.sql(f'select * from "{table.replace(".", chr(34) + "." + chr(34))}"')
        names = sorted(theirs.column_names)
        if ours:
            assert sorted(ours[0]) == names, table
        printed = sorted(tuple(repr(normal(row[name])) for name in names) for row in ours)
        expected = sorted(tuple(repr(normal(cell)) for cell in row) for row in readers.rows(theirs))
        assert printed == expected, f"{table} differs in {engine}"


def normal(value):
    """Numbers as JSON has them: 1.0 and 1 are one number; decimals may be printed as number or text."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value) if value.replace(".", "", 1).lstrip("-").isdigit() else value
        except ValueError:
            return value
    if isinstance(value, dict):
        return {name: normal(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [normal(inner) for inner in value]
    return value


def test_types_agree_between_readers(demo):
    for table in demo.tables():
        seen = {engine: readers.types(readers.read(engine, demo.path(table))) for engine in ("deltalake", "duckdb", "polars")}
        assert seen["deltalake"] == seen["duckdb"] == seen["polars"], table


def test_a_foreign_append_is_read_right(project):
    (project.folder / "landing" / "a.csv").write_text("id,name,amount\n1,ann,1.5\n2,bob,2.25\n")
    (project.folder / "lode.yml").write_text(
        "ingest:\n  - name: orders\n    files: {path: landing}\n    format: csv\n    table: bronze.orders\n"
        "    columns: {id: bigint, name: text, amount: double precision}\n"
    )
    project.lode("ingest")
    path = project.path("bronze.orders")
    table = DeltaTable(path)
    schema = readers.read("deltalake", path).schema
    foreign = readers.pyarrow.Table.from_pylist(
        [{name: None for name in schema.names} | {"id": 3, "name": "cem", "amount": 4.0}], schema=schema
    )
    write_deltalake(table, foreign, mode="append")
    assert project.sql("select id, name, amount from bronze.orders order by id") == [
        {"id": 1, "name": "ann", "amount": 1.5},
        {"id": 2, "name": "bob", "amount": 2.25},
        {"id": 3, "name": "cem", "amount": 4.0},
    ]
    # Landing goes on above the foreign commit.
    (project.folder / "landing" / "b.csv").write_text("id,name,amount\n4,dan,8.0\n")
    project.lode("ingest")
    assert project.sql("select count(*) as n, sum(amount) as total from bronze.orders") == [{"n": 4, "total": 15.75}]


def test_a_table_that_deltalake_made_is_read_right(project):
    """Deletes, overwrites, partitions and a checkpoint by the other writer, in the folder where Lode looks for tables."""
    path = project.path("bronze.foreign")
    arrow = readers.pyarrow.table({"id": list(range(100)), "region": [f"r{i % 3}" for i in range(100)]})
    write_deltalake(path, arrow, partition_by=["region"])
    table = DeltaTable(path)
    table.delete("id % 10 = 0")
    for start in range(100, 112):
        write_deltalake(path, readers.pyarrow.table({"id": [start], "region": ["r9"]}), mode="append")
    DeltaTable(path).create_checkpoint()
    (project.folder / "lode.yml").write_text("{}\n")
    project.lode("table", "register", "bronze.foreign")
    got = project.sql("select region, count(*) as n, min(id) as low, max(id) as high from bronze.foreign group by region order by region")
    kept = [i for i in range(100) if i % 10]
    want = [
        {"region": f"r{r}", "n": len(of), "low": min(of), "high": max(of)}
        for r in range(3)
        for of in [[i for i in kept if i % 3 == r]]
    ]
    assert got == want + [{"region": "r9", "n": 12, "low": 100, "high": 111}]


def test_changed_rows_read_the_same(project, engine):
    """Updates and deletes leave deletion vectors on large files and rewrite small ones: every reader sees the rows that live."""
    (project.folder / "lode.yml").write_text("{}\n")
    project.lode(
        "sql",
        "-c",
        """create table big (id bigint, region text, amount numeric(10,2), tag uuid, noise text);
           insert into big select v, 'r' || v % 7, v / 8.0, ('a0eebc99-9c0b-4ef8-bb6d-' || lpad(v::text, 12, '0'))::uuid, md5(v::text)
           from generate_series(1, 400000) as s(v);
           delete from big where id % 1000 = 7;
           update big set amount = -1, region = upper(region) where id % 5000 = 8;
           delete from big where id % 2000 = 7 or id = 8;
           insert into big (id) values (0)""",
    )
    log = pathlib.Path(project.path("public.big")) / "_delta_log"
    assert any("deletionVector" in commit.read_text() for commit in log.glob("*.json"))
    theirs = readers.read(engine, project.path("public.big"))
    assert theirs.num_rows == 400000 - 400 - 1 + 1
    figures = "select count(*) as n, sum(id) as ids, sum(amount) as amount, count(distinct tag) as tags from public.big"
    [ours] = project.sql(figures)
    ids = theirs.column("id").to_pylist()
    amounts = [amount for amount in theirs.column("amount").to_pylist() if amount is not None]
    tags = {tag for tag in theirs.column("tag").to_pylist() if tag is not None}
    printed = (ours["n"], ours["ids"], normal(ours["amount"]), ours["tags"])
    assert printed == (len(ids), sum(ids), normal(str(sum(amounts))), len(tags))
    assert len(set(ids)) == len(ids) and 7 not in ids and 8 not in ids
    assert "R1" in theirs.column("region").to_pylist()


def test_a_foreign_delete_under_our_vectors_is_read_right(project):
    (project.folder / "lode.yml").write_text("{}\n")
    project.lode("sql", "-c", "create table big as select v as id, 'n' || v as name, md5(v::text) as noise from generate_series(1, 300000) as s(v)")
    project.lode("sql", "-c", "delete from big where id % 3000 = 1")
    DeltaTable(project.path("public.big")).delete("id % 3000 = 2")
    write_deltalake(DeltaTable(project.path("public.big")), readers.pyarrow.table({"id": [-1], "name": ["foreign"], "noise": [None]}), mode="append")
    project.lode("sql", "-c", "delete from big where id % 3000 = 3; update big set name = 'ours' where id = -1")
    [seen] = project.sql("select count(*) as n, count(distinct id) as ids, min(name) as name from public.big where id < 0 or id % 3000 > 0")
    assert seen == {"n": 300000 - 400 + 1, "ids": 300000 - 400 + 1, "name": "n10"}
    assert project.sql("select name from big where id = -1") == [{"name": "ours"}]


def test_uuids_of_another_writer_are_found_however_they_are_written(project):
    (project.folder / "lode.yml").write_text("{}\n")
    project.lode("sql", "-c", "create table u (id uuid, n int); insert into u values ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 1)")
    theirs = readers.pyarrow.table(
        {"id": ["C0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "{d0eebc999c0b4ef8bb6d6bb9bd380a11}"], "n": [2, 3]},
        schema=readers.pyarrow.schema([("id", "string"), ("n", "int32")]),
    )
    write_deltalake(DeltaTable(project.path("public.u")), theirs, mode="append")
    for first, number in (("a", 1), ("c", 2), ("D", 3)):
        assert project.sql(f"select n from u where id = '{first}0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'") == [{"n": number}]
    assert project.sql("select n from u where id > 'b0000000-0000-0000-0000-000000000000' order by id") == [{"n": 2}, {"n": 3}]


def test_rows_of_an_append_only_table_stay(project):
    path = project.path("bronze.log")
    write_deltalake(path, readers.pyarrow.table({"id": [1, 2]}), configuration={"delta.appendOnly": "true"})
    (project.folder / "lode.yml").write_text("{}\n")
    project.lode("table", "register", "bronze.log")
    refused = project.lode("sql", "-c", "delete from bronze.log where id = 1", check=False)
    assert refused.returncode == 1 and "append-only" in refused.stderr, refused.stderr
    # Refused before it was sealed: nothing is in the way of what may be done.
    project.lode("sql", "-c", "insert into bronze.log values (3)")
    assert project.sql("select count(*) as n from bronze.log") == [{"n": 3}]


def iceberg_rows(path):
    """Rows by pyiceberg, from the newest metadata of the folder."""
    folder = pathlib.Path(path) / "metadata"
    newest = folder / f"v{(folder / 'version-hint.text').read_text().strip()}.metadata.json"
    table = StaticTable.from_metadata(f"file://{newest}")
    found = sorted(tuple(row[name] for name in ("id", "name")) for row in table.scan().to_arrow().to_pylist())
    connection = duckdb.connect()
    for extension in (duckdb_extension_avro, duckdb_extension_iceberg):
        folder = pathlib.Path(extension.__file__).parent
        connection.execute(f"LOAD '{next(folder.rglob('*.duckdb_extension'))}'")
    assert sorted(connection.execute(f"select id, name from iceberg_scan('{newest}')").fetchall()) == found
    return found


def test_tables_are_shown_as_iceberg_where_asked(project):
    (project.folder / "dbt_project.yml").write_text("name: p\n")
    (project.folder / "models").mkdir()
    model = "{{ config(materialized='incremental', unique_key='id', expose=['delta', 'iceberg']) }} select id, upper(name) as name from bronze.orders"
    (project.folder / "models" / "m.sql").write_text(model)
    (project.folder / "lode.yml").write_text(
        "ingest:\n  - {name: orders, files: {path: landing}, format: csv, table: bronze.orders, expose: [delta, iceberg]}\n"
    )
    for at, rows in enumerate([[(1, "ann"), (2, "bob")], [(3, "cem")]]):
        lines = "".join(f"{id},{name}\n" for id, name in rows)
        (project.folder / "landing" / f"{at}.csv").write_text("id,name\n" + lines)
        project.lode("ingest")
        project.lode("build")
    assert iceberg_rows(project.path("bronze.orders")) == [(1, "ann"), (2, "bob"), (3, "cem")]
    assert iceberg_rows(project.path("public.m")) == [(1, "ANN"), (2, "BOB"), (3, "CEM")]
    project.lode("sql", "-c", "delete from bronze.orders where id = 2")
    assert iceberg_rows(project.path("bronze.orders")) == [(1, "ann"), (3, "cem")]
    # Lost metadata is made again by the next commit.
    for file in (pathlib.Path(project.path("bronze.orders")) / "metadata").iterdir():
        file.unlink()
    project.lode("sql", "-c", "update bronze.orders set name = 'new' where id = 3")
    assert iceberg_rows(project.path("bronze.orders")) == [(1, "ann"), (3, "new")]


def test_vectors_are_shown_as_iceberg_deletes(project):
    (project.folder / "dbt_project.yml").write_text("name: p\n")
    (project.folder / "models").mkdir()
    model = "{{ config(materialized='table', expose=['delta', 'iceberg']) }} select v as id, md5(v::text) as name from generate_series(1, 200000) as s(v)"
    (project.folder / "models" / "m.sql").write_text(model)
    (project.folder / "lode.yml").write_text("{}\n")
    project.lode("build")
    project.lode("sql", "-c", "delete from m where id % 1000 = 1; update m set name = 'x' where id % 5000 = 2; delete from m where id % 1000 = 3")
    assert list(pathlib.Path(project.path("public.m")).glob("_dv/*.bin"))
    ours = sorted((row["id"], row["name"]) for row in project.sql("select id, name from m"))
    assert len(ours) == 200000 - 400 and iceberg_rows(project.path("public.m")) == ours
