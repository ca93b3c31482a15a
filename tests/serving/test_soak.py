"""LLaMA-Factory's own server under load on routed subspaces: 2,000 requests of 32 threads, a third of them malformed."""

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import tiny
from runs import infer_args

REQUESTS, THREADS, WARM_UP, PLACES = 2000, 32, 500, 8
#: MB that the server's memory may grow by after the warm-up.
GROWTH = 40
KEY = {"Authorization": "Bearer sesame"}
COMPLETIONS = "/v1/chat/completions"
QUESTIONS = [f"{tiny.TASKS[task][0]} {color}" for color in tiny.COLORS for task in ("color", "letter")]

USER = {"role": "user", "content": QUESTIONS[0]}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
PASSWORDS = {"type": "image_url", "image_url": {"url": "/etc/passwd"}}
BROKEN = "the stream breaks"

#: What is wrong with a request: its body, its headers, and what comes of it.
MALFORMED = {
    "no JSON": ("{", KEY, 422),
    "no messages": ({}, KEY, 422),
    "an empty conversation": ({"messages": []}, KEY, 400),
    "nothing said": ({"messages": [{"role": "user", "content": None}]}, KEY, 400),
    "nothing answered": ({"messages": [USER, {"role": "assistant", "content": None}, USER]}, KEY, 400),
    "two users": ({"messages": [USER, USER]}, KEY, 400),
    "an assistant that begins": ({"messages": [{"role": "assistant", "content": "red"}]}, KEY, 400),
    "an unknown role": ({"messages": [{"role": "king", "content": "red"}]}, KEY, 422),
    "a word for a number": ({"messages": [USER], "temperature": "hot"}, KEY, 422),
    "fewer than no tokens": ({"messages": [USER], "max_tokens": -1}, KEY, 500),
    "a penalty below 0": ({"messages": [USER], "presence_penalty": -1}, KEY, 500),
    "no image": ({"messages": [{"role": "user", "content": [PICTURE]}]}, KEY, 500),
    "a file of the server": ({"messages": [{"role": "user", "content": [PASSWORDS]}]}, KEY, 400),
    "no key": ({"messages": [USER]}, {}, 401),
    "a guessed key": ({"messages": [USER]}, {"Authorization": "Bearer guess"}, 401),
    "a stream with a penalty below 0": ({"messages": [USER], "stream": True, "presence_penalty": -1}, KEY, BROKEN),
    "a stream of three answers": ({"messages": [USER], "stream": True, "n": 3}, KEY, BROKEN),
    "a stream in which nothing is said": ({"messages": [{"role": "user", "content": None}], "stream": True}, KEY, BROKEN),
}


@contextmanager
def api(recipe):
    """URL and process id of `llamafactory-cli api`, in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings = {"API_HOST": "127.0.0.1", "API_PORT": str(port), "API_KEY": "sesame", "API_VERBOSE": "0"}
    command = [str(Path(sys.executable).with_name("llamafactory-cli")), "api", str(recipe)]
    log = recipe.with_suffix(".log")
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, env={**os.environ, **settings, "MAX_CONCURRENT": str(PLACES)}, stdout=out, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 240
        while True:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            try:
                httpx.get(f"{url}/v1/models", headers=KEY).raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.5)
        yield url, server.pid
    finally:
        server.terminate()
        server.wait(timeout=60)


def megabytes(pid):
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def whole(client, text):
    reply = client.post(COMPLETIONS, json={"model": "any", "messages": [{"role": "user", "content": text}]})
    return reply.raise_for_status().json()["choices"][0]["message"]["content"].strip()


def streamed(client, text):
    parts = []
    asked = {"model": "any", "messages": [{"role": "user", "content": text}], "stream": True}
    with client.stream("POST", COMPLETIONS, json=asked) as reply:
        for line in reply.iter_lines():
            if line.startswith("data: {"):
                parts.append(json.loads(line[6:])["choices"][0]["delta"].get("content") or "")
    return "".join(parts).strip()


def malformed(client, body, headers):
    """What comes of a malformed request."""
    content = body if isinstance(body, str) else json.dumps({"model": "any", **body})
    client.headers = {"Content-Type": "application/json", **headers}
    try:
        return client.post(COMPLETIONS, content=content).status_code
    except httpx.RemoteProtocolError:
        return BROKEN
    finally:
        client.headers = KEY


def abandoned(client):
    """Begin a stream that would go on forever, and leave."""
    asked = {"model": "any", "messages": [USER], "stream": True, "max_tokens": 10**6}
    with client.stream("POST", COMPLETIONS, json=asked) as reply:
        next(reply.iter_lines())


def cut_off(url):
    """Announce a body, and leave in the middle of it."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\nAuthorization: Bearer sesame\r\n\r\n{{"
        connection.sendall(head.encode())


@pytest.mark.slow
def test_2000_requests_of_32_threads_a_third_malformed(text_run, text_keys, tmp_path, capsys):
    keys = infer_args(text_keys, text_run, infer_backend="huggingface", max_new_tokens=4, do_sample=False)
    told: Counter[str] = Counter()
    lock, own, wrong, memory = threading.Lock(), threading.local(), [], {}
    plan, begun = random.Random(0), time.monotonic()
    with api(tiny.write_recipe(tmp_path / "api.yaml", keys)) as (url, pid):

        def client():
            if not hasattr(own, "client"):
                # a connection for each request: the server closes those that idle for 5 s, maybe just as one is used again
                limits = httpx.Limits(max_keepalive_connections=0)
                own.client = httpx.Client(base_url=url, headers=KEY, timeout=300, limits=limits)
            return own.client

        def ask(number, kind, text):
            if kind == "whole" or kind == "streamed":
                found = (whole if kind == "whole" else streamed)(client(), text)
                expected = alone[text]
            elif kind == "abandoned":
                found = expected = abandoned(client())
            elif kind == "cut off":
                found = expected = cut_off(url)
            else:
                body, headers, expected = MALFORMED[kind]
                found = malformed(client(), body, headers)
            with lock:
                told[kind if kind in ("whole", "streamed") else "malformed"] += 1
                if found != expected:
                    wrong.append((number, kind, text, found, expected))
                if sum(told.values()) == WARM_UP:
                    memory["after the warm-up"] = megabytes(pid)

        alone = {text: whole(client(), text) for text in QUESTIONS}
        assert len(set(alone.values())) > 2, "all answers are alike, the test says nothing"
        kinds = [*MALFORMED, "abandoned", "cut off"]
        work = [
            (number, plan.choice(kinds) if number % 3 == 0 else plan.choice(["whole", "streamed"]), plan.choice(QUESTIONS))
            for number in range(REQUESTS)
        ]
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda one: ask(*one), work))
        memory["at the end"] = megabytes(pid)
        assert {text: whole(client(), text) for text in QUESTIONS} == alone, "it still answers"
    with capsys.disabled():
        megabytes_told = ", ".join(f"{value:.0f} MB {when}" for when, value in memory.items())
        print(f"\n{dict(told)} in {time.monotonic() - begun:.0f} s, {len(wrong)} wrong; {megabytes_told}")
    assert wrong == []
    assert memory["at the end"] - memory["after the warm-up"] < GROWTH
