"""A real Ray cluster of two nodes on this machine: the rows are those of a local job, whoever is killed.

`make ray` installs Ray and runs it. Ray is driven by programs of their own, as users' programs drive it.
"""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import omni
from tests.golden.load import relative_error

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="make ray installs it")

ROOT = Path(__file__).parents[3]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(ROOT),
    "RAY_USAGE_STATS_ENABLED": "0",
    # A node that is killed refuses connections; one that is slow only answers late.
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_worker_register_timeout_seconds": "600",
    "OMNI_ALLOW_PRIVATE_ADDRESSES": "1",
    "NPROC": "1",
}
ITEMS, HELD = 32, 16
OPTIONS = {"format": "parquet", "batch_size": 2, "part_rows": 4}


class Media:
    """Pictures behind a server that keeps the later half back until it is told to go on."""

    def __init__(self) -> None:
        self.go_on, self.asked = threading.Event(), threading.Event()
        dice = np.random.default_rng(0)
        self.pictures = []
        for i in range(ITEMS):
            stream = io.BytesIO()
            Image.fromarray(dice.integers(0, 256, (40 + i % 4 * 8, 48, 3), np.uint8)).save(stream, "PNG")
            self.pictures.append(stream.getvalue())
        self.pictures[5] = self.pictures[5][:60]
        media = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                number = int(self.path.strip("/").removesuffix(".png"))
                if number >= HELD:
                    media.asked.set()
                    media.go_on.wait()
                with contextlib.suppress(OSError):  # those who asked may have been killed
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(media.pictures[number])

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def listed(self, folder: Path) -> Path:
        address = f"http://127.0.0.1:{self.server.server_address[1]}"
        path = folder / "media.jsonl"
        path.write_text("".join(json.dumps({"url": f"{address}/{i}.png"}) + "\n" for i in range(ITEMS)))
        return path

    def close(self) -> None:
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def family(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def title(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    return ""


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_for(condition, running: subprocess.Popen | None = None) -> None:
    """Until something holds; the test's own time limit is the only one, but a program that has ended is an error."""
    while not condition():
        assert running is None or running.poll() is None, running and running.communicate()
        time.sleep(0.05)


class Cluster:
    """Two nodes, each `ray start --block` with its children."""

    def __init__(self, folder: Path):
        self.folder, self.address = folder, f"127.0.0.1:{free_port()}"
        head = ("--head", f"--port={self.address.partition(':')[2]}", f"--ray-client-server-port={free_port()}")
        self.nodes = [self.started(*head, "--include-dashboard=false")]
        self.until_there(1)
        self.nodes.append(self.started(f"--address={self.address}"))
        self.until_there(2)

    def started(self, *options: str) -> subprocess.Popen:
        program = "import sys; from ray.scripts.scripts import main; sys.argv[0] = 'ray'; main()"
        command = [
            sys.executable, "-c", program, "start", "--block", "--num-cpus=4", "--num-gpus=0",
            f"--temp-dir={self.folder}", f"--object-store-memory={100 << 20}", "--disable-usage-stats",
            "--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0",
            "--include-log-monitor=false", *options,
        ]  # fmt: skip
        log = (self.folder / f"node-{len(os.listdir(self.folder))}.log").open("wb")
        return subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True)

    def until_there(self, count: int) -> None:
        program = (
            f"import ray; ray.init(address={self.address!r}, log_to_driver=False, logging_level='error'); "
            "print(sum(node['Alive'] for node in ray.nodes()))"
        )

        def there() -> bool:
            assert all(node.poll() is None for node in self.nodes), "a node has ended"
            asked = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True)
            return asked.stdout.strip() == str(count)

        wait_for(there)

    def workers(self, node: int) -> list[int]:
        """The actors that encode on a node."""
        return [pid for pid in family(self.nodes[node].pid) if "_EncodeBatch" in title(pid)]

    def kill(self, node: int) -> None:
        kill(list(family(self.nodes[node].pid))[::-1])
        self.nodes[node].wait()

    def close(self) -> None:
        for node in range(len(self.nodes)):
            self.kill(node)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    # Ray's sockets lie below it, and their paths may have 107 bytes.
    folder = Path(f"/tmp/omni-ray-{os.getpid()}")
    folder.mkdir()
    started = Cluster(folder)
    yield started
    started.close()


def job(cluster: Cluster, source: Path, out: Path, **options: object) -> subprocess.Popen:
    program = (
        "import omni; from omni.bulk.ray_data import RayEngine; "
        f"engine = RayEngine({cluster.address!r}, encoders=2); "
        f"summary = omni.encode_files({str(source)!r}, {str(out)!r}, engine=engine, progress=False, **{options!r}); "
        "print(summary.items, summary.encoded, summary.failed)"
    )
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", program], env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True)


def parts(out: Path) -> list[Path]:
    return sorted(out.glob("part-*.parquet"))


def rows(out: Path) -> list[dict]:
    return pa.concat_tables([pq.read_table(path) for path in parts(out)]).to_pylist()


def ended(running: subprocess.Popen) -> str:
    out, error = running.communicate()
    assert running.returncode == 0, error[-4000:]
    return out.strip()


def test_a_killed_worker_and_a_killed_node_cost_no_row(cluster, tmp_path):
    media = Media()
    try:
        source = media.listed(tmp_path)
        running = job(cluster, source, tmp_path / "out", **OPTIONS)
        # The first half is being written, and the second is being read.
        wait_for(lambda: len(parts(tmp_path / "out")) >= 2 and media.asked.is_set(), running)
        wait_for(lambda: cluster.workers(0) and cluster.workers(1), running)
        before = len(parts(tmp_path / "out"))
        kill(cluster.workers(0)[:1])
        cluster.kill(1)
        media.go_on.set()
        assert ended(running) == f"{ITEMS} {ITEMS - 1} 1" and before <= HELD // 4
        omni.encode_files(source, tmp_path / "local", sources=omni.Sources(private=True), **OPTIONS)
    finally:
        media.close()
    found, wanted = ({row["id"]: row for row in rows(tmp_path / name)} for name in ("out", "local"))
    assert len(rows(tmp_path / "out")) == ITEMS and found.keys() == wanted.keys()
    for name, row in wanted.items():
        other = found[name]
        assert {key: row[key] for key in row if key != "vector"} == {key: other[key] for key in row if key != "vector"}
        if row["vector"] is not None:
            assert relative_error(np.array(other["vector"]), np.array(row["vector"])) < 1e-5


def test_the_class_is_taken_by_map_batches_and_a_job_goes_on_here(cluster, tmp_path):
    """On what the other test has left of the cluster: one node."""
    folder = tmp_path / "media"
    folder.mkdir()
    for i in range(9):
        Image.new("RGB", (40, 40 + i), (20 * i, 0, 0)).save(folder / f"{i}.png")
    program = f"""
import ray
from omni.bulk.ray_data import Decoder, Encoder
ray.init(address={cluster.address!r}, log_to_driver=False, logging_level="error")
paths = [{{"path": f"{folder}/{{i}}.png"}} for i in range(9)]
pool = ray.data.ActorPoolStrategy
rows = ray.data.from_items(paths, override_num_blocks=3)
alone = rows.map_batches(Encoder, batch_size=4, compute=pool(size=1))
after = rows.map_batches(Decoder, batch_size=2, compute=pool(size=1)).map_batches(
    Encoder, fn_constructor_kwargs={{"dtype": "float32"}}, batch_size=4, compute=pool(size=1)
)
for data, name in ((alone, "alone"), (after, "after")):
    data.write_parquet(f"{tmp_path}/{{name}}")
"""
    subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, check=True, capture_output=True)
    options = {"format": "parquet", "batch_size": 3, "part_rows": 6}
    assert ended(job(cluster, folder, tmp_path / "out", **options)) == "9 9 0"
    again = omni.encode_files(folder, tmp_path / "out", **options)
    assert (again.there, again.encoded) == (9, 0)
    wanted = {row["id"]: row["vector"] for row in rows(tmp_path / "out")}
    for name in ("alone", "after"):
        found = pq.read_table(tmp_path / name).to_pylist()
        assert sorted(row["id"] for row in found) == sorted(wanted)
        for row in found:
            assert relative_error(np.array(row["vector"]), np.array(wanted[row["id"]])) < 1e-5


def test_files_are_written_too(cluster, tmp_path):
    Image.new("RGB", (40, 40), (200, 0, 0)).save(tmp_path / "a.png")
    assert ended(job(cluster, tmp_path / "a.png", tmp_path / "out")) == "1 1 0"
    found, wanted = (
        omni.Embedding.load(tmp_path / "out" / "a.png.safetensors"),
        omni.load("demo").encode(tmp_path / "a.png"),
    )
    assert relative_error(found.tokens, wanted.tokens) < 1e-5
    assert found.deepstack is not None and found.grid_thw == wanted.grid_thw


def test_what_cannot_run_is_told(cluster, tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    program = f"""
import omni
from omni.bulk.ray_data import RayEngine
for engine in (RayEngine("127.0.0.1:1"), RayEngine({cluster.address!r}, encoders=99)):
    try:
        omni.encode_files({str(tmp_path / "a.png")!r}, {str(tmp_path / "out")!r}, format="parquet", engine=engine)
    except omni.InputError as error:
        print(error.code)
"""
    asked = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True)
    assert asked.stdout.split() == ["ray_unreachable", "ray_too_small"], asked.stderr[-2000:]
