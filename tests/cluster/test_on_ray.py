"""Ray gives what plain processes give, row for row; on a cluster that is started here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from error_fields import at
from hpskit.cluster.finding import find_shards
from hpskit.cluster.score import ScoreShards, Summary, run
from hpskit.cluster.scoring import Loading
from hpskit.cluster.shards import Columns
from hpskit.errors import InputError, ModelError
from shard_files import free_port, wait_for, write_shards
from small_inputs import write_suite

ray_data = pytest.importorskip("hpskit.cluster.ray_data", reason="needs hpskit[cluster]")
WORKERS = 2


@pytest.fixture(scope="module")
def cluster() -> Iterator[ray_data.Cluster]:
    """A cluster that all tests share: one takes half a minute to start here, and may fail to on a busy machine."""
    for attempt in range(3):
        try:
            with ray_data.joined("", WORKERS) as found:
                yield found
            return
        except InputError:
            if attempt == 2:
                raise
            time.sleep(5)


def score(source: object, out: object, **more: Any) -> Summary:
    """Score shards; on Ray unless told otherwise."""
    settings = {"engine": "ray", "workers": WORKERS, "rows": 5, "scorer": Loading(model="mini"), **more}
    return run(ScoreShards(inputs=[str(source)], output=str(out), **settings))


def rows(out: Path) -> list[dict[str, Any]]:
    """All rows of an output, in order."""
    return sorted(pq.read_table(out).to_pylist(), key=lambda row: row["position"])


# The guards, which need no cluster


def test_some_processors_are_left_to_what_reads_and_writes() -> None:
    """Actors that take every one leave none for reading, and nothing ever ends."""
    store = {"object_store_memory": 2e9}
    with pytest.warns(UserWarning, match="5 workers instead of 8"):
        assert ray_data.room(8, [{"CPU": 8, **store}]).workers == 5
    assert ray_data.room(None, [{"CPU": 64, "GPU": 8, **store}]) == ray_data.Cluster(workers=8, cpus=7, gpus=1)
    assert ray_data.room(4, [{"CPU": 64, "GPU": 8, **store}], "cpu") == ray_data.Cluster(workers=4)
    with pytest.raises(InputError, check=at("the cluster", found="has 2 CPUs", expected="at least 4")):
        ray_data.room(2, [{"CPU": 2, **store}])
    with pytest.raises(InputError, check=at(found="has 0.30 GB", cure="--object-store-memory")):
        ray_data.room(2, [{"CPU": 8, "object_store_memory": 3e8}])


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([(64, 0), (4, 4)], (4, 1, 1)),  # a share of all CPUs would be 12, which no machine with a GPU has: for ever
        ([(64, 0), (16, 2), (8, 1)], (3, 8, 1)),
        ([(2, 8), (30, 0)], (2, 1, 1)),  # no CPU for the others
        ([(16, 2), (16, 2)], (4, 7, 1)),  # three are left
        ([(8, 8)], (5, 1, 1)),
        ([(4, 0), (4, 0)], (5, 1, 0)),
    ],
)
def test_a_worker_has_its_share_on_one_machine(nodes: list[tuple[int, int]], expected: tuple[int, int, int]) -> None:
    there = [{"CPU": cpu, "GPU": gpu, "object_store_memory": 2e9} for cpu, gpu in nodes]
    found = ray_data.room(None, there)
    assert (found.workers, found.cpus, found.gpus) == expected


def test_gpus_without_a_cpu_are_told() -> None:
    nodes = [{"CPU": 8, "object_store_memory": 2e9}, {"GPU": 4}]
    with pytest.raises(InputError, check=at("the cluster", found="none beside a CPU")):
        ray_data.room(None, nodes)
    assert ray_data.room(None, nodes, "cpu").workers == 5


def test_an_address_where_nobody_listens_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray alone would try for minutes."""
    for address, found in (("127.0.0.1:9", "refused"), ("ray://127.0.0.1:9", "does not run")):
        with pytest.raises(InputError, check=at("--address", found=found)), ray_data.joined(address, WORKERS):
            pass
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")  # as does a file of a cluster that is no more
    with pytest.raises(InputError, check=at("--address auto", found="refused")), ray_data.joined("auto", WORKERS):
        pass


# On a cluster


@pytest.mark.slow
def test_a_place_that_is_waited_for_is_told(cluster: ray_data.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray_data, "_PATIENCE", 10.0)
    everything = int(ray.cluster_resources()["CPU"])
    others = ray.remote(num_cpus=everything)(lambda: time.sleep(20)).remote()
    with pytest.warns(UserWarning, match=r"waiting for 1 CPUs on one machine; `ray status`"):
        assert "mini" in ray_data.identity(Loading(model="mini"), cluster)
    ray.get(others)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ray_data.identity(Loading(model="mini"), cluster)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "tar", "jsonl", "images"])
def test_ray_gives_what_a_plain_process_gives(
    kind: str, cluster: object, tmp_path: Path, photographs: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_shards(tmp_path / "in", photographs, kind, shards=4)
    done = score(folder, tmp_path / "ray")
    assert done == score(folder, tmp_path / "plain", engine="plain", workers=None)
    assert rows(tmp_path / "ray") == rows(tmp_path / "plain")
    assert not (tmp_path / "ray/_checkpoint").exists()
    monkeypatch.setattr(ray_data, "score", lambda *_: pytest.fail("a plan without rows would hang"))
    assert score(folder, tmp_path / "ray") == done


@pytest.mark.slow
def test_small_files_stay_apart(cluster: object, tmp_path: Path, photographs: list[Image.Image]) -> None:
    """In one block they would keep one actor busy, and the others idle."""
    import ray.data

    found = find_shards([str(write_shards(tmp_path / "in", photographs, "parquet", shards=6))])
    source = ray_data.Source(found, Columns(image="image", prompt="prompt"))
    shards = [
        {row["shard"] for row in block.to_pylist()}
        for block in ray.data.read_datasource(source, override_num_blocks=6).iter_batches(
            batch_size=None, batch_format="pyarrow"
        )
    ]
    assert sorted(shards, key=min) == [{f"{n}.parquet"} for n in range(6)]


@pytest.mark.slow
def test_what_was_written_and_not_noted_is_made_again(
    cluster: object, tmp_path: Path, photographs: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state that a kill leaves between the two: Ray deletes such rows, also those of a shard that looked whole."""
    folder, out = write_shards(tmp_path / "in", photographs, "parquet"), tmp_path / "out"
    monkeypatch.setattr("hpskit.cluster.store.Store.remove", lambda *_: None)
    score(folder, out)
    before = rows(out)
    (out / "_hpskit.json").write_text(json.dumps({**json.loads((out / "_hpskit.json").read_text()), "complete": False}))
    first, second = sorted((out / "_checkpoint").iterdir())[:2]
    first.rename(first.with_suffix(".pending.parquet"))  # written, not noted
    for path in out.glob(f"outcome=*/*/{second.stem}*"):
        path.unlink()  # and this was never written
    second.unlink()
    score(folder, out)
    assert rows(out) == before


@pytest.mark.slow
def test_errors_of_workers_are_ours(cluster: object, tmp_path: Path, photographs: list[Image.Image]) -> None:
    folder = write_shards(tmp_path / "in", photographs, "parquet", shards=1)
    with pytest.raises(ModelError, check=at(found="nobody")):
        score(folder, tmp_path / "out", scorer=Loading(model="nobody"))
    own = tmp_path / "own.py"
    own.write_text("class Own:\n    def score(self, images, prompts):\n        raise ValueError('always')\n")
    with pytest.raises(ModelError, match="always"):
        score(folder, tmp_path / "own", scorer=Loading(model=f"{own}:Own"))


@pytest.mark.slow
def test_images_of_a_plan(cluster: object, tmp_path: Path) -> None:
    from hpskit.cluster.generate import generate
    from hpskit.images.plan import read_generators
    from hpskit.images.run import GenerateRun
    from hpskit.images.run import generate as alone
    from hpskit.prompts.suites import open_suite

    (tmp_path / "painters.toml").write_text('[[generator]]\nkind = "painter"\nname = "fine"\nimages = 2\n')
    settings = {
        "suite": open_suite(str(write_suite(tmp_path / "suite.jsonl"))),
        "generators": read_generators(tmp_path / "painters.toml"),
    }
    made = generate(GenerateRun(out=tmp_path / "ray", **settings), workers=WORKERS)
    assert made == alone(GenerateRun(out=tmp_path / "alone", **settings))
    assert {path.name: path.read_bytes() for path in (tmp_path / "ray/fine").rglob("*.png")} == {
        path.name: path.read_bytes() for path in (tmp_path / "alone/fine").rglob("*.png")
    }


@pytest.mark.slow
def test_images_of_a_plan_that_was_killed(tmp_path: Path) -> None:
    """The driver and all that it started are gone in the middle; the same command makes the rest, and none twice."""
    from hpskit.images.plan import read_generators
    from hpskit.images.run import GenerateRun
    from hpskit.images.run import generate as alone
    from hpskit.prompts.suites import open_suite

    prompts, plan = write_suite(tmp_path / "suite.jsonl"), tmp_path / "painters.toml"
    plan.write_text('[[generator]]\nkind = "painter"\nname = "fine"\nimages = 60\nsize = 512\n')
    command = [sys.executable, "-m", "hpskit", "cluster", "generate", "--prompts", prompts, "--generators", plan,
               "--workers", "2", "--out", tmp_path / "ray"]  # fmt: skip
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    while first.poll() is None and len([*tmp_path.glob("ray/fine/**/*.png")]) < 40:
        time.sleep(0.05)
    assert first.poll() is None
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    there = {path: path.stat().st_mtime_ns for path in tmp_path.glob("ray/fine/**/*.png")}
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    settings = {"suite": open_suite(str(prompts)), "generators": read_generators(plan)}
    assert alone(GenerateRun(out=tmp_path / "alone", **settings)).states == {"fine": {"done": 7 * 60}}
    found = {path.name: path.read_bytes() for path in tmp_path.glob("ray/fine/**/*.png")}
    assert found == {path.name: path.read_bytes() for path in tmp_path.glob("alone/fine/**/*.png")}
    assert len(found) > len(there)
    assert sum(path.stat().st_mtime_ns != stamp for path, stamp in there.items()) <= 2  # those under way


@pytest.mark.slow
def test_machines_with_gpus_that_have_few_processors(tmp_path: Path, photographs: list[Image.Image]) -> None:
    """Ray only counts GPUs: here there are none, and the scorers in their places use the processor."""
    folder, port = write_shards(tmp_path / "in", photographs, "parquet"), free_port()
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    ray = Path(sys.executable).with_name("ray")
    start = (ray, "start", "--block", "--node-ip-address", "127.0.0.1", "--object-store-memory", "1100000000")
    places = (
        ("--head", "--port", str(port), "--num-cpus", "5", "--num-gpus", "0", "--include-dashboard", "false"),
        ("--address", f"127.0.0.1:{port}", "--num-cpus", "1", "--num-gpus", "2"),
    )
    nodes = []
    try:
        for place in places:
            nodes.append(subprocess.Popen([*start, *place], env=environment, stdout=subprocess.DEVNULL))
            wait_for(port)
        status = (ray, "status", "--address", f"127.0.0.1:{port}")
        while "/2.0 GPU" not in subprocess.run(status, env=environment, capture_output=True, text=True).stdout:
            assert nodes[1].poll() is None
        done = subprocess.run(
            [sys.executable, "-m", "hpskit", "cluster", "score", "--input", folder, "--output", tmp_path / "out",
             "--address", f"127.0.0.1:{port}", "--workers", "2"],
            env=environment, capture_output=True, text=True, timeout=240,
        )  # fmt: skip
    finally:
        for node in reversed(nodes):
            node.terminate()
            node.wait(60)
    assert (done.returncode, "30 rows of 3 shards scored" in done.stdout) == (0, True), done.stderr
    assert "1 workers instead of 2: the cluster has 2 GPUs and 6 CPUs" in done.stderr


@pytest.mark.slow
def test_killed_at_random_moments_nothing_is_lost_or_doubled() -> None:
    script = Path(__file__).parents[2] / "benchmarks/cluster.py"
    done = subprocess.run(
        [sys.executable, script, "kills", "--times", "5"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert sum(found["killed"].values()) == 5
    assert (found["lost"], found["doubled"]) == (0, 0)
