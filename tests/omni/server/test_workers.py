"""Several processes behind one port: each has a device and a place of its own, and their counts are one."""

import os
import signal
import subprocess
import sys
import time

import httpx2
import pytest

import omni
from omni.server import workers
from tests.omni.server import servers


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1,GPU-5")
    assert workers.devices_of(2) == ["3", "1"]
    with pytest.raises(omni.InputError) as refused:
        workers.devices_of(4)
    assert refused.value.code == "too_many_workers"
    for name, value in (("CUDA_VISIBLE_DEVICES", "-1"), ("JAX_PLATFORMS", "cpu")):
        monkeypatch.setenv(name, value)
        assert workers.devices_of(4) == []


def test_numbers_of_those_who_live_are_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_held", [])
    assert [workers._number(tmp_path, 3) for _ in range(2)] == [0, 1]
    workers._held.pop(0).close()
    assert workers._number(tmp_path, 3) == 0
    for file in workers._held:
        file.close()


def test_what_the_dead_were_doing_is_forgotten(tmp_path):
    child = subprocess.Popen([sys.executable, "-S", "-c", "pass"])
    child.wait()
    names = [f"gauge_livesum_{process}.db" for process in (child.pid, os.getpid())] + [f"counter_{child.pid}.db"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    workers._forget_the_dead(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


def test_two_processes_serve_one_port():
    def ask(server):
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, "temperature": 0}
        return server.post("/v1/chat/completions", body).json()["choices"][0]["message"]["content"]

    def answered(server):
        lines = httpx2.get(server.url + "/metrics", timeout=60).text.splitlines()
        return sum(
            float(line.split()[-1]) for line in lines if line.startswith("omni_requests_total{") and "chat" in line
        )

    def ready(server):
        return {line["process"] for line in server.log if line["event"] == "worker"}

    with servers.process("--workers", "2") as server:
        while len(ready(server)) < 2:
            time.sleep(0.1)
        first = ask(server)
        assert [ask(server) for _ in range(7)] == [first] * 7
        assert answered(server) == 8, "whichever process is asked"
        os.kill(min(ready(server)), signal.SIGKILL)
        while len(ready(server)) < 3:
            time.sleep(0.1)
        assert ask(server) == first
        assert answered(server) == 9, "what a process has done outlives it"
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(120) in (0, -signal.SIGTERM)
        for process in ready(server):
            with pytest.raises(ProcessLookupError):
                os.kill(process, 0)


def test_a_model_that_no_process_can_load_ends_the_program(tmp_path):
    command = servers.command(str(tmp_path), "--workers", "2")
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 2 and result.stderr.splitlines()[-1].startswith("omni: ")
