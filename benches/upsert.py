"""Keyed upserts into a large table: Lode's incremental merge beside deltalake MERGE and pyiceberg upsert. Bar: 10x deltalake.

Each system takes the same batches one after the other; what is timed is one process from its start to the committed table.
"""

import argparse
import os
import shutil
import statistics
import sys
from importlib.metadata import version

import measure
import numpy
import pyarrow
import pyarrow.parquet

HERE = os.path.dirname(os.path.abspath(__file__))
LODE = os.environ["LODE_BIN"]
DATA = os.environ["LODE_BENCH_DIR"]

MODEL = """{{ config(materialized='incremental', unique_key='id', incremental_strategy='merge') }}
select id, vin, km, soc, at from bronze.batches where _file = '{{ var("batch") }}'
"""
CONFIG = """ingest:
  - name: batches
    files: {path: landing, pattern: "*.parquet"}
    format: parquet
    table: bronze.batches
"""


def rows(ids, seed):
    rng = numpy.random.default_rng(seed)
    count = len(ids)
    cars = rng.integers(0, 5000, count)
    return pyarrow.table(
        {
            "id": pyarrow.array(ids, pyarrow.int64()),
            "vin": pyarrow.array([f"WLD{car:014d}" for car in cars]),
            "km": pyarrow.array(numpy.round(rng.uniform(0, 300_000, count), 1)),
            "soc": pyarrow.array(rng.integers(0, 101, count), pyarrow.int32()),
            "at": pyarrow.array(1_750_000_000_000_000 + rng.integers(0, 10**13, count), pyarrow.timestamp("us", tz="UTC")),
        }
    )


def make_data(folder, base, batches):
    """`base` rows with ids in random order, and batches of random keys, nine of ten of which are there."""
    os.makedirs(folder, exist_ok=True)
    rng = numpy.random.default_rng(3)
    path = os.path.join(folder, "base.parquet")
    if not os.path.exists(path):
        ids = rng.permutation(base)
        with pyarrow.parquet.ParquetWriter(path + ".part", rows(ids[:1], 0).schema) as writer:
            for at in range(0, base, 1_000_000):
                writer.write_table(rows(ids[at : at + 1_000_000], at))
        os.rename(path + ".part", path)
    for name, keys in batches.items():
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            seed = sum(map(ord, name)) * 7919 + keys
            own = numpy.random.default_rng(seed)
            there = own.choice(base, keys * 9 // 10, replace=False)
            new = base + own.choice(base, keys - len(there), replace=False)
            pyarrow.parquet.write_table(rows(numpy.concatenate([there, new]), seed), path + ".part")
            os.rename(path + ".part", path)


def size_mb(folder):
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names) / 1e6


class Lode:
    name = "lode"

    def __init__(self, data, scratch):
        self.project = os.path.join(scratch, "lode")
        shutil.rmtree(self.project, ignore_errors=True)
        os.makedirs(os.path.join(self.project, "models"))
        os.symlink(data, os.path.join(self.project, "landing"))
        for name, text in (("models/t.sql", MODEL), ("lode.yml", CONFIG), ("dbt_project.yml", "name: upsert\nversion: '1'\n")):
            with open(os.path.join(self.project, name), "w") as file:
                file.write(text)
        measure.run([LODE, "ingest", "--project-dir", self.project])
        self.folder = os.path.join(self.project, ".lode", "lake", "public", "t")
        self.upsert("base.parquet")

    def upsert(self, batch):
        return measure.run([LODE, "build", "--project-dir", self.project, "--vars", f"batch: {batch}"])[:3]

    def sql(self, text):
        return measure.run([LODE, "sql", "--project-dir", self.project, "--format", "csv", "-c", text])

    def answer(self):
        out = self.sql("select count(*), round(sum(km)::numeric, 1), sum(soc) from t")[3]
        return tuple(float(value) for value in out.splitlines()[1].split(","))


class Peer:
    def __init__(self, name, data, scratch):
        self.name, self.data = name, data
        self.folder = os.path.join(scratch, name)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.call("create", "base.parquet")

    def call(self, verb, batch):
        tool = os.path.join(HERE, "peers", "upsert.py")
        return measure.run([sys.executable, tool, self.name, verb, self.folder, os.path.join(self.data, batch)])

    def upsert(self, batch):
        return self.call("upsert", batch)[:3]

    def answer(self):
        return tuple(float(value) for value in self.call("answer", "base.parquet")[3].split())


def round_of(title, systems, batches):
    results = {system.name: [] for system in systems}
    written = {system.name: 0.0 for system in systems}
    for batch in batches:
        for system in systems:
            before = size_mb(system.folder)
            results[system.name].append((*system.upsert(batch), None))
            written[system.name] += size_mb(system.folder) - before
    measure.report(title, results)
    print("written, MB a batch: " + ", ".join(f"{name} {mb / len(batches):.1f}" for name, mb in written.items()))
    return results


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--base", type=int, default=20_000_000)
    arguments.add_argument("--bulk", type=int, default=1_000_000)
    arguments.add_argument("--micro", type=int, default=10_000)
    arguments.add_argument("--bulks", type=int, default=3)
    arguments.add_argument("--micros", type=int, default=5, help="micro-batches beside the peers")
    arguments.add_argument("--more-micros", type=int, default=100, help="micro-batches of Lode before its scan is timed")
    arguments.add_argument("--pyiceberg-base", type=int, default=1_000_000, help="pyiceberg reads all of its table: it gets a smaller one")
    arguments.add_argument("--skip-pyiceberg", action="store_true")
    arguments = arguments.parse_args()
    print(f"machine: {measure.machine()}")
    print(f"versions: {measure.run([LODE, '--version'])[3].strip()}, deltalake {version('deltalake')}, pyiceberg {version('pyiceberg')}")
    bulks = {f"bulk-{at}.parquet": arguments.bulk for at in range(arguments.bulks)}
    micros = {f"micro-{at}.parquet": arguments.micro for at in range(max(arguments.micros, arguments.more_micros))}
    data = os.path.join(DATA, f"upsert-{arguments.base}")
    scratch = os.path.join(DATA, "scratch-upsert")
    make_data(data, arguments.base, bulks | micros)
    lode, deltalake = Lode(data, scratch), Peer("deltalake", data, scratch)
    few = list(micros)[: arguments.micros]
    round_of(f"{arguments.bulk:,} random keys into {arguments.base:,} rows", [lode, deltalake], list(bulks))
    round_of(f"{arguments.micro:,} random keys into {arguments.base:,} rows", [lode, deltalake], few)
    ours, theirs = lode.answer(), deltalake.answer()
    failed = any(abs(a - b) > 0.11 for a, b in zip(ours, theirs))
    print(f"\nrows, sum of km, sum of soc: lode {ours}, deltalake {theirs}: {'NOT EQUAL' if failed else 'equal'}")
    # Reading after many micro-batches.
    walls = [lode.upsert(batch)[0] for batch in list(micros)[arguments.micros : arguments.more_micros]]
    if walls:
        print(f"\n{len(walls)} more micro-batches: median {statistics.median(walls):.2f} s, worst {max(walls):.2f} s")
        scan = "select count(distinct vin), sum(km), max(at) from t"
        marked = statistics.median(lode.sql(scan)[0] for _ in range(3))
        lode.sql("create table clean as select * from t")
        clean = statistics.median(lode.sql(scan.replace("from t", "from clean"))[0] for _ in range(3))
        print(f"scan after {arguments.more_micros} micro-batches {marked:.2f} s, of a fresh copy {clean:.2f} s: {marked / clean:.2f}x")
    if not arguments.skip_pyiceberg:
        small = os.path.join(DATA, f"upsert-{arguments.pyiceberg_base}")
        make_data(small, arguments.pyiceberg_base, {f"micro-{at}.parquet": arguments.micro for at in range(3)})
        systems = [Lode(small, os.path.join(scratch, "small")), Peer("pyiceberg", small, scratch)]
        title = f"{arguments.micro:,} random keys into {arguments.pyiceberg_base:,} rows"
        round_of(title, systems, [f"micro-{at}.parquet" for at in range(3)])
        print(f"\nrows, sums: {[system.answer() for system in systems]}")
    shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(1 if failed else 0)


main()
