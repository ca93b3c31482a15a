"""LLaMA Board's tab FCIT as a user sees it: `llamafactory-cli webui` in a process of its own, and a browser."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from fcit_plugin.deployment.addresses import free_ports
from fcit_plugin.shipped import shipped_recipes

pytestmark = [pytest.mark.browser, pytest.mark.slow]

#: Seconds to wait for a page or a run, on a machine that does other things too.
PATIENCE = 300


@pytest.fixture
def board(chromium, tmp_path):
    """The page of a board that runs in `tmp_path`."""
    pytest.importorskip("gradio", exc_type=ImportError)
    (port,) = free_ports(1)
    scripts = Path(sys.executable).parent
    env = {
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
    }
    env |= {"BROWSER": "true", "GRADIO_ANALYTICS_ENABLED": "False"}
    with (tmp_path / "board.txt").open("w") as output:
        process = subprocess.Popen(
            [str(scripts / "llamafactory-cli"), "webui"], cwd=tmp_path, env={**os.environ, **env}, stdout=output, stderr=output
        )
    context = chromium.new_context(viewport={"width": 1440, "height": 1600})
    try:
        until = time.monotonic() + PATIENCE
        while "Running on local URL" not in (tmp_path / "board.txt").read_text():
            assert process.poll() is None and time.monotonic() < until, (tmp_path / "board.txt").read_text()
            time.sleep(0.2)
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(f"http://127.0.0.1:{port}", wait_until="domcontentloaded")
        yield Board(page)
    finally:
        context.close()
        process.terminate()
        process.wait()


class Board:
    """The page, by the names of the tab's elements."""

    def __init__(self, page):
        self.page = page

    def element(self, name):
        return self.page.locator(f'[id="fcit.{name}"]')

    def put(self, name, value):
        """Type a value."""
        box = self.element(name).locator("input, textarea").first
        box.fill(str(value))
        box.blur()

    def pick(self, name, value):
        """Choose a value."""
        box = self.element(name).locator("input").first
        self._choose(box, value)

    def pick_by_label(self, label, value):
        self._choose(self.page.get_by_label(label, exact=True).locator("visible=true").first, value)

    def _choose(self, box, value):
        box.click()
        box.fill(value)
        self.page.get_by_role("option", name=value, exact=True).first.click()

    def value(self, name):
        """What stands in a field."""
        return self.element(name).locator("input, textarea").first.input_value()

    def type(self, name, value):
        """Type what need not be among the choices."""
        box = self.element(name).locator("input").first
        box.fill(value)
        box.press("Enter")
        self.page.keyboard.press("Tab")

    def press(self, name):
        self.element(name).click()

    def wait(self, name, pattern):
        """Wait until an element's text is like this; gives it."""
        until, text = time.monotonic() + PATIENCE, ""
        while not re.search(pattern, text):
            assert time.monotonic() < until, f"{name} says {text!r}, not {pattern!r}"
            time.sleep(0.1)
            text = self.element(name).inner_text() if self.element(name).is_visible() else ""
        return text


def test_a_run_from_the_first_click_to_a_chat(board, text_model, text_data, tmp_path):
    page, folder = board.page, tmp_path / "saves/Custom/lora"
    board.pick_by_label("Model name", "Custom")
    page.get_by_label("Model path").fill(str(text_model))
    board.pick_by_label("Chat template", "vicuna")
    board.pick_by_label("Compute type", "fp32")
    page.get_by_role("tab", name="FCIT").click()

    board.put("dataset_dir", text_data)
    for stage in ("color", "letter"):
        board.pick("fcit_pick", stage)
        page.keyboard.press("Escape")
        board.press("fcit_add_btn")
        page.wait_for_function(
            "stage => document.getElementById('fcit.fcit_stages').querySelector('textarea, input').value.endsWith(stage)",
            arg=stage,
        )
    for name, value in {
        "fcit_num_clients": 3,
        "fcit_clients_per_round": 2,
        "fcit_num_rounds": 100,
        "fcit_min_client_samples": 4,
    }.items():
        board.put(name, value)
    assert not board.element("fcit_ewc_lambda").is_visible()
    board.pick("fcit_method", "ewc")
    board.element("fcit_ewc_lambda").wait_for(state="visible")
    board.pick("fcit_method", "disco")
    board.element("fcit_ewc_lambda").wait_for(state="hidden")
    more = {"default_system": "", "fcit_identity_min_records": 1, "logging_steps": 1, "gradient_accumulation_steps": 1}
    board.put("fcit_extra_args", json.dumps({**more, "learning_rate": 0.01, "num_train_epochs": 1}))
    board.put("output_dir", "stopped")

    board.press("cmd_preview_btn")
    assert "cat > saves/Custom/lora/stopped/board_recipe.yaml" in board.wait("fcit_command", "mkdir")
    board.press("start_btn")
    board.wait("fcit_status", r"Stage [01] of 2, round \d, client \d: step \d+ of \d+")
    board.press("stop_btn")
    board.wait("fcit_status", r"Stopped\.")
    recipe = yaml.safe_load((folder / "stopped/board_recipe.yaml").read_text())
    assert (recipe["fcit_stages"], recipe["fcit_num_rounds"]) == ([["color"], ["letter"]], 100)
    assert not (folder / "stopped/fcit_report.json").exists()

    board.put("fcit_num_rounds", 2)
    board.put("output_dir", "finished")
    board.press("start_btn")
    board.wait("fcit_status", r"Finished\.")
    assert json.loads((folder / "finished/fcit_report.json").read_text())["stages"] == [["color"], ["letter"]]
    heads, *rows = board.element("fcit_matrix").locator("tr").all_inner_texts()
    assert heads.split() == ["color", "letter"] and [row.split()[0] for row in rows] == ["0", "1"]
    board.element("fcit_losses").locator("img").wait_for(state="visible")
    board.wait("fcit_log", "Subspaces, report and pictures are in")  # said after the report is there

    board.press("fcit_report_btn")
    report = page.frame_locator('iframe[title="fcit_report.html"]')
    report.locator("h1").first.wait_for()
    assert "disco" in report.locator("h1").first.inner_text()
    report.locator("input[type=range]").first.press("ArrowLeft")  # its own script runs

    board.press("fcit_load_btn")
    page.get_by_text("Model loaded, now you can chat").wait_for()
    page.locator("textarea:visible").last.fill("which letter belongs to it red")
    page.get_by_role("button", name="Submit").locator("visible=true").click()
    page.get_by_text(re.compile(r"subspace \d \(\w+\) answered, weight")).wait_for()

    board.pick("fcit_subspace", "1 (letter)")
    page.wait_for_timeout(1000)  # until it has arrived
    page.locator("textarea:visible").last.fill("name the color of this square please red")
    page.get_by_role("button", name="Submit").locator("visible=true").click()
    page.get_by_text(re.compile(r"subspace 1 \(letter\) answered, weight 1\.00")).wait_for()

    board.pick_by_label("Language", "ja")
    board.element("fcit_num_clients").get_by_text("クライアントの総数。").wait_for()
    board.wait("fcit_status", "完了しました")


def test_a_recipe_is_loaded_and_nothing_of_the_board_takes_it_back(board, tmp_path):
    """The board has fields change each other: a method shows its keys at their defaults, a stage sets packing."""
    page = board.page
    recipe = yaml.safe_load(shipped_recipes()["fcit_dpo_tiny"].read_text())
    recipe |= {"fcit_method": "ewc", "fcit_ewc_lambda": 7.5, "fcit_ewc_samples": 3, "packing": True, "weight_decay": 0.25}
    recipe |= {"fcit_server_rule": "fedadam", "fcit_server_learning_rate": 0.5}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    page.get_by_role("tab", name="FCIT").click()
    board.press("fcit_recipe_btn")
    board.wait("fcit_notes", "No recipe is named")
    board.type("fcit_recipe", "mine.yaml")
    board.press("fcit_recipe_btn")
    assert "weight_decay" in board.wait("fcit_notes", r"mine\.yaml is loaded")
    page.wait_for_timeout(3000)  # what the fields set off has come to an end
    assert board.value("fcit_ewc_lambda") == "7.5" and board.value("fcit_ewc_samples") == "3"
    assert board.value("fcit_server_learning_rate") == "0.5" and board.value("fcit_method") == "ewc"
    assert board.value("fcit_stages") == "text_last_pairs text_sum_pairs text_order_pairs"
    assert page.get_by_label("Model path").input_value() == recipe["model_name_or_path"]
    assert json.loads(board.value("fcit_extra_args"))["packing"] is True
    page.get_by_role("tab", name="Train").first.click()
    assert page.get_by_label("Learning rate").first.input_value() == "0.002"

    page.get_by_role("tab", name="FCIT").click()
    board.pick("fcit_recipe", "fcit_mini_het_disco")
    board.press("fcit_recipe_btn")
    board.wait("fcit_notes", "fcit_mini_het_disco is loaded")
    assert board.value("fcit_setting") == "task_het" and not board.element("fcit_stages").is_visible()
    board.element("fcit_ewc_lambda").wait_for(state="hidden")
    board.press("cmd_preview_btn")
    shown = board.wait("fcit_command", "fcit_setting: task_het")  # the last lines are out of sight, and then not in the page
    assert "cat > saves/fcit_mini/het_disco/board_recipe.yaml" in shown and "fcit_activation: softmax" in shown


#: Elements that a user fills in or presses.
CONTROLS = {"textbox", "combobox", "listbox", "spinbutton", "checkbox", "button", "slider", "searchbox", "tab"}
#: gradio keeps copies of its tabs out of sight that take the focus, too, and do nothing; the tabs themselves have a role.
FOCUSED = """() => {
  const at = document.activeElement, label = at.labels?.[0]?.innerText.split('\\n')[0].trim();
  const name = at.getAttribute('aria-label') ?? label ?? at.innerText.trim();
  return [at.closest('[id^="fcit."]')?.id ?? '', at.getAttribute('role') === 'tab' ? `tab ${name}` : name];
}"""


def test_with_the_keyboard_alone_the_tab_is_found_filled_in_and_previewed(board, text_model, text_data):
    page = board.page
    page.get_by_role("tab", name="FCIT").wait_for()
    page.wait_for_timeout(3000)  # until the board has filled itself in

    def tab_to(wanted):
        """Press Tab until the focus is on this element, or on one of this name."""
        for _ in range(80):
            page.keyboard.press("Tab")
            if wanted in page.evaluate(FOCUSED):
                return
        raise AssertionError(f"Tab does not lead to {wanted}")

    def choose(wanted, value):
        tab_to(wanted)
        page.keyboard.press("Control+A")
        page.keyboard.type(value)
        page.keyboard.press("Enter")

    def put(wanted, value):
        tab_to(wanted)
        page.keyboard.press("Control+A")
        page.keyboard.type(str(value))

    def press(wanted):
        tab_to(wanted)
        page.keyboard.press("Enter")

    choose("Model name", "Custom")
    put("Model path", text_model)
    choose("Chat template", "vicuna")
    press("tab FCIT")
    board.element("fcit_method").wait_for(state="visible")
    put("fcit.dataset_dir", text_data)
    for stage in ("color", "letter"):
        choose("fcit.fcit_pick", stage)
        page.keyboard.press("Escape")
        press("fcit.fcit_add_btn")
        page.wait_for_function(
            "stage => document.getElementById('fcit.fcit_stages').querySelector('textarea, input').value.endsWith(stage)",
            arg=stage,
        )
        page.keyboard.press("Shift+Tab")  # back to where the next one is chosen
        page.keyboard.press("Shift+Tab")
    put("fcit.fcit_num_clients", 3)
    put("fcit.fcit_clients_per_round", 2)
    choose("fcit.fcit_method", "ewc")
    board.element("fcit_ewc_lambda").wait_for(state="visible")
    put("fcit.fcit_ewc_lambda", 7)
    put("fcit.output_dir", "typed")
    press("fcit.cmd_preview_btn")
    shown = board.wait("fcit_command", "mkdir")
    assert "cat > saves/Custom/lora/typed/board_recipe.yaml" in shown

    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    found = [node for node in nodes if not node["ignored"] and node["role"]["value"] in CONTROLS]
    unnamed = [node["backendDOMNodeId"] for node in found if not node.get("name", {}).get("value", "").strip()]
    drawn = [session.send("DOM.getOuterHTML", {"backendNodeId": number})["outerHTML"] for number in unnamed]
    ours = [html for html in drawn if "icon-button" not in html]  # gradio names neither copy nor download of its code box
    assert len(found) > 40 and ours == []


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_tab_fits(board, width, scheme):
    page = board.page
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{page.url.partition('?')[0]}?__theme={scheme}", wait_until="domcontentloaded")
    page.get_by_label("Model path").wait_for()
    page.wait_for_timeout(2000)
    if not page.get_by_role("tab", name="FCIT").is_visible():  # where there is little room, it is in the menu behind the tabs
        page.locator(".overflow-menu > button").first.click()
        page.locator(".overflow-dropdown button", has_text="FCIT").click()
    else:
        page.get_by_role("tab", name="FCIT").click()
    board.element("fcit_method").wait_for(state="visible")
    page.wait_for_timeout(1000)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    elements = page.locator('[id^="fcit."]')
    assert elements.evaluate_all("all => all.filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.id)") == []
