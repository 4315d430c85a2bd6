"""`rao doctor` as a process: what it says of this machine, and of endpoints that are well, wrong or away."""

import socket
from pathlib import Path

import pytest

from recursive_agent.model.embedded import SHIPPED
from recursive_agent.testing import Answer, Fault, FaultKind, Request, ScriptedEndpoint

from .command import KEY, environment, rao


def report(folder: Path, *arguments: str, **variables: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit status, and verdict and text by subject."""
    done = rao("doctor", *arguments, cwd=folder, env=environment(**variables))
    assert "Traceback" not in done.stdout + done.stderr
    assert KEY not in done.stdout + done.stderr
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    return done.returncode, {subject: (verdict, text) for verdict, subject, text in lines}


def test_this_machine_can_run_agents(tmp_path: Path) -> None:
    code, found = report(tmp_path)
    assert list(found) == [
        *("python", "packages", "extras", "sandbox", "user", "namespaces", "sandboxes", "environments"),
        *("files", "policy", "traces", "endpoint"),
    ]
    assert found["python"][0] == "ok"
    assert found["sandbox"][0] in ("ok", "warn")
    assert "process" in found["sandbox"][1]
    assert found["endpoint"][0] == "warn"
    assert "--base-url" in found["endpoint"][1]
    assert code == int(any(verdict == "fail" for verdict, _ in found.values()))


def test_an_endpoint_is_asked_for_its_models(tmp_path: Path) -> None:
    with ScriptedEndpoint("", models=("one", "two"), api_key=KEY) as endpoint:
        _, found = report(tmp_path, OPENAI_BASE_URL=endpoint.base_url, OPENAI_API_KEY=KEY)
        assert found["endpoint"] == ("ok", f"{endpoint.base_url} has one, two")
        code, found = report(tmp_path, OPENAI_BASE_URL=endpoint.base_url, OPENAI_API_KEY=KEY, RAO_MODEL="three")
        assert (code, found["endpoint"][0]) == (1, "fail")
        assert "no model three" in found["endpoint"][1]
        code, found = report(tmp_path, OPENAI_BASE_URL=endpoint.base_url, OPENAI_API_KEY="sk-wrong-key-0000")
        assert (code, found["endpoint"][0]) == (1, "fail")
        assert "OPENAI_API_KEY" in found["endpoint"][1]
        assert "sk-wrong" not in found["endpoint"][1]


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/v1", "ftp://nowhere"])
def test_an_endpoint_that_cannot_be_reached_fails_the_report(tmp_path: Path, url: str) -> None:
    with socket.socket() as unheard:  # bound, never listening: connections are refused
        unheard.bind(("127.0.0.1", 0))
        code, found = report(tmp_path, "--base-url", url.format(port=unheard.getsockname()[1]))
    assert (code, found["endpoint"][0]) == (1, "fail")


def said_of_the_model(folder: Path, *arguments: str, **variables: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit status, and what is said of the model (verdict, text) by what it is said of."""
    done = rao("doctor", *arguments, cwd=folder, env=environment(**variables))
    assert "Traceback" not in done.stdout + done.stderr
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    told = [(verdict, text.partition(": ")) for verdict, subject, text in lines if subject == "model"]
    return done.returncode, {what: (verdict, text) for verdict, (what, _, text) in told}


def test_what_a_model_really_does_is_told_with_what_it_means(tmp_path: Path) -> None:
    def script(request: Request) -> Answer:
        return Fault(FaultKind.NO_TOKEN_IDS, reply="a red fox") if request.kind == "completions" else "a red fox"

    with ScriptedEndpoint(script, max_model_len=4096, fingerprint="v1") as endpoint:
        code, told = said_of_the_model(tmp_path, "--base-url", endpoint.base_url)
        assert code == 0
        assert told["chat"] == ("ok", "yes → agents can run on it")
        verdict, text = told["token ids and log-probs"]
        assert verdict == "warn"
        assert text == (
            "no (return_token_ids was taken and ignored) → runs cannot be trained on, except by imitation of their text"
        )
        assert not any("follow the temperature" in what for what in told), "nothing to follow"
        assert told["structured output"][1].startswith("no (response_format was taken, and the answer does not fit")
        assert told["seed"] == ("warn", "unknown (all answers were the same, with other seeds as well)")
        assert told["context length"][1].startswith("4,096 tokens")
        assert f"{endpoint.ledger.total_tokens:,} tokens" in next(what for what in told if "took" in what)
        endpoint.script = lambda request: "a red fox"
        _, told = said_of_the_model(tmp_path, "--base-url", endpoint.base_url, "--model", "scripted")
        assert told["token ids and log-probs"] == ("ok", "yes → can be trained on, with --interface tokens")
        assert told["log-probs follow the temperature"][0] == "warn"


def test_a_model_that_cannot_chat_fails_the_report(tmp_path: Path) -> None:
    with ScriptedEndpoint(Fault(FaultKind.NULL_CONTENT)) as endpoint:
        code, told = said_of_the_model(tmp_path, "--base-url", endpoint.base_url)
    assert (code, told["chat"][0]) == (1, "fail")


def test_a_model_is_asked_only_where_the_command_line_names_it(tmp_path: Path) -> None:
    with ScriptedEndpoint("", models=("one", "two")) as endpoint:
        _, told = said_of_the_model(tmp_path, OPENAI_BASE_URL=endpoint.base_url, RAO_MODEL="one")
        assert told == {}
        _, found = report(tmp_path, "--base-url", endpoint.base_url)
        assert found["endpoint"] == ("warn", "not asked what it does: name a model, with --model NAME")
        assert endpoint.requests == []


def test_an_agent_is_not_asked_to_run_trees(tmp_path: Path) -> None:
    cards = [{"id": name, "object": "model", "created": 0, "owned_by": "rao", "root": "m"} for name in ("m-agent", "m")]
    with ScriptedEndpoint("a red fox", models=("m-agent", "m")) as endpoint:
        endpoint._card = lambda name: cards[name == "m"]  # type: ignore[method-assign]
        _, told = said_of_the_model(tmp_path, "--base-url", endpoint.base_url)
        assert told["chat"][0] == "ok"
        assert {request.model for request in endpoint.requests} == {"m"}
        endpoint.requests.clear()
        _, found = report(tmp_path, "--base-url", endpoint.base_url, "--model", "m-agent")
        assert found["endpoint"][0] == "warn"
        assert "the model under it" in found["endpoint"][1]
        assert endpoint.requests == []


def test_a_checkpoint_directory_stands_for_the_model_that_is_served(tmp_path: Path) -> None:
    with ScriptedEndpoint("a red fox", models=("rao-textcraft", "other")) as endpoint:
        code, told = said_of_the_model(tmp_path, "--base-url", endpoint.base_url, "--model", str(SHIPPED))
        assert (code, told["chat"][0]) == (0, "ok")
        assert {request.model for request in endpoint.requests} == {"rao-textcraft"}


def test_a_low_limit_on_open_files_comes_with_the_cure(tmp_path: Path) -> None:
    import resource

    def lower() -> None:  # the hard limit as well: the sandbox raises a soft one by itself
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    done = rao("doctor", cwd=tmp_path, preexec_fn=lower)
    (line,) = [line for line in done.stdout.splitlines() if " files " in line]
    assert line.startswith("warn")
    assert "ulimit -n" in line


def test_of_several_endpoints_each_is_checked(tmp_path: Path) -> None:
    with ScriptedEndpoint("a red fox", max_model_len=4096) as there, socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{unheard.getsockname()[1]}/v1"
        done = rao("doctor", "--base-url", f"{there.base_url},{away}", cwd=tmp_path, env=environment())
    said = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert [(verdict, there.base_url in text) for verdict, subject, text in said if subject == "endpoint"] == [
        ("ok", True),
        ("fail", False),
    ]
    assert ["ok", "model", f"at {there.base_url}:"] in said
    assert done.returncode == 1
