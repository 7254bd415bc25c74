"""A whole project whose lake lies in a bucket (moto stands in for S3): the same commands, the same rows, other readers, a kill."""

import os
import re
import signal
import subprocess

import boto3
import deltalake
import pytest
from conftest import LODE, Project
from moto.server import ThreadedMotoServer

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def s3():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3, monkeypatch, request):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower())[-60:].strip("-")
    client = boto3.client("s3", endpoint_url=s3, region_name="us-east-1")
    client.create_bucket(Bucket=name)
    return client, name


def write_config(folder, s3, bucket, ingest=""):
    (folder / "lode.yml").write_text(
        f'lake:\n  path: s3://{bucket}/lake\n  options: {{endpoint: "{s3}", allow_http: true}}\n{ingest}'
    )


ORDERS = """
ingest:
  - name: orders
    files: {path: landing, pattern: "*.csv"}
    format: csv
    table: bronze.orders
    columns: {id: bigint, name: text, amount: double precision}
"""


def foreign(s3, bucket, table):
    options = {"AWS_ENDPOINT_URL": s3, "AWS_ALLOW_HTTP": "true", **KEYS}
    return deltalake.DeltaTable(f"s3://{bucket}/lake/{table}", storage_options=options)


def test_a_project_in_a_bucket(project, s3, bucket):
    client, name = bucket
    write_config(project.folder, s3, name, ORDERS)
    (project.folder / "dbt_project.yml").write_text("name: shop\nversion: '1.0'\n")
    (project.folder / "models").mkdir()
    (project.folder / "models" / "totals.sql").write_text(
        "{{ config(materialized='incremental', unique_key='name', incremental_strategy='merge') }}\n"
        "select name, sum(amount) as total from bronze.orders group by name\n"
    )
    (project.folder / "landing" / "a.csv").write_text("id,name,amount\n1,ann,1.5\n2,bob,2.25\n")
    project.lode("ingest")
    project.lode("build")
    (project.folder / "landing" / "b.csv").write_text("id,name,amount\n3,ann,10\n")
    project.lode("ingest")
    project.lode("build")
    project.lode("sql", "-c", "update bronze.orders set amount = 0 where id = 2")
    assert project.sql("select id, name, amount from bronze.orders order by id") == [
        {"id": 1, "name": "ann", "amount": 1.5},
        {"id": 2, "name": "bob", "amount": 0.0},
        {"id": 3, "name": "ann", "amount": 10.0},
    ]
    assert project.sql("select * from totals order by name") == [{"name": "ann", "total": 11.5}, {"name": "bob", "total": 2.25}]
    project.lode("table", "compact")
    project.lode("table", "verify")
    project.lode("table", "vacuum", "--retain", "0s")
    project.lode("build", "--full-refresh")
    # Nothing of the lake lies on this machine.
    assert not list(project.folder.glob(".lode/lake/**/*.parquet"))
    theirs = foreign(s3, name, "bronze/orders").to_pyarrow_table(columns=["id", "amount"]).sort_by("id").to_pydict()
    assert theirs == {"id": [1, 2, 3], "amount": [1.5, 0.0, 10.0]}
    left = [item["Key"] for item in client.list_objects_v2(Bucket=name).get("Contents", []) if "probe" in item["Key"]]
    assert left == []


def test_the_metadata_db_comes_back_from_the_bucket(project, s3, bucket):
    _, name = bucket
    write_config(project.folder, s3, name, ORDERS)
    (project.folder / "landing" / "a.csv").write_text("id,name,amount\n1,ann,1.5\n")
    project.lode("ingest")
    for file in project.folder.glob(".lode/meta.db*"):
        file.unlink()
    project.lode("doctor", "--rebuild")
    project.lode("ingest")
    assert project.sql("select count(*) as n from bronze.orders") == [{"n": 1}]


def test_another_machine_does_not_write_to_the_lake(project, s3, bucket, tmp_path_factory):
    _, name = bucket
    write_config(project.folder, s3, name, ORDERS)
    (project.folder / "landing" / "a.csv").write_text("id,name,amount\n1,ann,1.5\n")
    project.lode("ingest")
    other = Project(tmp_path_factory.mktemp("other"))
    (other.folder / "landing").mkdir()
    write_config(other.folder, s3, name, ORDERS)
    refused = other.lode("sql", "-c", "select 1", check=False)
    assert refused.returncode != 0
    assert "rebuild" in refused.stderr or "--adopt" in refused.stderr, refused.stderr


@pytest.mark.parametrize(
    "point", ["epoch.seal.after", "lake.commit.before_put", "lake.commit.after_put", "engine.write.files_written"]
)
def test_a_kill_loses_nothing_and_doubles_nothing(project, s3, bucket, point):
    _, name = bucket
    write_config(project.folder, s3, name)
    project.lode("sql", "-c", "create table t (id bigint)")
    project.lode("sql", "-c", "insert into t values (0)")
    killed = subprocess.run(
        [LODE, "sql", "-c", "insert into t select * from generate_series(1, 1000)", "--project-dir", str(project.folder)],
        env={**os.environ, "LODE_FAIL_POINT": f"{point}=kill"},
        capture_output=True,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, (point, killed)
    rows = project.sql("select count(*) as n, count(distinct id) as d from t")[0]
    assert rows in ({"n": 1, "d": 1}, {"n": 1001, "d": 1001}), (point, rows)
    # The statement was sealed in all places but the first.
    assert (rows["n"] == 1) == (point == "engine.write.files_written"), (point, rows)


def test_a_bucket_that_is_missing_is_named(project, s3, bucket):
    write_config(project.folder, s3, "no-such-bucket")
    refused = project.lode("sql", "-c", "select 1", check=False)
    assert refused.returncode != 0
    assert "no-such-bucket" in refused.stderr and "fix:" in refused.stderr, refused.stderr


def landing(s3, bucket, extra=""):
    return f"""ingest:
  - name: orders
    files:
      path: s3://{bucket}/in/orders
      pattern: "*.csv"
      options: {{endpoint: "{s3}", allow_http: true}}
    format: csv
    table: bronze.orders
    columns: {{id: bigint, name: text}}
{extra}"""


def put(client, bucket, key, text):
    client.put_object(Bucket=bucket, Key=key, Body=text.encode())


def test_files_of_a_bucket_land_once(project, s3, bucket):
    client, name = bucket
    put(client, name, "in/orders/a.csv", "id,name\n1,ann\n2,bob\n")
    put(client, name, "in/orders/2026/b.csv", "id,name\n3,cid\nx,dot\n")
    put(client, name, "in/orders/_ignored/c.csv", "id,name\n9,no\n")
    put(client, name, "in/orders/notes.txt", "no table")
    (project.folder / "lode.yml").write_text(landing(s3, name))
    project.lode("ingest")
    project.lode("ingest")
    rows = project.sql("select id, name, _file from bronze.orders order by id")
    assert rows == [
        {"id": 1, "name": "ann", "_file": "a.csv"},
        {"id": 2, "name": "bob", "_file": "a.csv"},
        {"id": 3, "name": "cid", "_file": "2026/b.csv"},
    ]
    assert project.sql("select count(*) as n from bronze.orders__quarantine") == [{"n": 1}]
    # A rename is no new file, a changed one is refused by default, and the copies are gone.
    client.copy_object(Bucket=name, Key="in/orders/moved.csv", CopySource=f"{name}/in/orders/a.csv")
    client.delete_object(Bucket=name, Key="in/orders/a.csv")
    put(client, name, "in/orders/2026/b.csv", "id,name\n4,eve\n")
    again = project.lode("ingest", check=False)
    assert again.returncode == 1
    assert f"s3://{name}/in/orders/2026/b.csv" in again.stdout + again.stderr, again.stderr
    assert project.sql("select count(*) as n from bronze.orders") == [{"n": 3}]
    assert [path for path in project.folder.glob(".lode/tmp/landing/**/*") if path.is_file()] == []


def test_a_damaged_object_is_named_by_its_url(project, s3, bucket):
    client, name = bucket
    client.put_object(Bucket=name, Key="in/orders/bad.csv", Body=b"\x1f\x8b\x08\x00garbage")
    put(client, name, "in/orders/good.csv", "id,name\n1,ann\n")
    (project.folder / "lode.yml").write_text(landing(s3, name))
    done = project.lode("ingest", check=False)
    assert done.returncode == 1
    assert f"s3://{name}/in/orders/bad.csv" in done.stdout + done.stderr, done.stdout + done.stderr
    assert ".lode/tmp" not in done.stdout + done.stderr
    assert project.sql("select count(*) as n from bronze.orders") == [{"n": 1}]


def test_one_object_is_a_source(project, s3, bucket):
    client, name = bucket
    put(client, name, "in/orders/one.csv", "id,name\n1,ann\n")
    config = landing(s3, name).replace("in/orders\n", "in/orders/one.csv\n").replace('      pattern: "*.csv"\n', "")
    (project.folder / "lode.yml").write_text(config)
    project.lode("ingest")
    project.lode("ingest")
    assert project.sql("select id, _file from bronze.orders") == [{"id": 1, "_file": "one.csv"}]


def test_a_kill_while_landing_from_a_bucket(project, s3, bucket):
    client, name = bucket
    for number in range(20):
        put(client, name, f"in/orders/{number}.csv", f"id,name\n{number},x\n")
    (project.folder / "lode.yml").write_text(landing(s3, name))
    for point in ("ingest.collected", "epoch.seal.after", "lake.commit.after_put"):
        subprocess.run(
            [LODE, "ingest", "--project-dir", str(project.folder)],
            env={**os.environ, "LODE_FAIL_POINT": f"{point}=kill"},
            capture_output=True,
            timeout=120,
        )
    project.lode("ingest")
    assert project.sql("select count(*) as n, count(distinct id) as d from bronze.orders") == [{"n": 20, "d": 20}]
