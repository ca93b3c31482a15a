"""What is wrong with a stranger's package is said at once: which package, which file, which line."""

import re
from functools import partial

import pytest
from runs import run_recipe
from strangers import line_of, method

from fcit_plugin import plugins
from fcit_plugin.arguments import FcitArguments
from fcit_plugin.arguments.joined import part_keys
from fcit_plugin.errors import FcitError
from fcit_plugin.evaluation.metrics import get_metric
from fcit_plugin.parts import KINDS

HEAD = "from fcit_plugin.hookspecs import hookimpl\n"


def said():
    """What is said of the installed packages when they are looked at."""
    with pytest.raises(FcitError) as caught:
        look()
    return str(caught.value)


def look():
    """Ask for all parts and keys, as the check of a recipe does."""
    for kind in KINDS:
        plugins.registry(kind)
    FcitArguments.joined()


FAULTS = {
    "a misspelled hook": (
        HEAD + "@hookimpl\ndef fcit_metric():\n    return {}\n",
        "@hookimpl",
        ["a function `fcit_metric` ({place}), which is not a hook; did you mean `fcit_metrics`?"],
    ),
    "a misspelled hook without the mark": (
        "def fcit_metric():\n    return {}\n",
        "def",
        ["a function `fcit_metric` ({place}), which is not a hook; did you mean `fcit_metrics`?"],
    ),
    "the mark on another name": (
        HEAD + "@hookimpl\ndef my_metrics():\n    return {}\n",
        "@hookimpl",
        ["a function `my_metrics` ({place}), which is not a hook"],
    ),
    "a hook without the mark": (
        "def fcit_metrics():\n    return {}\n",
        "def",
        ["a function `fcit_metrics` ({place}), which is not marked by `@hookimpl`"],
    ),
    "a hook with an argument that no hook has": (
        HEAD + "@hookimpl\ndef fcit_metrics(records):\n    return {}\n",
        "def",
        ["cannot be registered", "'records'"],
    ),
    "a name that is not defined": ("x = 1\ny = z\n", "y = z", ["cannot be imported: NameError", "'z'", "({place})"]),
    "a package that is not there": (
        "import no_such_package\n",
        "import",
        ["cannot be imported: ModuleNotFoundError", "no_such_package", "({place})"],
    ),
    "code that is none": ("x = 1\ny = = 2\n", "y = =", ["cannot be imported: SyntaxError", "({place})"]),
    "a hook that raises": (
        HEAD + "@hookimpl\ndef fcit_metrics():\n    return None + 1\n",
        "None + 1",
        ["The hook `fcit_metrics`", "failed: TypeError", "({place})"],
    ),
    "a hook that returns a list": (
        HEAD + "@hookimpl\ndef fcit_metrics():\n    return ['a']\n",
        "['a']",
        ["The hook `fcit_metrics`", "returned ['a']; it returns parts by name"],
    ),
    "a hook that returns nothing": (
        HEAD + "@hookimpl\ndef fcit_metrics():\n    pass\n",
        "pass",
        ["The hook `fcit_metrics`", "returned None"],
    ),
    "a part that is a number": (
        HEAD + "@hookimpl\ndef fcit_metrics():\n    return {'a': 3}\n",
        "3}",
        ["'a', which", "among the metrics, is 3; register a class"],
    ),
    "a part that is somewhere": (
        HEAD + "from fcit_plugin.parts import Part\n@hookimpl\ndef fcit_methods():\n    return {'a': Part('somewhere')}\n",
        "somewhere",
        ["'a', which", "among the methods, is 'somewhere'; register a class"],
    ),
    "a server rule that is no server rule": (
        HEAD + "from fcit_plugin.parts import Part\n@hookimpl\ndef fcit_server_rules():\n    return {'a': Part(int)}\n",
        "int",
        ["'a', which", "among the server rules, is a Part; make it a ServerRule"],
    ),
    "refusals without reasons": (
        method(refuses='["fp16"]'),
        '["fp16"]',
        ["'Stranger', which", "is there with ['fp16'] as `cannot_go_with`; give a reason for each key"],
    ),
    "a refusal whose reason is no text": (
        method(refuses='{"fp16": True}'),
        "True",
        ["with {{'fp16': True}} as `cannot_go_with`"],
    ),
    "a refusal that a class has": (
        HEAD + "class A:\n    cannot_go_with = 'fp16'\n@hookimpl\ndef fcit_methods():\n    return {'a': A}\n",
        "'fp16'",
        ["'a', which", "is there with 'fp16' as `cannot_go_with`"],
    ),
    "a number of replies that is no function": (
        HEAD
        + "from fcit_plugin.parts import ServerRule\n@hookimpl\n"
        + "def fcit_server_rules():\n    return {'a': ServerRule(int, robust_from=3)}\n",
        "robust_from=3",
        ["'a', which", "is there with 3 as `robust_from`; give a function of its options"],
    ),
    "a name of ours": (
        HEAD + "@hookimpl\ndef fcit_server_rules():\n    return {'fedavg': int}\n",
        "fedavg",
        ["fcit-plugin", "both register 'fedavg' among the server rules"],
    ),
    "a key without the prefix": (method(key="own"), "own:", ["registers the key `own`; keys of the plugin begin with `fcit_`"]),
    "a key of ours": (
        method(key="fcit_beta"),
        "fcit_beta",
        ["registers the key `fcit_beta`, which is one of the plugin's own"],
    ),
    "a key of a part of ours, of another type": (
        method(key="fcit_ewc_lambda", type="str", default="'a'"),
        "fcit_ewc_lambda",
        ["registers the key `fcit_ewc_lambda` for 'Stranger', which is already one of ewc and of another kind"],
    ),
    "a key without a default": (
        method()
        .replace('option(1.5, "A key of its own.")', "field()")
        .replace("import dataclass\n", "import dataclass, field\n"),
        "field()",
        ["registers the key `fcit_own` without a default"],
    ),
    "options that are no dataclass": (
        method().replace("@dataclass\n", ""),
        "class Own",
        ["The options of 'Stranger', which", "they are a dataclass, with `Options` as its base"],
    ),
    "options without their base": (
        method().replace("(Options)", ""),
        "class Own",
        ["The options of 'Stranger', which", "they are a dataclass, with `Options` as its base"],
    ),
    "options that forget to be a dataclass again": (
        method().replace("Own, {", "More, {") + "class More(Own):\n    fcit_more: int = 3\n",
        "fcit_more",
        ["have `fcit_more`, which is no field; put `@dataclass` before More"],
    ),
    "a type that is not there": (
        "from __future__ import annotations\n" + method(type="Nothing"),
        "Nothing",
        ["have a type that cannot be read: NameError", "'Nothing'"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_said_which_package_and_where(install, fault):
    code, text, words = FAULTS[fault]
    place = line_of(install("somebody", code) / "__init__.py", text)
    sentence = said()
    assert "somebody 1.0" in sentence
    for word in words:
        assert word.format(place=place) in sentence


def test_a_module_that_an_entry_point_names_and_that_is_not_there(install):
    install("somebody", "", entry="somebody.hooks")
    assert "The plugin `somebody` of somebody 1.0 cannot be imported: ModuleNotFoundError" in said()


def test_two_plugins_of_one_name(install):
    install("somebody", HEAD, plugin="extra")
    install("another", HEAD, plugin="extra")
    assert re.search(r"Two packages name a plugin `extra`: (somebody|another) 1.0 and (somebody|another) 1.0;", said())


def test_two_plugins_that_register_one_name(install):
    for name in ("another", "somebody"):
        install(name, HEAD + "@hookimpl\ndef fcit_metrics():\n    return {'a': int}\n")
    assert said() == "another 1.0 and somebody 1.0 both register 'a' among the metrics; uninstall one of them."


def test_two_plugins_with_one_key_of_different_types(install):
    install("another", method(name="Another"))
    install("somebody", method(type="int", default="1"))
    assert said().startswith("somebody 1.0 registers the key `fcit_own` for 'Stranger', which is already one of Another")


def test_two_plugins_with_one_key_that_is_the_same_share_it(install):
    install("another", method(name="Another", default="2.5"))
    install("somebody", method())
    assert part_keys()["fcit_own"].owners == {"Another": 2.5, "Stranger": 1.5}


def test_annotations_may_be_text(install):
    install("somebody", "from __future__ import annotations\n" + method(type="float | None"))
    assert FcitArguments.joined().__dataclass_fields__["fcit_own"].type == float | None


def test_hookspecs_may_be_imported_whole(install):
    install("somebody", "from fcit_plugin.hookspecs import *\n")
    assert plugins.manager().has_plugin("somebody")


def registered(kind, make, ahead=""):
    """Code of a package with one part of a kind."""
    part = f"ServerRule({make})" if kind == "server_rules" else f"Part({make})"
    hook = f"@hookimpl\ndef fcit_{kind}():\n    return {{'a': {part}}}\n"
    return f"{HEAD}from fcit_plugin.parts import Part, ServerRule\n{ahead}\n{hook}"


OTHER = "'collections:OrderedDict'"
METHOD = "from fcit_plugin.continual.method import ContinualMethod as Base\nclass A(Base):\n    activation = {}\n"
#: What is registered under a fitting hook and is no part of its kind: the kind, the part, code before it, what is said.
UNFIT = {
    "another class": ("methods", OTHER, "", "which has not the base ContinualMethod; derive it from fcit_plugin"),
    "a function that makes a method": ("methods", "lambda args: None", "", "has not the base ContinualMethod"),
    "what is no class": ("methods", "'string:digits'", "", "is '0123456789'; register a class or a function"),
    "an activation that there is not": (
        "methods",
        "A",
        METHOD.format("'sum'"),
        "has 'sum' as its `activation`; that is one of",
    ),
    "an activation that is no text": ("methods", "A", METHOD.format("3"), "has 3 as its `activation`; that is one of"),
    "another class of aggregations": ("lora_aggregations", OTHER, "", "has not the base LoraAggregation"),
    "what makes another aggregation": ("lora_aggregations", "lambda: 3", "", "is 3, which has not the base LoraAggregation"),
    "a rule that makes no strategy": ("server_rules", "lambda args: 3", "", "made 3, which is no flwr"),
    "an encoder without encode": ("identity_encoders", "lambda *args: 3", "", "made 3, which has no `encode`"),
    "a partition that is a number": ("partitioners", "lambda *args: 3", "", "returned 3; it returns one array"),
    "a partition of texts": ("partitioners", "lambda *args: ['a', 'b', 'c']", "", "returned ['a', 'b', 'c']; it returns one"),
    "a metric that is no function": ("metrics", "'string:digits'", "", "is '0123456789'; register a class or a function"),
}


@pytest.mark.parametrize("fault", UNFIT)
def test_what_is_no_part_of_its_kind_is_refused_by_the_dry_run(install, text_recipe, fault):
    kind, make, ahead, words = UNFIT[fault]
    install("somebody", registered(kind, make, ahead))
    choice = KINDS[kind][0]
    use = partial(get_metric, "a")  # which a dataset names
    if choice is not None:
        use = partial(run_recipe, text_recipe(fcit_dry_run=True, **{choice: "a"}))
    with pytest.raises(FcitError) as caught:
        use()
    assert words in str(caught.value)
    assert "somebody 1.0" in str(caught.value)


@pytest.mark.parametrize("activation", [None, "argmax", "concat"])
def test_a_method_of_somebodys_own_is_accepted(install, activation):
    install("somebody", registered("methods", "A", METHOD.format(repr(activation))))
    args = FcitArguments(fcit_setting="custom", fcit_stages=[["a"]], fcit_method="a")
    assert args.fcit_activation == (activation or "softmax")
