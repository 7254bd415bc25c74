"""One peer's landing: file -> Parquet (zstd 1), synced -> committed as a Delta table with deltalake. Prints the row count.

usage: land.py duckdb|polars csv|ndjson FILE TABLE_DIR
"""

import json
import os
import sys
import time
import uuid

engine, kind, source, table = sys.argv[1:]
os.makedirs(table)
name = f"{uuid.uuid4()}.parquet"
target = os.path.join(table, name)

if engine == "duckdb":
    import duckdb

    connection = duckdb.connect()
    reader = f"read_csv('{source}')" if kind == "csv" else f"read_json('{source}', format='newline_delimited')"
    connection.execute(
        f"COPY (SELECT * FROM {reader}) TO '{target}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
    )
else:
    import polars

    frame = polars.scan_csv(source, try_parse_dates=True) if kind == "csv" else polars.scan_ndjson(source)
    frame.sink_parquet(target, compression="zstd", compression_level=1)

# As durable as Lode: the file and its folder reach the disk before the commit.
for path in (target, table):
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)

import pyarrow.parquet
from deltalake import Schema
from deltalake.transaction import AddAction, create_table_with_add_actions

footer = pyarrow.parquet.ParquetFile(target)
add = AddAction(name, os.path.getsize(target), {}, int(time.time() * 1000), True, json.dumps({"numRecords": footer.metadata.num_rows}))
create_table_with_add_actions(table, Schema.from_arrow(footer.schema_arrow), [add], mode="error", partition_by=[])
print(footer.metadata.num_rows)
