"""deltalake, DuckDB and Polars read every table that the demo wrote: same rows, same types, as Lode itself."""

import readers
from deltalake import DeltaTable, write_deltalake


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
