"""The board's texts in its five languages: what can be seen of a translation without reading it, over all of them."""

import re
from pathlib import Path
from string import Formatter

import pytest

from fcit_plugin.arguments.joined import part_keys
from fcit_plugin.board.form import CORE, widgets
from fcit_plugin.board.key_texts import KEY_INFOS
from fcit_plugin.board.refusals import REFUSALS, Refusal, in_language
from fcit_plugin.board.texts import BUTTONS, INFOS, LABELS, LANGUAGES, SENTENCES, TITLES, locales, say
from fcit_plugin.board.widgets import AXES
from fcit_plugin.parts import KINDS
from fcit_plugin.plugins import BUILTIN, registry, source

WIDGETS = widgets()
TABLES = {"LABELS": LABELS, "TITLES": TITLES, "BUTTONS": BUTTONS, "INFOS": INFOS, "SENTENCES": SENTENCES, "REFUSALS": REFUSALS}
TEXTS = {f"{table}.{name}": texts for table, found in TABLES.items() for name, texts in found.items()}
TEXTS |= {f"KEY_INFOS.{key}": (WIDGETS[key].help, *texts) for key, texts in KEY_INFOS.items()}
TRANSLATED = [(name, lang) for name in TEXTS for lang in LANGUAGES[1:]]

#: What is typed as it stands there, in each language.
TYPED = r"`[^`]+`|\{\{.*?\}\}"
#: What a language is written with, and what the others are.
SCRIPTS = {"ru": "\u0400-\u04ff", "zh": "\u4e00-\u9fff", "ja": "\u3040-\u30ff\u4e00-\u9fff", "ko": "\uac00-\ud7a3"}
ALL_SCRIPTS = "\u0400-\u04ff\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3"
#: Words in Latin letters that a translation may have: names, and what is typed. Chinese has none of its own for a token.
NAMES = {
    "LLaMA-Factory",
    "LoRA",
    "JSON",
    "Train",
    "EWC",
    "TIES",
    "A-GEM",
    "C-LoRA",
    "A",
    "B",
    "n",
    "null",
    "fcit-cli",
    "plugins",
}
OF_A_LANGUAGE = {"zh": {"token"}}
#: Keys and values that are typed, and named in a text of another key.
VALUES = {*WIDGETS, "fcit_sites", "val_size", "lora_rank", "client_id", "natural", "released", "parallel"}
#: LLaMA Board's own terms: what its texts call a thing, by one of their names, and where ours speak of it.
TERMS = {
    "learning_rate": ["SENTENCES.fcit_intro", "KEY_INFOS.fcit_server_learning_rate"],
    "num_train_epochs": ["SENTENCES.fcit_intro"],
    "batch_size": ["SENTENCES.fcit_intro"],
    "dataset": ["LABELS.fcit_pick", "INFOS.fcit_pick", "INFOS.fcit_test", "KEY_INFOS.fcit_eval_samples"],
    "output_dir": ["INFOS.fcit_recipe"],
    "start_btn": ["SENTENCES.stopped"],
    "loss_viewer": ["KEY_INFOS.fcit_lamol_lambda"],
}


def latin(text):
    """The words in Latin letters, without what is filled in or typed."""
    return re.findall(r"[A-Za-z][\w-]*", re.sub(rf"{TYPED}|\{{\w+(!r)?\}}", "", text), re.ASCII)


def places(text):
    return sorted(field for _, field, _, _ in Formatter().parse(text) if field is not None)


def board():
    from llamafactory.webui.locales import LOCALES

    return LOCALES


def test_there_are_the_boards_languages_and_each_text_is_in_all_of_them():
    assert {*board()["lang"]} == {*LANGUAGES}
    for name, texts in TEXTS.items():
        assert len(texts) == len(LANGUAGES) and all(texts), name
    assert {*CORE, *(str(KINDS[kind][0]) for kind in AXES)} <= LABELS.keys() & KEY_INFOS.keys()
    assert all({*of_languages} == {*LANGUAGES} for of_languages in locales(WIDGETS).values())


@pytest.mark.parametrize("kind", AXES)
def test_every_key_of_our_own_parts_is_told_of_in_every_language(kind):
    """A new method's keys want a row of `board/key_texts.py`; those of other packages keep their own help."""
    ours = {name for name, part in registry(kind).items() if part.package == source(BUILTIN)}
    assert {key.name for key in part_keys().values() if key.kind == kind and ours & key.owners.keys()} <= KEY_INFOS.keys()


@pytest.mark.parametrize(("name", "lang"), TRANSLATED)
def test_a_translation_is_in_its_own_script_with_the_same_places_names_and_end(name, lang):
    english, text = TEXTS[name][0], TEXTS[name][LANGUAGES.index(lang)]
    assert text != english
    assert places(text) == places(english)
    assert re.search(f"[{SCRIPTS[lang]}]", text)
    foreign = re.sub(f"[{SCRIPTS[lang]}]", "", text)
    assert not re.search(f"[{ALL_SCRIPTS}]", foreign), "letters of another of the languages"
    of_key = {*WIDGETS[key].choices} if (key := name.rpartition(".")[2]) in WIDGETS else set()
    assert {*latin(text)} <= NAMES | OF_A_LANGUAGE.get(lang, set()) | VALUES | of_key, "left in English"
    assert {*latin(english)} & (VALUES | of_key | {"null", "JSON", "LoRA"}) <= {*latin(text)}, "what is typed is named, too"
    assert sorted(re.findall(rf"0\.1|100|{TYPED}", text)) == sorted(re.findall(rf"0\.1|100|{TYPED}", english))
    ends = (".", "。") if english.endswith(".") else ()
    assert text.endswith(ends) if ends else not text.endswith((".", "。"))
    assert text.count("(") == text.count(")") and text.count("\uff08") == text.count("\uff09")
    if lang in ("zh", "ja"):
        assert not re.search(f"[{SCRIPTS[lang]}][,.:;()]", text), "half-width signs"


@pytest.mark.parametrize("lang", LANGUAGES[1:])
def test_what_the_board_has_a_word_for_is_called_by_that_word(lang):
    of_board = {name: next(iter(texts[lang].values()), "") for name, texts in board().items() if texts[lang]}
    number = LANGUAGES.index(lang)
    for term, names in TERMS.items():
        words = [word[: max(4, len(word) - 2)] if lang == "ru" else word for word in of_board[term].split()]  # endings change
        assert all(re.search(r"\w* ".join(words), TEXTS[name][number], re.IGNORECASE) for name in names), (term, words)
    english = {next(iter(texts["en"].values())): name for name, texts in board().items() if texts["en"]}
    same = {name: english[texts[0]] for name, texts in TEXTS.items() if texts[0] in english}
    assert "TITLES.losses" in same
    assert all(TEXTS[name][number] == of_board[theirs] for name, theirs in same.items())


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_field_that_a_sentence_names_is_called_as_it_is_labeled(lang):
    number, said = LANGUAGES.index(lang), SENTENCES | REFUSALS
    abort = [board()["stop_btn"][one]["value"] for one in LANGUAGES]
    for label, count in ((LABELS["fcit_extra_args"], 5), (BUTTONS["fcit_add_btn"], 1), (abort, 1)):
        naming = [name for name, texts in said.items() if label[0] in texts[0]]
        assert len(naming) == count and all(label[number] in said[name][number] for name in naming)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_what_the_tab_refuses_is_said_in_the_boards_language_and_other_errors_as_they_are(lang):
    refusal = Refusal("at_work", folder="a/b")
    assert str(refusal) == "The run in a/b is at work; press Abort first, or wait for its end."
    assert in_language(refusal, lang) == REFUSALS["at_work"][LANGUAGES.index(lang)].format(folder="a/b")
    assert in_language(ValueError("as it is"), lang) == "as it is"
    for name, texts in REFUSALS.items():
        words = {place: f"<{place}>" for place in places(texts[0])}
        told = in_language(Refusal(name, **words), lang)
        assert all(word in told for word in words.values()) and "{{" not in told


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_two_fields_or_buttons_are_called_the_same(lang):
    for table in (LABELS, BUTTONS):
        words = [texts[LANGUAGES.index(lang)] for texts in table.values()]
        assert len({*words}) == len(words)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_sentences_hold_what_they_are_given(lang):
    assert "7" in say("failed", lang, code=7)
    words = {"stage": 1, "stages": 2, "round": 3, "client": 4, "step": 5, "steps": 6, "elapsed": "7:00", "remaining": "8:00"}
    assert all(str(word) in say("training", lang, **words) for word in words.values())
    for refused in ("no_report", "no_run"):
        assert str(Path("a/b")) in in_language(Refusal(refused, folder=Path("a/b")), lang)
