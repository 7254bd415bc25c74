"""CSV and NDJSON to a committed Delta table: Lode beside DuckDB and Polars. Bar: 1.0x the faster of the two."""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from importlib.metadata import version

import measure

HERE = os.path.dirname(os.path.abspath(__file__))
LODE = os.environ["LODE_BIN"]
DATA = os.environ["LODE_BENCH_DIR"]


def lineitem_csv(rows):
    """TPC-H lineitem as CSV by tpchgen, cut to `rows`."""
    path = os.path.join(DATA, f"lineitem-{rows}.csv")
    if not os.path.exists(path):
        os.makedirs(DATA, exist_ok=True)
        scale = max(0.01, rows / 6_000_000 * 1.01)
        folder = os.path.join(DATA, "tpch")
        tool = os.path.join(os.path.dirname(sys.executable), "tpchgen-cli")
        subprocess.run([tool, "csv", "-s", f"{scale:.3f}", "--tables=lineitem", f"--output-dir={folder}"], check=True)
        with open(os.path.join(folder, "lineitem.csv"), "rb") as full, open(path + ".part", "wb") as cut:
            for at, line in enumerate(full):
                if at > rows:
                    break
                cut.write(line)
        os.rename(path + ".part", path)
        shutil.rmtree(folder)
    return path


def telemetry_ndjson(rows):
    """Seeded nested vehicle telemetry, 12 % nulls."""
    path = os.path.join(DATA, f"telemetry-{rows}.ndjson")
    if not os.path.exists(path):
        os.makedirs(DATA, exist_ok=True)
        rng = random.Random(7)
        with open(path + ".part", "w") as out:
            for at in range(rows):
                car = rng.randrange(5000)
                second = at % 86400
                row = {
                    "vin": f"WLD{car:014d}",
                    "seq": at,
                    "ts": f"2025-06-02T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.{rng.randrange(1000):03d}Z",
                    "speed_kmh": None if rng.random() < 0.12 else round(rng.uniform(0, 150), 1),
                    "battery": {"soc_pct": round(rng.uniform(5, 100), 2), "temp_c": rng.randrange(-5, 40), "volts": None if rng.random() < 0.12 else round(rng.uniform(302, 395), 1)},
                    "position": {"lat": round(34 + rng.random(), 6), "lon": round(-6.8 + rng.random(), 6)},
                    "charging": rng.choice(["none", "none", "none", "ac", "dc"]),
                    "odometer_km": round(car * 10 + second / 100, 2),
                    "firmware": rng.choice(["1.8.2", "2.0.1", "2.1.0"]),
                }
                out.write(json.dumps(row, separators=(",", ":")))
                out.write("\n")
        os.rename(path + ".part", path)
    return path


def lode_job(kind, source, scratch):
    def job():
        project = os.path.join(scratch, "lode")
        shutil.rmtree(project, ignore_errors=True)
        os.makedirs(os.path.join(project, "landing"))
        os.link(source, os.path.join(project, "landing", os.path.basename(source)))
        with open(os.path.join(project, "lode.yml"), "w") as config:
            config.write(f"ingest:\n  - name: bench\n    files: {{path: landing, pattern: '*'}}\n    format: {kind}\n    table: bronze.bench\n")
        wall, cpu, rss, _ = measure.run([LODE, "ingest", "--project-dir", project])
        answer = measure.run([LODE, "sql", "--project-dir", project, "--format", "csv", "-c", "select count(*) as n from bronze.bench"])[3]
        return wall, cpu, rss, int(answer.split()[1])

    return job


def peer_job(engine, kind, source, scratch):
    def job():
        table = os.path.join(scratch, engine)
        shutil.rmtree(table, ignore_errors=True)
        wall, cpu, rss, out = measure.run([sys.executable, os.path.join(HERE, "peers", "land.py"), engine, kind, source, table])
        return wall, cpu, rss, int(out)

    return job


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rows", type=int, default=6_000_000, help="CSV rows; NDJSON gets a third")
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--only", choices=["csv", "ndjson"])
    arguments = arguments.parse_args()
    lode_version = measure.run([LODE, "--version"])[3].strip()
    print(f"machine: {measure.machine()}")
    print(f"versions: {lode_version}, duckdb {version('duckdb')}, polars {version('polars')}, deltalake {version('deltalake')}")
    print(f"repeats: {arguments.repeats} timed, interleaved, after one warm-up each")
    scratch = os.path.join(DATA, "scratch")
    failed = False
    for kind, path, rows in (
        ("csv", lineitem_csv, arguments.rows),
        ("ndjson", telemetry_ndjson, arguments.rows // 3),
    ):
        if arguments.only not in (None, kind):
            continue
        source = path(rows)
        jobs = {"lode": lode_job(kind, source, scratch)}
        jobs |= {engine: peer_job(engine, kind, source, scratch) for engine in ("duckdb", "polars")}
        results = measure.interleave(jobs, arguments.repeats)
        counts = {name: {r[3] for r in runs} for name, runs in results.items()}
        if any(count != {rows} for count in counts.values()):
            print(f"NOT EQUAL WORK: {counts}, wanted {rows}")
            failed = True
        size_mb = os.path.getsize(source) / 1e6
        measure.report(f"{kind}: {rows:,} rows, {size_mb:.0f} MB, to a committed Delta table", results, size_mb=size_mb)
    shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(1 if failed else 0)


main()
