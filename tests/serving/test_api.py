"""LLaMA-Factory's OpenAI-style API and its web chat on an FCIT output folder, as their users reach them."""

import base64
import gc
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
import tiny
import torch
from llamafactory.api.app import create_app
from llamafactory.chat import ChatModel
from runs import infer_args

from fcit_plugin.data.instructions import KEYWORD
from fcit_plugin.serving.chosen_subspace import ChosenSubspace
from fcit_plugin.serving.trained import TrainedRun

openai = pytest.importorskip("openai", reason="extra [dev]")
uvicorn = pytest.importorskip("uvicorn")

GREEDY = {"infer_backend": "huggingface", "max_new_tokens": 4, "do_sample": False}
QUESTIONS = [f"{tiny.TASKS[task][0]} {color}" for color in tiny.COLORS for task in ("color", "letter")]


class Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, app):
        super().__init__(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
        self.listens = threading.Event()

    async def startup(self, sockets=None):
        await super().startup(sockets=sockets)
        self.listens.set()


@contextmanager
def serving(chat_model):
    """The base URL of LLaMA-Factory's app on a free port of this machine."""
    server = Server(create_app(chat_model))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert server.listens.wait(timeout=60)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        thread.join(timeout=60)


@pytest.fixture(scope="module")
def settings():
    """The environment variables by which LLaMA-Factory's API is set."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"MAX_CONCURRENT": "8", "API_KEY": "sesame", "API_VERBOSE": "0"}.items():
            patch.setenv(name, value)
        yield patch


@pytest.fixture(scope="module")
def url(text_chat):
    with serving(text_chat) as url:
        yield url


@pytest.fixture(scope="module")
def text_chat(settings, text_run, text_keys):
    return ChatModel(infer_args(text_keys, text_run, **GREEDY))


@pytest.fixture(scope="module")
def plain_url(settings, text_keys):
    keys = infer_args(text_keys, None, **GREEDY)
    with serving(ChatModel({key: value for key, value in keys.items() if key != "adapter_name_or_path"})) as url:
        yield url


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=url, api_key="sesame", max_retries=0) as client:
        yield client


def ask(client, text, **more):
    messages = [{"role": "system", "content": QUESTIONS[0]}, {"role": "user", "content": text}]
    return client.chat.completions.create(model="any", messages=messages, **more)


def answer(client, text):
    return ask(client, text).choices[0].message.content


def stream(client, text):
    parts = [chunk.choices[0].delta.content or "" for chunk in ask(client, text, stream=True)]
    assert len(parts) > 2, "it came in one piece"
    return "".join(parts)


def test_eight_requests_of_different_tasks_at_a_time_get_the_answers_that_they_get_alone(client):
    alone = [answer(client, text) for text in QUESTIONS]
    assert len(set(alone)) > 2, "all answers are alike, the test says nothing"
    with ThreadPoolExecutor(2 * len(QUESTIONS)) as pool:
        for _ in range(2):
            plain = pool.map(lambda text: answer(client, text), QUESTIONS)
            streamed = pool.map(lambda text: stream(client, text), QUESTIONS)
            assert list(plain) == alone
            assert [text.strip() for text in streamed] == [text.strip() for text in alone]


def test_a_message_without_text_is_the_clients_error(client):
    ask = {"role": "user", "content": QUESTIONS[0]}
    for given in ([ask, {"role": "assistant", "content": None}, ask], [{"role": "user", "content": None}]):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="any", messages=given)
        assert "`content` is null" in caught.value.response.text


def asked(server, name):
    """A client of a server of routed subspaces, or of a model without any."""
    return openai.OpenAI(base_url=server.getfixturevalue(name), api_key="sesame", max_retries=0, timeout=60)


@pytest.mark.parametrize("name", ["url", "plain_url"])
def test_streams_that_break_keep_no_place_of_the_server(request, name):
    """More than are answered at a time, and than threads that read (32 at most): each reader is told, the next is answered."""
    with asked(request, name) as client:
        expected = answer(client, QUESTIONS[0])
        for _ in range(40):
            with pytest.raises((openai.APIConnectionError, httpx.RemoteProtocolError)) as caught:
                list(ask(client, QUESTIONS[0], stream=True, presence_penalty=-1))  # a processor of logits refuses it
            assert not isinstance(caught.value, openai.APITimeoutError)
        assert answer(client, QUESTIONS[0]) == expected


@pytest.mark.parametrize("name", ["url", "plain_url"])
def test_nothing_is_written_for_a_reader_who_has_gone(request, name):
    """And nobody has to collect garbage for that: a canceled request leaves cycles, and a large process collects seldom."""
    gc.disable()
    request.addfinalizer(gc.enable)

    def writing():
        return [thread for thread in threading.enumerate() if "(generate)" in thread.name]

    with asked(request, name) as client:
        expected = answer(client, QUESTIONS[0])
        for _ in range(10):
            with ask(client, QUESTIONS[0], stream=True, max_tokens=10**6) as parts:
                next(iter(parts))
        deadline = time.monotonic() + 30
        while writing() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not writing()
        assert answer(client, QUESTIONS[0]) == expected


def test_the_latest_instruction_counts_not_the_system_prompt_nor_earlier_turns(client, text_run, text_keys, settings):
    """Over HTTP, whole and streamed: each answer is that of a chat whose weights are set by hand."""
    color, letter = QUESTIONS[:2]
    turns = [
        {"role": "system", "content": color},
        {"role": "user", "content": color},
        {"role": "assistant", "content": "red"},
        {"role": "user", "content": letter},
    ]
    chat = ChatModel(infer_args(text_keys, text_run, **GREEDY))

    def by_hand(instruction):
        ids, _ = chat.engine.template.encode_oneturn(
            chat.engine.tokenizer, [*turns[1:], {"role": "assistant", "content": ""}], color
        )
        options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, KEYWORD: [(instruction,)]}
        output = chat.engine.model.generate(input_ids=torch.tensor([ids]), **options)
        return chat.engine.tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True).strip()

    assert by_hand(letter) != by_hand(color), "the test says nothing"
    whole = client.chat.completions.create(model="any", messages=turns)
    parts = client.chat.completions.create(model="any", messages=turns, stream=True)
    assert whole.choices[0].message.content.strip() == by_hand(letter)
    assert "".join(part.choices[0].delta.content or "" for part in parts).strip() == by_hand(letter)


def told(client, text, **more):
    """Which subspace answered, of a whole reply and of the last chunk of a stream, with the answer."""
    whole = ask(client, text, **more)
    chunks = list(ask(client, text, stream=True, **more))
    assert [getattr(chunk, "fcit", None) for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].fcit == whole.fcit and chunks[-1].choices[0].finish_reason == "stop"
    return whole.fcit, whole.choices[0].message.content


def test_a_reply_tells_which_subspace_answered_and_how_near_it_was(client, text_run):
    state = TrainedRun.read(text_run).state
    found = [told(client, text)[0] for text in QUESTIONS]
    for who, task in zip(found, ["color", "letter"] * len(tiny.COLORS), strict=True):
        k = who["subspace"]
        assert who["tasks"] == list(state.tasks[k]) and task in who["tasks"]
        assert who["weight"] == max(who["weights"]) == who["weights"][k] > 0.5 and not who["asked"]
        assert -1 <= who["cosine"] <= 1 and isinstance(who["far"], bool)
    assert len({who["subspace"] for who in found}) == 2


def test_a_request_can_ask_for_another_subspace(client, text_run, text_keys, settings):
    chat = ChatModel(infer_args(text_keys, text_run, **GREEDY))
    differing = 0
    for text in QUESTIONS:
        own, answered = told(client, text)
        for k in range(2):
            who, other = told(client, text, extra_body={"fcit_subspace": k})
            assert (who["subspace"], who["weights"], who["asked"]) == (k, [float(i == k) for i in range(2)], True)
            assert k != own["subspace"] or who["cosine"] == own["cosine"]
            differing += other != answered
            messages = [{"role": "user", "content": text}]
            assert chat.chat(messages, QUESTIONS[0], fcit_subspace=k)[0].response_text == other
    assert differing, "the test says nothing"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("number", [2, -1, 10**30])
def test_a_subspace_that_is_not_there_is_the_clients_error(client, stream, number):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, QUESTIONS[0], stream=stream, extra_body={"fcit_subspace": number})
    assert caught.value.response.json() == {"detail": f"`fcit_subspace` is {number}; the subspaces that can answer are 0, 1."}
    with pytest.raises(openai.UnprocessableEntityError):
        ask(client, QUESTIONS[0], stream=stream, extra_body={"fcit_subspace": "one"})
    assert answer(client, QUESTIONS[0])


@pytest.mark.parametrize("stream", [False, True])
def test_a_plain_model_replies_as_without_us_and_has_no_subspace_to_ask_for(request, stream):
    with asked(request, "plain_url") as client:
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, QUESTIONS[0], stream=stream, extra_body={"fcit_subspace": 0})
        assert "this model has none" in caught.value.response.text
        assert "fcit" not in ask(client, QUESTIONS[0]).to_dict()
        assert all("fcit" not in chunk.to_dict() for chunk in ask(client, QUESTIONS[0], stream=True))


def talked(typed, keys, tmp_path, monkeypatch, capsys, end="exit"):
    """What `llamafactory-cli chat` prints while these lines are typed; None at the end stands for that of the input."""
    from llamafactory.chat import chat_model

    recipe = tiny.write_recipe(tmp_path / "chat.yaml", keys)
    monkeypatch.setattr(sys, "argv", ["llamafactory-cli", str(recipe)])
    lines = iter([*typed, end])

    def answer(prompt):
        if (line := next(lines)) is None:
            raise EOFError
        return line

    monkeypatch.setattr("builtins.input", answer)
    plain = chat_model.ChatModel
    chat_model.run_chat()
    assert chat_model.ChatModel is plain and "input" not in vars(chat_model)
    assert next(lines, None) is None
    return capsys.readouterr().out


def test_the_chat_of_the_command_line_says_who_answered(text_run, text_keys, tmp_path, monkeypatch, capsys, settings):
    keys = infer_args(text_keys, text_run, **GREEDY)
    shown = talked([QUESTIONS[0], "clear", QUESTIONS[1]], keys, tmp_path, monkeypatch, capsys, end=None)
    assert shown.count("answered, weight") == 2 and "(color) answered" in shown and "(letter) answered" in shown


def test_who_types_chooses_the_subspace_that_answers(text_run, text_keys, tmp_path, monkeypatch, capsys, settings):
    keys = infer_args(text_keys, text_run, **GREEDY)
    tasks = TrainedRun.read(text_run).state.tasks
    color, letter = QUESTIONS[:2]
    typed = [
        "/subspace 0",
        color,
        "clear",
        letter,
        "clear",
        "/subspace 1",
        color,
        "clear",
        "/subspace auto",
        color,
        "clear",
        letter,
    ]
    shown = talked(typed, keys, tmp_path, monkeypatch, capsys)
    answered = re.findall(r"\[subspace (\d) ", shown)
    by_themselves = [next(k for k, of in enumerate(tasks) if task in of) for task in ("color", "letter")]
    assert answered == [*"001", *map(str, by_themselves)]
    chat = ChatModel(keys)
    replies = re.findall(r"Assistant: (.*)\n\[", shown)
    asked = [(color, 0), (letter, 0), (color, 1), (color, None), (letter, None)]
    said = ["".join(chat.stream_chat([{"role": "user", "content": text}], fcit_subspace=k)) for text, k in asked]
    assert [reply.strip() for reply in replies] == [text.strip() for text in said]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/subspace", "those that can answer: 0 ("),
        ("/subspace one", "those that can answer: 0 ("),
        ("/subspace -1", "those that can answer: 0 ("),
        ("/subspace 1 2", "those that can answer: 0 ("),
        (f"/subspace {'9' * 5000}", "those that can answer: 0 ("),
        ("/subspace 2", "`fcit_subspace` is 2; the subspaces that can answer are 0, 1."),
        ("  /subspace   1  ", "Subspace 1 ("),
        ("/subspace auto", "Each message activates its own subspaces."),
        ("/subspaces are what?", None),
        ("what is /subspace 1", None),
    ],
)
def test_a_line_that_chooses_is_told_and_any_other_is_a_message(line, told, text_chat):
    chosen = ChosenSubspace()
    chosen.subspace = 0
    found = chosen.take(line, text_chat.engine.model)
    assert found is None if told is None else told in found
    assert chosen.subspace == (1 if line.split() == ["/subspace", "1"] else None if "auto" in line else 0)


def test_to_a_plain_model_every_line_is_a_message(text_keys, tmp_path, monkeypatch, capsys, settings):
    keys = infer_args(text_keys, None, **GREEDY)
    del keys["adapter_name_or_path"]
    shown = talked(["/subspace 1"], keys, tmp_path, monkeypatch, capsys)
    assert shown.count("Assistant: ") == 1 and "ubspace" not in shown


def test_several_answers_to_one_request_are_returned(client):
    assert len(ask(client, QUESTIONS[0], n=3, temperature=1.0).choices) == 3


def test_key_models_and_cross_origin_rules_are_llamafactorys(client, url):
    assert [model.id for model in client.models.list()] == ["gpt-3.5-turbo"]
    with openai.OpenAI(base_url=url, api_key="guess", max_retries=0) as other, pytest.raises(openai.AuthenticationError):
        answer(other, QUESTIONS[0])
    asking = {"Origin": "http://elsewhere", "Access-Control-Request-Method": "POST"}
    allowed = httpx.options(f"{url}/chat/completions", headers=asking)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "http://elsewhere")


def test_an_image_in_a_request_is_seen(settings, llava_run, llava_keys, image_data):
    chat = ChatModel(infer_args(llava_keys, llava_run, image_max_pixels=1024, **GREEDY))
    with serving(chat) as url, openai.OpenAI(base_url=url, api_key="sesame", max_retries=0) as client:
        for task in ("color", "letter"):
            picture = image_data / "datasets" / "green.png"
            data = base64.b64encode(picture.read_bytes()).decode()
            content = [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
                {"type": "text", "text": tiny.TASKS[task][0]},
            ]
            found = client.chat.completions.create(model="any", messages=[{"role": "user", "content": content}])
            message = {"role": "user", "content": f"<image>{tiny.TASKS[task][0]}"}
            expected = chat.chat([message], images=[str(picture)])[0].response_text
            assert found.choices[0].message.content == expected


def test_web_chat_answers_as_chat_does(text_run, text_keys, tmp_path, monkeypatch, client):
    pytest.importorskip("gradio", exc_type=ImportError)  # some of its releases do not go with huggingface_hub 1
    from llamafactory.webui.engine import Engine

    recipe = tiny.write_recipe(tmp_path / "chat.yaml", infer_args(text_keys, text_run, **GREEDY))
    monkeypatch.setattr(sys, "argv", ["llamafactory-cli", str(recipe)])
    chatter = Engine(pure_chat=True).chatter
    for text in QUESTIONS[:2]:
        chatbot, messages, _ = chatter.append([], [], "user", text, escape_html=False)
        *_, (chatbot, _) = chatter.stream(chatbot, messages, "en", "", "", None, None, None, 4, 1.0, 0.0, True, False, True)
        assert chatbot[-2]["content"].strip() == answer(client, text).strip()
        assert "answered, weight" in chatbot[-1]["content"]


def test_the_web_page_answers_over_http(text_run, text_keys, tmp_path, monkeypatch, client):
    """Gradio's own client presses the button of the page that ``llamafactory-cli webchat`` shows."""
    pytest.importorskip("gradio", exc_type=ImportError)
    from gradio_client import Client
    from llamafactory.webui.interface import create_web_demo

    recipe = tiny.write_recipe(tmp_path / "chat.yaml", infer_args(text_keys, text_run, **GREEDY))
    monkeypatch.setattr(sys, "argv", ["llamafactory-cli", str(recipe)])
    page = create_web_demo().queue()
    page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    try:
        for text in QUESTIONS[:2]:
            user = Client(page.local_url, verbose=False)
            chatbot, _ = user.predict([], "user", text, True, api_name="/append")
            answered = user.predict(chatbot, "en", "", "", None, None, None, 8, 0.7, 0.95, True, True, True, api_name="/stream")
            expected = answer(client, text).strip()  # of 4 tokens; the page gives 8 at least
            assert expected and answered[-2]["content"].strip().startswith(expected)
            assert "answered, weight" in answered[-1]["content"]
    finally:
        page.close()
