"""Reads a Delta table with another implementation; rows become comparable values, columns keep their type names."""

import datetime
import decimal
import math
import pathlib

import duckdb
import duckdb_extension_delta
import polars
import pyarrow
from deltalake import DeltaTable, QueryBuilder

EXTENSION = pathlib.Path(duckdb_extension_delta.__file__).parent


def read(engine, path):
    """The whole table as a pyarrow Table."""
    if engine == "deltalake":
        table = QueryBuilder().register("t", DeltaTable(path)).execute("select * from t").read_all()
        return pyarrow.table(table)
    if engine == "duckdb":
        connection = duckdb.connect()
        # The extension comes in a wheel of its own: nothing is downloaded at run time.
        connection.execute(f"LOAD '{next(EXTENSION.rglob('delta.duckdb_extension'))}'")
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(f"select * from delta_scan('{path}')").to_arrow_table()
    return polars.read_delta(path).to_arrow()


def plain(value):
    """A value in the form in which `lode sql --format json` prints it."""
    if isinstance(value, datetime.datetime):
        zone = "" if value.tzinfo is None else "+00:00"
        value = value if value.tzinfo is None else value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        text = value.isoformat()
        return (text.rstrip("0") if "." in text else text) + zone
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value


def rows(table):
    """Rows as tuples of plain values, columns by name."""
    names = sorted(table.column_names)
    columns = [table.column(name).to_pylist() for name in names]
    return [tuple(plain(value) for value in row) for row in zip(*columns)]


def types(table):
    """Column -> type, without what in-memory forms differ in (large or view strings)."""
    simple = {"large_string": "string", "string_view": "string", "large_binary": "binary", "binary_view": "binary"}
    return {field.name: simple.get(str(field.type), kind(field.type)) for field in table.schema}


def kind(data_type):
    text = str(data_type)
    for long, short in (("large_string", "string"), ("string_view", "string"), ("large_list", "list"), ("large_binary", "binary"), ("binary_view", "binary")):
        text = text.replace(long, short)
    # Names of list children and nullability differ between readers, not types.
    for noise in ("element: ", "item: ", "l: ", " not null"):
        text = text.replace(noise, "")
    return text.replace("tz=Etc/UTC", "tz=UTC")
