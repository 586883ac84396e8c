"""The two programs as people run them: `python server ...` and `python client ...`, from a checkout, not installed."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from millrace import __version__
from millrace.__main__ import main
from tests.support.paths import REPOSITORY
from tests.support.processes import ENVIRONMENT, server_process, spawn
from tests.support.waiting import PATIENCE_S
from tests.support.wire_client import wire_client

EXAMPLE = REPOSITORY / "millrace.toml"
MILLRACE = "A millrace is the channel that leads water to a mill wheel"
HARD = "Prove that the square root of 2 is irrational."
COST_LINE = r"\d+ tokens · \$(\d+\.\d{6}) · saved -?\$(\d+\.\d{6})"


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    with spawn(program, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@contextmanager
def server(*arguments: str, cwd: Path = REPOSITORY) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server; yield its process and the address it prints."""
    with spawn("server", *arguments, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            assert process.stdout is not None
            printed = ""
            while not (address := re.search(r"http://127\.0\.0\.1:\d+", printed)):
                line = process.stdout.readline()
                assert line, f"it ended: {printed}"
                printed += line
            yield process, address[0]
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    """The address of a demo."""
    with server("demo", "--port", "0") as (_, url):
        yield url


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def get(url: str) -> dict[str, object]:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:  # noqa: S310 - loopback
        read: dict[str, object] = json.load(answer)
        return read


def invoke(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(main, arguments)


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """A configuration with three faults."""
    file = tmp_path / "faulty.toml"
    text = EXAMPLE.read_text("utf-8").replace("origins = []", 'origins = ["*"]').replace("port = 8000", "prot = 1")
    file.write_text(text.replace('"*" = "auto"', '"gpt-4o" = "atuo"'), "utf-8")
    return file


def test_check_config_says_what_a_sound_file_means() -> None:
    """Which model is where, at which price."""
    result = invoke("check-config", "--config", str(EXAMPLE))
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"{EXAMPLE}: fine" in result.stdout
    assert re.search(r"small .* small-fast-model .* http://127.0.0.1:9001/v1 .* 0.15 .* 0.60", result.stdout)


@pytest.mark.parametrize("command", ["check-config", "serve"])
def test_all_faults_of_a_file_are_told_and_nothing_is_served(command: str, faulty: Path) -> None:
    """Exit code 2, and a line for each."""
    result = invoke(command, "--config", str(faulty))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{faulty}: 3 faults" in result.stderr
    for line in ("server.origins: '*' is no origin", "server.prot: unknown key", "models.aliases.gpt-4o: 'atuo'"):
        assert f"  {line}" in result.stderr


def test_flags_go_before_the_file_and_are_checked_like_it() -> None:
    """A port that is none is refused."""
    assert invoke("serve", "--port", "70000").exit_code == 2


def test_a_missing_file_is_told_with_the_option_that_names_one(tmp_path: Path) -> None:
    """The first thing anyone runs into."""
    result = invoke("check-config", "--config", str(tmp_path / "none.toml"))
    assert result.exit_code == 2
    assert "no such file; name one with --config FILE" in result.stderr


def test_help_and_version() -> None:
    """The commands are listed, also where none is named, and no server is started."""
    assert invoke("--version").stdout == f"millrace, version {__version__}\n"
    for flags in (["-h"], ["--help"], []):
        result = invoke(*flags)
        assert result.exit_code == 0
        commands = result.stdout.partition("Commands:\n")[2]
        assert re.findall(r"^  (\S+)", commands, re.MULTILINE) == [
            "ask",
            "batch",
            "budgets",
            "cache",
            "calibrate",
            "chat",
            "check-config",
            "db",
            "demo",
            "doctor",
            "evidence",
            "explain",
            "init",
            "keys",
            "ledger",
            "levers",
            "load",
            "reload",
            "replay",
            "router",
            "serve",
            "sessions",
            "simulate",
        ]


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (["serve", "--config", str(EXAMPLE)], "server.port"),
        (["demo"], "server.port"),
        (["simulate", "--profile", "small"], "--port"),
    ],
)
def test_a_taken_port_is_told_at_once(command: list[str], path: str) -> None:
    """Exit code 2, the path, the port, and what to do."""
    with taken_port() as port:
        ended = run("server", *command, "--port", str(port))
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"cannot listen: 1 fault\n  {path}: ")
    assert re.search(rf"{port}.*: address already in use; name another", ended.stderr, re.IGNORECASE)


def test_it_serves_from_any_folder(tmp_path: Path) -> None:
    """`python .../server serve` from anywhere, with the millrace.toml that is there; data beside it."""
    (tmp_path / "millrace.toml").write_text(EXAMPLE.read_text("utf-8").replace("port = 8000", "port = 0"), "utf-8")
    with server("serve", cwd=tmp_path) as (_, url):
        assert get(f"{url}/healthz")["status"] == "ok"
        assert [entry["id"] for entry in get(f"{url}/v1/models")["data"]][-1] == "large-strong-model"  # type: ignore[attr-defined]
    assert (tmp_path / ".millrace" / "millrace.sqlite3").is_file()


def test_the_line_of_the_procfile_serves_on_the_port_it_is_given(tmp_path: Path) -> None:
    """By `sh`, as process managers do it; without a key it says what comes before listening beyond loopback."""
    kind, _, line = (REPOSITORY / "Procfile").read_text("utf-8").partition(": ")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    bin_folder = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = ENVIRONMENT | {"PORT": str(port), "PATH": bin_folder, "MILLRACE__SERVER__DATA_DIR": str(tmp_path)}
    command = ("sh", "-c", line.strip())
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, text=True, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        serving = json.loads(process.stderr.readline())
        assert serving["page"] == f"http://127.0.0.1:{port}/"
        assert "millrace keys add --tenant NAME, then set MILLRACE__SERVER__HOST=0.0.0.0" in serving["advice"]
        assert get(f"http://127.0.0.1:{port}/healthz")["status"] == "ok"
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
    assert kind == "web"


def test_a_server_that_keeps_nothing_says_that_keys_want_a_folder(tmp_path: Path) -> None:
    """The advice names the setting, in brackets as in the file."""
    text = EXAMPLE.read_text("utf-8").replace("port = 8000", "port = 0").replace('".millrace"', '":memory:"')
    (tmp_path / "millrace.toml").write_text(text, "utf-8")
    with spawn("server", "serve", cwd=tmp_path, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        advice = json.loads(process.stderr.readline())["advice"]
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
    assert "for others: name a folder in [server] data_dir, millrace keys add" in advice


def test_on_a_terminal_the_banner_is_one_line_of_text(tmp_path: Path) -> None:
    (tmp_path / "millrace.toml").write_text(EXAMPLE.read_text("utf-8").replace("port = 8000", "port = 0"), "utf-8")
    master, slave = pty.openpty()
    with spawn("server", "serve", cwd=tmp_path, stdout=slave, stderr=slave) as process:
        os.close(slave)
        drawn = b""
        while b"embedder" not in drawn:  # the next thing it says
            drawn += os.read(master, 65_536)
        process.terminate()
        process.wait(PATIENCE_S)
        os.close(master)
    banner, following = drawn.decode().splitlines()[:2]
    assert re.match(r"Millrace \S+: http://127\.0\.0\.1:\d+/ · ws://.* · for this machine only", banner)
    assert "semantic cache" in following


async def test_off_a_terminal_every_line_of_a_server_is_json(tmp_path: Path) -> None:
    """The line of an ended request says whose it was, how it was answered, and why."""
    async with server_process(tmp_path, drain_s=0) as running:
        async with wire_client(running.ws_url) as client:
            await client.ask("What is a millrace?")
        running.stop()
        await running.exited()
        assert running.process.stderr is not None
        events = [json.loads(line) for line in running.process.stderr.read().splitlines()]
    (settled,) = [event for event in events if event["event"] == "settled"]
    assert {name: settled[name] for name in ("tenant", "strategy", "route", "check")} == {
        "tenant": "anonymous",
        "strategy": "auto",
        "route": "small",
        "check": "passed",
    }
    assert settled["reason"].startswith("small first: nothing is promised; score ")


def test_the_simulator_answers_and_counts() -> None:
    """One model on a port of its own, with its counters."""
    with server("simulate", "--port", "0", "--profile", "small") as (_, url):
        assert get(f"{url}/stats") | {"profile": "small", "started": 0} == get(f"{url}/stats")


def test_a_question_is_answered_and_asked_again_answered_from_the_cache(demo: str) -> None:
    """The text on standard output, who answered and what it cost on standard error."""
    first, again = (run("client", "What is a millrace?", "--url", demo) for _ in range(2))
    assert (first.returncode, again.returncode) == (0, 0)
    assert first.stdout == again.stdout
    assert first.stdout.startswith(MILLRACE)
    asked = re.fullmatch(rf"small · small-fast-model · {COST_LINE}\n", first.stderr)
    found = re.fullmatch(rf"cache · exact hit · small-fast-model · {COST_LINE}\n", again.stderr)
    assert asked
    assert found
    assert float(asked[1]) > 0 == float(found[1])
    assert float(found[2]) > float(asked[2]) > 0


def test_into_a_pipe_only_words_that_stand_are_written(demo: str) -> None:
    """The small model's weak answer is never seen, and the check it failed is named."""
    ended = run("client", HARD, "--url", demo)
    assert ended.returncode == 0
    assert ended.stdout.startswith("Suppose √2 = a/b")
    assert re.match(r"large · check: unsure · large-strong-model", ended.stderr)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["talk [fault=error]"], 1, "upstream_error: "),
        (["talk [fault=hangup] [rate=0]", "--strategy", "large"], 1, "upstream_truncated: "),
        (["Hello", "--model", "claude-opus-4-8"], 0, "small · small-fast-model"),
        (["unheard of", "--cache", "only"], 1, "response_not_found: "),
        ([" "], 1, "invalid_request: "),
        (["talk [rate=0]", "--max-tokens", "3", "--model", "small"], 0, "incomplete · small · "),
        (["Hello", "--strategy", "large", "--delivery", "final"], 0, "large · large-strong-model"),
        (["Hello", "--max-tokens", "0"], 2, "Invalid value for '--max-tokens'"),
    ],
)
def test_exit_codes(demo: str, arguments: list[str], code: int, words: str) -> None:
    """0 for an answer, also a short one; 1 for a failed one, with its code; 2 for a wrong call."""
    ended = run("client", *arguments, "--url", demo)
    assert (ended.returncode, words in ended.stderr) == (code, True)


def test_an_answer_that_the_operator_caps_says_so(tmp_path: Path) -> None:
    """In the line that names the model and the cost."""
    with server("simulate", "--profile", "small", "--port", "0") as (_, model):
        text = EXAMPLE.read_text("utf-8").replace("port = 8000", "port = 0").replace("http://127.0.0.1:9001", model)
        text = text.replace("# max_output_tokens = 4096 ", "max_output_tokens = 5 ").replace(
            '".millrace"', '":memory:"'
        )
        (tmp_path / "millrace.toml").write_text(text, "utf-8")
        with server("serve", cwd=tmp_path) as (_, url):
            ended = run("client", "talk [tokens=90]", "--model", "small", "--url", url.replace("http", "ws"))
    assert ended.stderr.startswith("incomplete · small · small-fast-model · ")
    assert ended.stderr.endswith(" · cut at the server's cap of 5 tokens\n")


def test_without_a_server_the_client_says_how_to_start_one() -> None:
    """Exit code 3."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{bound.getsockname()[1]}"
        ended = run("client", "Hello", "--url", url)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert f"no Millrace answers at {url}: start a server (make demo" in ended.stderr


@contextmanager
def asking(url: str) -> Iterator[subprocess.Popen[str]]:
    """Run a client in the middle of a long answer."""
    question = "Tell me a long story. [tokens=400] [rate=50]"
    with spawn("client", question, "--url", url, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.read(1)
        yield client


def test_ctrl_c_cancels_and_says_what_it_cost(demo: str) -> None:
    """Exit code 130, and a line with the bill of what came until then, which has bought no answer, so it is lost."""
    with asking(demo) as client:
        client.send_signal(signal.SIGINT)
        _, err = client.communicate(timeout=PATIENCE_S)
    assert client.returncode == 130
    line = re.fullmatch(rf"cancelled · small · small-fast-model · {COST_LINE} · estimated\n", err)
    assert line
    assert float(line[1]) == float(line[2]) > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_demo_soon(number: signal.Signals) -> None:
    """Also while it answers: the client is told that the server is about to end."""
    with server("demo", "--port", "0") as (process, url), asking(url) as client:
        told_at = time.monotonic()
        process.send_signal(number)
        process.wait(PATIENCE_S)
        assert time.monotonic() - told_at < 25
        _, err = client.communicate(timeout=PATIENCE_S)
    assert client.returncode == 1
    assert "server_draining" in err


def test_on_a_terminal_a_revise_is_redrawn(demo: str) -> None:
    """The small model's words come first; a note and the large model's words take their place."""
    master, slave = pty.openpty()
    question = f"{HARD} [rate.small=8]"
    with spawn("client", question, "--url", demo, stdin=slave, stdout=slave, stderr=slave) as client:
        os.close(slave)
        drawn = b""
        try:
            while piece := os.read(master, 65_536):
                drawn += piece
        except OSError:  # how Linux says that nobody has the other end any more
            pass
        finally:
            os.close(master)
        assert client.wait(PATIENCE_S) == 0
    screens = drawn.decode().split("↻")
    assert "I'm" in screens[0]
    assert "\x1b[2K" in screens[1]  # the line is erased
    assert "I'm" not in screens[-1]
    assert "small-fast-model: unsure; large-strong-model answers" in screens[-1]
    assert "So √2 is irrational." in " ".join(screens[-1].split())
    assert "check: unsure" in screens[-1]
