"""A small demo project made by the real binary; other readers read what it wrote."""

import json
import os
import pathlib
import subprocess

import pytest

LODE = os.environ.get("LODE_BIN", "lode")


class Project:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.lake = self.folder / ".lode" / "lake"

    def lode(self, *arguments, check=True):
        done = subprocess.run(
            [LODE, *arguments, "--project-dir", str(self.folder)], capture_output=True, text=True, timeout=300, cwd=self.folder
        )
        if check:
            assert done.returncode == 0, f"lode {arguments}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done

    def sql(self, statement):
        return json.loads(self.lode("sql", "--format", "json", "-c", statement).stdout)

    def tables(self):
        """Names of all tables, as folders of the lake."""
        return sorted(f"{log.parent.parent.name}.{log.parent.name}" for log in self.lake.glob("*/*/_delta_log"))

    def path(self, table):
        return str(self.lake / table.replace(".", "/"))


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "ev"
    subprocess.run([LODE, "demo", str(folder), "--cars", "12", "--days", "3"], check=True, capture_output=True, timeout=600)
    return Project(folder)


@pytest.fixture
def project(tmp_path):
    (tmp_path / "landing").mkdir()
    return Project(tmp_path)


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", ["deltalake", "duckdb", "polars"])
