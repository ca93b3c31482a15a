"""What the tab's buttons do."""

import html
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import gradio as gr

from ..drafts.draft import Draft
from ..errors import FcitError
from ..evaluation.tables import escaped, prose
from ..state.output_folder import is_fcit_folder
from .command import RECIPE, command
from .form import OTHERS, check, recipe_of, widgets
from .host import Host
from .load import as_json, defaults, form_of, further, load, output_dir_of
from .progress import look, mark
from .refusals import Refusal, in_language
from .run import Run, Status, output_of
from .show import chat_keys, last_lines, losses, matrix, page_in_frame, status_line, told
from .texts import LANGUAGES, say
from .widgets import Widget

_FIRST = "Federated continual instruction tuning, made in LLaMA Board."
#: Instead of a subspace: those that each message activates.
ROUTED = "routed"
#: What LLaMA-Factory and we raise over keys that cannot be.
_REFUSALS = (FcitError, ValueError, ImportError, OSError)


class Actions:
    """The tab's buttons.

    Args:
        host: LLaMA Board.
        elements: The tab's elements, by name.
    """

    #: What a look at the run fills in.
    WATCHED: ClassVar = ("fcit_status", "fcit_progress", "fcit_matrix", "fcit_losses", "fcit_log")

    def __init__(self, host: Host, elements: Mapping[str, Any]) -> None:
        self.run = Run()
        self._host, self._elements = host, elements
        named = host.elements.get_elem_by_id
        self._top = {name: named(f"top.{name}") for name in ("lang", "model_name", "model_path", "finetuning_type")}
        self._filled_in = {name: elements[name] for name in [*widgets(), *OTHERS]}
        #: What tells where a run is, and in which language to say so.
        self.where = [self._top[name] for name in ("lang", "model_name", "finetuning_type")] + [elements["output_dir"]]
        #: All that a recipe is made of.
        self.inputs = {*host.inputs, *self.where, *self._filled_in.values()}
        #: And which one is to be loaded.
        self.inputs_of_load = {*self.inputs, elements["fcit_recipe"]}
        #: What a loaded recipe fills in, and what is said of it.
        self.loaded = [*self.inputs, *(elements[name] for name in ("fcit_stages_row", "fcit_notes", "fcit_command"))]

    def load(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Fill a recipe in; where it is none, what is filled in stays."""
        elements, lang = self._elements, self._lang(data)
        try:
            name = data[elements["fcit_recipe"]]
            recipe = load(name)
            theirs, unsure = self._host.fields(
                {**recipe.keys, "stage": recipe.keys.get("fcit_local_stage", "sft")}, defaults(recipe.keys), data
            )
            form = form_of(recipe.keys)
            made = recipe_of(self._host.training_keys({**data, **theirs}), form, str(recipe.keys.get("output_dir", "")))
            more = further(made.keys, recipe.keys, unsure)
        except _REFUSALS as error:
            said, shown = self._refused(error, lang)
            return {elements["fcit_notes"]: said, elements["fcit_command"]: shown}
        form["fcit_extra_args"] = as_json(more)
        where = elements["output_dir"]
        output_dir = output_dir_of(recipe.keys, data[where])
        notes = told(recipe, str(name), more, lang)
        folder = self._folder(data[self._top["model_name"]], "lora", output_dir)
        if folder is not None and os.path.isdir(folder):
            notes.append(self._host.alert("warn_output_dir_exists", lang))
        found: dict[Any, Any] = {**theirs, where: output_dir}
        made_of = widgets()
        found |= {
            elements[key]: elements[key].__class__(value=value, **_seen(made_of.get(key), form)) for key, value in form.items()
        }
        found[elements["fcit_stages_row"]] = gr.Row(visible=form["fcit_setting"] == "custom")
        found[elements["fcit_notes"]] = "\n".join(f"- {sentence}" for sentence in notes)
        return {**found, elements["fcit_command"]: gr.Code(visible=False)}

    def preview(self, data: Mapping[Any, Any]) -> list[Any]:
        """Show the command."""
        try:
            draft, folder = self._draft(data)
        except _REFUSALS as error:
            return self._refused(error, self._lang(data))
        return [_listed(draft), gr.Code(value=command(draft.text(_FIRST), folder / RECIPE), visible=True)]

    def start(self, data: Mapping[Any, Any]) -> list[Any]:
        """Start the run."""
        lang = self._lang(data)
        try:
            if self._host.is_busy():
                raise FcitError(self._host.alert("err_conflict", lang))
            draft, folder = self._draft(data)
            self.run.start(draft.text(_FIRST), folder)
        except _REFUSALS as error:
            return self._refused(error, lang)
        return [_listed(draft), gr.Code(visible=False)]

    def stop(self) -> None:
        """Stop the run."""
        self.run.stop()

    def watch(self, lang: str, model: str | None, tuning: str, name: str, seen: Any) -> list[Any]:
        """Look at the run; where nothing is new, nothing is sent.

        Args:
            lang: The board's language.
            model: The model's name.
            tuning: The kind of tuning.
            name: The output folder's name.
            seen: What the last look returned behind its elements.
        """
        folder = self._folder(model, tuning, name)
        if lang is None or folder is None:
            return [gr.skip()] * (len(self.WATCHED) + 1)
        status = self.run.status(folder)
        try:
            output = output_of(folder)
            now = [lang, status.value, len(output), output[-200:], *map(str, mark(folder))]
            if now == seen:
                return [gr.skip()] * (len(self.WATCHED) + 1)
            found = look(folder)
        except FcitError as error:
            return [prose(in_language(error, lang)), *[gr.skip()] * (len(self.WATCHED) - 1), None]
        code = self.run.exit_code if status is Status.FAILED else 0
        curve = losses(found, lang)
        return [
            status_line(status, found, lang, code),
            gr.Slider(value=found.share, visible=found.last is not None),
            matrix(found, lang),
            gr.Plot(value=curve, visible=curve is not None),
            last_lines(output),
            now,
        ]

    def report(self, lang: str, model: str | None, tuning: str, name: str) -> list[Any]:
        """Open the page that a run has left."""
        try:
            folder = self._known_folder(lang, model, tuning, name)
            page = look(folder).page
            if page is None:
                raise Refusal("no_report", folder=folder)
            return [page_in_frame(page), gr.Accordion(open=True)]
        except FcitError as error:
            _warn(in_language(error, lang))
            return ["", gr.skip()]

    def load_chat(self, lang: str, model: str | None, tuning: str, name: str) -> list[Any]:
        """Load a finished run to chat with."""
        try:
            folder = self._known_folder(lang, model, tuning, name)
            if not is_fcit_folder(folder):
                raise Refusal("no_run", folder=folder)
            self._host.load_chat(chat_keys(folder))
            said = self._host.alert("info_loaded", lang)
        except _REFUSALS as error:
            said = in_language(error, lang)
            _warn(said)
            said = prose(said)
        return [said, gr.Accordion(open=True), *self._chat(lang)]

    def choose(self, subspace: str, request: gr.Request) -> None:
        """Have a subspace answer alone, or each message activate its own.

        Args:
            subspace: What was chosen.
            request: Whose browser.
        """
        if self._host.chats():
            self._host.choose(str(request.session_hash), None if subspace == ROUTED else int(subspace))

    def unload_chat(self, lang: str) -> list[Any]:
        """Drop the model."""
        self._host.unload_chat()
        return [self._host.alert("info_unloaded", lang), gr.skip(), *self._chat(lang)]

    def _chat(self, lang: str) -> list[Any]:
        found = self._host.subspaces() if self._host.chats() else {}
        choices = [(say(ROUTED, lang), ROUTED), *((name, str(k)) for k, name in found.items())]
        who = gr.Dropdown(choices=choices, value=ROUTED, visible=bool(found))
        return [gr.Column(visible=self._host.chats()), gr.Column(visible=self._host.sees()), who]

    def _lang(self, data: Mapping[Any, Any]) -> str:
        return data[self._top["lang"]] or LANGUAGES[0]  # none is chosen while the page loads

    def _draft(self, data: Mapping[Any, Any]) -> tuple[Draft, Path]:
        lang = self._lang(data)
        model, tuning, name = (data[element] for element in self.where[1:])
        folder = self._known_folder(lang, model, tuning, name)
        if not data[self._top["model_path"]]:
            raise FcitError(self._host.alert("err_no_path", lang))
        values = {key: data[element] for key, element in self._filled_in.items()}
        draft = recipe_of(self._host.training_keys(data), values, str(folder))
        check(draft.keys)
        return draft, folder

    def _folder(self, model: str | None, tuning: str, name: str | None) -> Path | None:
        """The output folder; None as long as it is not known."""
        if not name or (not model and os.path.sep not in name):
            return None
        return Path(name if os.path.sep in name else self._host.save_dir(model, tuning, name))

    def _known_folder(self, lang: str, model: str | None, tuning: str, name: str | None) -> Path:
        folder = self._folder(model, tuning, name)
        if folder is None:  # without a path of its own, an output folder lies in that of the model
            raise FcitError(self._host.alert("err_no_model" if name else "err_no_output_dir", lang))
        return folder

    @staticmethod
    def _refused(error: BaseException, lang: str) -> list[Any]:
        said = in_language(error, lang)
        _warn(said)
        return [f"**{escaped(said)}**", gr.Code(visible=False)]


def _seen(widget: Widget | None, form: Mapping[str, Any]) -> dict[str, Any]:
    """Whether a key's element is seen, where that depends on the part that is chosen."""
    return {} if widget is None or not widget.owners else {"visible": form[widget.choice] in widget.owners}


def _warn(said: str) -> None:
    gr.Warning(html.escape(said, quote=False))  # it would be taken for HTML


def _listed(draft: Draft) -> str:
    return "\n".join(f"- {prose(sentence)}" for sentence in draft.said)
