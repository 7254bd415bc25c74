"""One upsert by a peer: upsert.py deltalake|pyiceberg create|upsert|answer TABLE BATCH."""

import os
import sys

import pyarrow.compute
import pyarrow.parquet

engine, verb, folder, batch = sys.argv[1:]


def totals(table):
    return table.num_rows, round(pyarrow.compute.sum(table["km"]).as_py(), 1), pyarrow.compute.sum(table["soc"]).as_py()


if engine == "deltalake":
    import deltalake

    if verb == "create":
        reader = pyarrow.parquet.ParquetFile(batch)
        batches = pyarrow.RecordBatchReader.from_batches(reader.schema_arrow, reader.iter_batches(1_000_000))
        deltalake.write_deltalake(folder, batches)
    elif verb == "upsert":
        merge = deltalake.DeltaTable(folder).merge(
            pyarrow.parquet.read_table(batch), "t.id = s.id", source_alias="s", target_alias="t"
        )
        merge.when_matched_update_all().when_not_matched_insert_all().execute()
    else:
        print(*totals(deltalake.DeltaTable(folder).to_pyarrow_table(columns=["km", "soc"])))
else:
    from pyiceberg.catalog.sql import SqlCatalog

    os.makedirs(folder, exist_ok=True)
    catalog = SqlCatalog("bench", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}")
    if verb == "create":
        table = pyarrow.parquet.read_table(batch)
        catalog.create_namespace("b")
        catalog.create_table("b.t", schema=table.schema).append(table)
    elif verb == "upsert":
        catalog.load_table("b.t").upsert(pyarrow.parquet.read_table(batch), join_cols=["id"])
    else:
        print(*totals(catalog.load_table("b.t").scan(selected_fields=("km", "soc")).to_arrow()))
