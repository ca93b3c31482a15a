"""Whatever comes from outside is opened and parsed in ``fcit_plugin/files.py``, and nowhere else."""

import ast

from runs import ROOT

PACKAGE = ROOT / "fcit_plugin"
#: Calls that read a file or parse what one holds, by the last part of their name.
READING = {
    *("open", "fdopen", "read_text", "read_bytes", "safe_open", "load_file", "from_pretrained", "load_dataset", "read_table"),
    *("loads", "safe_load", "unsafe_load", "full_load", "load_all", "ZipFile", "urlopen", "decompress", "fromfile", "memmap"),
    *(
        "read_csv",
        "DictReader",
        "ParquetFile",
        "Unpickler",
        "snapshot_download",
        "hf_hub_download",
        "parse_file",
        "load_checkpoint",
    ),
}
#: And those whose last part means other things, too.
WHOLE = {f"{module}.load" for module in ("json", "yaml", "torch", "np", "numpy", "pickle", "OmegaConf", "marshal")} | {
    "csv.reader"
}
#: Those elsewhere, and why they are no way in.
ELSEWHERE = {
    ("compare/cell_state.py", "yaml.safe_load"): "of a text from files.read_text",
    ("recipe/flags.py", "yaml.safe_load"): "of a flag on the user's own command line",
    ("recipe/read.py", "OmegaConf.load"): "of a text from files.read_text",
    ("deployment/mappings.py", "yaml.load"): "of a text from files.read_text, to text alone",
    ("compare/runner.py", "open"): "appends to a log",
    ("board/run.py", "open"): "writes what a process says",
    ("errors.py", "open"): "writes to nowhere",
    ("federation/site_executor.py", "self._log.open"): "appends to a log, and looks at what was appended",
    ("samples/deployed.py", "open"): "appends to a log",
    ("data/answers.py", "json.loads"): "of the model's answer, which stays text where it is no JSON",
    ("data/pipeline.py", "json.loads"): "of what the converter has dumped",
    ("engine/fingerprint.py", "json.loads"): "of what was dumped in the same line",
    ("data/image_faults.py", "Image.open"): "LLaMA-Factory opens the same image",
    ("data/raw_records.py", "load_dataset"): "the user's data, which LLaMA-Factory reads by the same call",
    ("engine/pool.py", "json.loads"): "of torchrun's store, which its processes write",
    ("engine/pool.py", "pickle.loads"): "of a process of the same run, which has proved with a secret that it is one",
    ("evaluation/card.py", "yaml.safe_load"): "of a word that it has itself, to see how YAML takes it",
    ("state/secret_files.py", "os.fdopen"): "writes",
    ("tensor_files.py", "safe_open"): "what files.check_regular has let pass, by safetensors' own reader",
    ("fcit_benchmark/images.py", "Image.open"): "of what files.opened has opened, in named formats",
    ("fcit_benchmark/hub.py", "snapshot_download"): "the dataset of one name; its files are opened by files.opened",
    ("fcit_benchmark/hub.py", "zipfile.ZipFile"): "an archive of that dataset",
    ("fcit_benchmark/hub.py", "archive.open"): "a file in it",
    ("knowledge/embedding.py", "read_text"): "a file of the package itself",
    ("knowledge/public_lists.py", "read_text"): "files of the package itself",
    ("knowledge/encoders.py", "AutoConfig.from_pretrained"): "a model that the user names, or trusts by name",
    ("knowledge/encoders.py", "AutoTokenizer.from_pretrained"): "the same",
    ("knowledge/encoders.py", "from_pretrained"): "the same",
    (
        "serving/export_adapters.py",
        "AutoConfig.from_pretrained",
    ): "the base model: named by the user, or signed by a run of his",
    ("samples/real/data.py", "Image.open"): "of bytes from files.read_bytes",
    ("samples/real/emoji.py", "Image.open"): "of bytes whose sum was compared, or from files.read_bytes",
    ("samples/real/emoji.py", "urllib.request.urlopen"): "a package whose sum is compared",
    ("samples/real/emoji.py", "tarfile.open"): "of these bytes, in memory",
    ("samples/real/fashion.py", "gzip.decompress"): "of bytes from files.read_bytes",
    ("samples/real/smollm2.py", "AutoModelForCausalLM.from_pretrained"): "of an installed package",
    ("samples/real/smollm2.py", "AutoTokenizer.from_pretrained"): "of an installed package",
    ("samples/text.py", "AutoTokenizer.from_pretrained"): "the model that comes with the package",
    ("samples/text.py", "LlavaForConditionalGeneration.from_pretrained"): "the model that comes with the package",
}


def dotted(function: ast.expr) -> str:
    """The name of what is called, as far as it is one."""
    if isinstance(function, ast.Attribute):
        before = dotted(function.value)
        return f"{before}.{function.attr}" if before else function.attr
    return function.id if isinstance(function, ast.Name) else ""


def readers(text: str) -> set[str]:
    """The calls in a module that read, but those of ``files``."""
    tree = ast.parse(text)
    ours = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "files"
        for alias in node.names
    }
    calls = {dotted(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    calls |= {dotted(node.args[0]) for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args}  # of partial(open)
    return {name for name in calls - ours if name.rpartition(".")[2] in READING or name in WHOLE}


def test_nothing_is_read_but_by_files():
    found = {
        (path.relative_to(PACKAGE).as_posix(), call)
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "files.py" and path.parent != PACKAGE / "gpu_check"  # which reads what its own runs leave
        for call in readers(path.read_text(encoding="utf-8"))
    }
    assert found == set(ELSEWHERE)


def test_the_search_finds_what_reads():
    assert readers("import json\nfrom pathlib import Path\nPath('x').read_text()\njson.load(open('x'))") == {
        "read_text",
        "json.load",
        "open",
    }
    assert readers("from ..files import read_text\nread_text(path)") == set()
