"""The tab's elements, and what happens when they are used."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import gradio as gr

from ..parts import KINDS
from .actions import ROUTED, Actions
from .form import OTHERS, own_keys, widgets
from .host import Host
from .load import choices
from .show import add_stage, dataset_choices
from .texts import locales
from .widgets import AXES, Widget

#: Seconds between two looks at a run.
_EACH = 2.0


def create_tab(host: Host) -> Actions:
    """Make the tab in the place where this is called.

    Its elements are in the board's list, as ``fcit.<name>``, and follow its language.

    Args:
        host: LLaMA Board.
    """
    made = widgets()
    host.texts.update(locales(made))
    elements = _form(made)
    shown = _monitor()
    with gr.Accordion(open=False) as report_tab:
        page = gr.HTML()
    with gr.Accordion(open=False) as chat_tab:
        chat_status = gr.Markdown()
        subspace = gr.Dropdown(choices=[(ROUTED, ROUTED)], value=ROUTED, visible=False)
        chatbot, messages, chat = host.chat_box()
        unload = gr.Button()
    more = {"fcit_report_tab": report_tab, "fcit_page": page, "fcit_chat_tab": chat_tab, "fcit_chat_status": chat_status}
    more["fcit_subspace"] = subspace
    elements |= shown | more
    for name, element in elements.items():
        element.elem_id = f"fcit.{name}"  # as in the board's list, for those who write styles or tests
    host.elements.add_elems("fcit", elements)
    host.elements.add_elems("fcit_chat", {**chat, "unload_btn": unload})  # some have names of ours
    _connect_form(elements)
    actions = Actions(host, elements)
    _connect_run(elements, actions)
    loaded = [chat_status, chat_tab, chat["chat_box"], chat["mm_box"], subspace]
    subspace.change(actions.choose, [subspace], queue=False)
    elements["fcit_load_btn"].click(actions.load_chat, actions.where, loaded).then(
        lambda: ([], []), outputs=[chatbot, messages], queue=False
    )
    unload.click(actions.unload_chat, [actions.where[0]], loaded)
    return actions


def _field(widget: Widget, **more: Any) -> Any:
    """The element that fills in a key."""
    if widget.kind == "choice":
        return gr.Dropdown(choices=list(widget.choices), value=widget.value, **more)
    if widget.kind == "number":
        return gr.Number(value=widget.value, precision=0 if widget.whole else None, **more)
    if widget.kind == "switch":
        return gr.Checkbox(value=bool(widget.value), **more)
    return gr.Textbox(value=widget.value or "", **more)


def _row(made: Mapping[str, Widget], *keys: str) -> dict[str, Any]:
    with gr.Row():
        return {key: _field(made[key]) for key in keys}


def _form(made: Mapping[str, Widget]) -> dict[str, Any]:
    found: dict[str, Any] = {"fcit_intro": gr.Markdown()}
    with gr.Row():
        found["fcit_recipe"] = gr.Dropdown(allow_custom_value=True, scale=4)
        found["fcit_recipe_btn"] = gr.Button(scale=1)
    with gr.Row():
        found["fcit_setting"] = _field(made["fcit_setting"])
        found["dataset_dir"] = gr.Textbox(value=OTHERS["dataset_dir"])
        found["fcit_test"] = gr.Number(value=OTHERS["fcit_test"])
        found["fcit_eval_samples"] = _field(made["fcit_eval_samples"])
        found["max_new_tokens"] = gr.Number(value=OTHERS["max_new_tokens"], precision=0)
    with gr.Row() as stages:
        found["fcit_pick"] = gr.Dropdown(multiselect=True, allow_custom_value=True, scale=3)
        found["fcit_add_btn"] = gr.Button(scale=1)
        found["fcit_stages"] = gr.Textbox(value=OTHERS["fcit_stages"], scale=4)
    found["fcit_stages_row"] = stages
    found |= _row(made, "fcit_num_clients", "fcit_clients_per_round", "fcit_num_rounds", "fcit_min_client_samples")
    found |= _row(made, "fcit_partition", "fcit_beta", "fcit_partition_column")
    found |= _row(made, "fcit_method", "fcit_server_rule", "fcit_lora_aggregation")
    with gr.Row():
        for key, widget in made.items():
            if widget.owners:
                found[key] = _field(widget, visible=made[widget.choice].value in widget.owners, min_width=240)
    found |= _row(made, "fcit_engine", "fcit_clients_per_device")
    with gr.Row():
        found["fcit_extra_args"] = gr.Textbox(value=OTHERS["fcit_extra_args"], scale=2, lines=2, max_lines=8)
        name = f"fcit_{datetime.now():%Y-%m-%d-%H-%M-%S}"
        found["output_dir"] = gr.Textbox(value=name, scale=1)
    return found


def _monitor() -> dict[str, Any]:
    with gr.Row():
        found: dict[str, Any] = {name: gr.Button() for name in ("cmd_preview_btn",)}
        found["start_btn"] = gr.Button(variant="primary")
        found["stop_btn"] = gr.Button(variant="stop")
        found["fcit_report_btn"] = gr.Button()
        found["fcit_load_btn"] = gr.Button()
    found["fcit_notes"] = gr.Markdown()
    found["fcit_command"] = gr.Code(language="shell", interactive=False, visible=False, wrap_lines=True, max_lines=18)
    found["fcit_status"] = gr.Markdown()
    found["fcit_progress"] = gr.Slider(visible=False, interactive=False, show_label=False, show_reset_button=False)
    with gr.Row():
        found["fcit_matrix"] = gr.Markdown()
        found["fcit_losses"] = gr.Plot(visible=False, show_label=False)
    found["fcit_log"] = gr.HTML()
    return found


def _connect_form(elements: Mapping[str, Any]) -> None:
    elements["fcit_recipe"].focus(lambda: gr.Dropdown(choices=choices()), None, [elements["fcit_recipe"]], queue=False)
    # by hand alone: what a loaded recipe fills in shall stay
    elements["fcit_setting"].input(
        lambda setting: gr.Row(visible=setting == "custom"),
        [elements["fcit_setting"]],
        [elements["fcit_stages_row"]],
        queue=False,
    )
    elements["fcit_pick"].focus(
        lambda folder, stage: gr.Dropdown(choices=dataset_choices(folder, stage)),
        [elements["dataset_dir"], elements["fcit_stages"]],
        [elements["fcit_pick"]],
        queue=False,
    )
    pick = [elements["fcit_stages"], elements["fcit_pick"]]
    elements["fcit_add_btn"].click(add_stage, pick, pick, queue=False)
    for kind in AXES:
        _connect_axis(elements, str(KINDS[kind][0]))


def _connect_axis(elements: Mapping[str, Any], choice: str) -> None:
    """A part's own keys are seen, at its defaults, once it is chosen."""
    keys = list(own_keys(choice, ""))
    if not keys:
        return

    def choose(chosen: str) -> list[Any]:
        found = own_keys(choice, chosen)
        return [
            elements[key].__class__(visible=has, **({"value": default} if has else {})) for key, (has, default) in found.items()
        ]

    elements[choice].input(choose, [elements[choice]], [elements[key] for key in keys], queue=False)


def _connect_run(elements: Mapping[str, Any], actions: Actions) -> None:
    said = [elements["fcit_notes"], elements["fcit_command"]]
    elements["fcit_recipe_btn"].click(actions.load, actions.inputs_of_load, actions.loaded)
    elements["cmd_preview_btn"].click(actions.preview, actions.inputs, said, concurrency_limit=None)
    elements["start_btn"].click(actions.start, actions.inputs, said)
    elements["stop_btn"].click(actions.stop, queue=False)
    seen = gr.State(None)
    watched = [elements[name] for name in actions.WATCHED]
    timer = gr.Timer(_EACH)
    timer.tick(actions.watch, [*actions.where, seen], [*watched, seen], queue=False, show_progress="hidden")
    report = [elements["fcit_page"], elements["fcit_report_tab"]]
    elements["fcit_report_btn"].click(actions.report, actions.where, report, concurrency_limit=None)
