"""Reads an Iceberg table with every reader at hand and compares it with the rows that were written.

Arguments: metadata file, table folder, Parquet file of the expected rows, Iceberg snapshot id or "-" for the newest, and
conditions in SQL, each of which must find as many rows as in the expected ones.
"""

import collections
import datetime
import decimal
import functools
import math
import pathlib
import re
import sys
import warnings

import duckdb
import duckdb_extension_avro
import duckdb_extension_iceberg
import polars
import pyarrow.parquet
from pyiceberg.table import StaticTable

warnings.simplefilter("ignore")


def plain(value):
    if isinstance(value, datetime.datetime):
        zone = "" if value.tzinfo is None else "Z"
        value = value if value.tzinfo is None else value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        return value.isoformat() + zone
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, dict):
        return sorted((name, plain(inner)) for name, inner in value.items())
    if isinstance(value, tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, list):
        # Maps come as pairs or as objects with key and value.
        if value and all(isinstance(item, dict) and set(item) == {"key", "value"} for item in value):
            value = [(item["key"], item["value"]) for item in value]
        return [plain(inner) for inner in value]
    return value


def rows(table):
    """Rows of a pyarrow Table as texts, with how often each is there."""
    names = sorted(table.column_names)
    columns = [table.column(name).to_pylist() for name in names]
    return collections.Counter(repr([(n, plain(v)) for n, v in zip(names, row)]) for row in zip(*columns))


@functools.cache
def duck():
    connection = duckdb.connect()
    # The extensions come in wheels of their own: nothing is downloaded at run time.
    for package, name in [(duckdb_extension_avro, "avro"), (duckdb_extension_iceberg, "iceberg")]:
        found = next(pathlib.Path(package.__file__).parent.rglob(f"{name}.duckdb_extension"))
        connection.execute(f"LOAD '{found}'")
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def readers(metadata, folder, snapshot):
    """Name to a function from a condition to a pyarrow Table."""
    table = StaticTable.from_metadata(metadata)
    number = None if snapshot == "-" else int(snapshot)
    at = "" if number is None else f", snapshot_from_id={number}"

    def pyiceberg(condition):
        scan = table.scan(snapshot_id=number) if condition is None else table.scan(condition, snapshot_id=number)
        return scan.to_arrow()

    def of_duckdb(path):
        def read(condition):
            where = "" if condition is None else f" where {condition}"
            return duck().execute(f"select * from iceberg_scan('{path}'{at}){where}").to_arrow_table()

        return read

    def of_polars(condition):
        scan = polars.scan_iceberg(metadata, snapshot_id=number)
        if condition is not None:
            # polars compares dates with dates only.
            scan = scan.filter(polars.sql_expr(re.sub(r"('\d{4}-\d\d-\d\d')", r"\1::date", condition)))
        return scan.collect().to_arrow()

    return {
        "pyiceberg": pyiceberg,
        "duckdb, metadata file": of_duckdb(metadata),
        "duckdb, folder": of_duckdb(folder),
        "polars": of_polars,
    }


def views(metadata):
    """Calls what shows the metadata itself; returns rows of data less deleted ones, as each reader counts them."""
    inspect = StaticTable.from_metadata(metadata).inspect
    for view in [inspect.snapshots, inspect.manifests, inspect.partitions, inspect.history, inspect.refs]:
        view()
    inspect.entries()
    counts = collections.Counter()
    for file in inspect.files().select(["content", "record_count"]).to_pylist():
        counts["pyiceberg"] += file["record_count"] * (-1 if file["content"] else 1)
    found = duck().execute(
        f"select content, sum(record_count) from iceberg_metadata('{metadata}') where status <> 'DELETED' group by 1"
    )
    for content, count in found.fetchall():
        counts["duckdb"] += int(count) if content in ("EXISTING", "DATA") else -int(count)
    return counts


def main():
    metadata, folder, expected, snapshot, *conditions = sys.argv[1:]
    wanted = rows(pyarrow.parquet.read_table(expected))
    problems = []
    for name, read in readers(metadata, folder, snapshot).items():
        try:
            found = rows(read(None))
            if found != wanted:
                problems.append(f"{name}: missing {list((wanted - found).elements())[:3]}, too many {list((found - wanted).elements())[:3]}")
            for condition in conditions:
                count = duck().execute(f"select count(*) from '{expected}' where {condition}").fetchone()[0]
                seen = read(condition).num_rows
                if seen != count:
                    problems.append(f"{name}: {seen} of {count} rows where {condition}")
        except Exception as error:  # Whatever a reader refuses is a fault of ours.
            problems.append(f"{name}: {type(error).__name__}: {error}")
    # The view of files in pyiceberg 0.12.0 fails on a table without any.
    if snapshot == "-" and wanted:
        for name, count in views(metadata).items():
            if count != wanted.total():
                problems.append(f"{name}: the metadata counts {count} of {wanted.total()} rows")
    print("\n".join(problems))
    sys.exit(1 if problems else 0)


main()
