"""Tools, and calls of them, that LLaMA-Factory cannot read are a record's fault, also where all records have them."""

import json

import pytest
from datasets import Dataset
from llamafactory.data.template import TEMPLATES

from fcit_plugin.data.catalogue import Catalogue
from fcit_plugin.data.diagnosis import diagnosed_rows
from fcit_plugin.errors import FcitError

TOOL = {"name": "more", "description": "Which is more.", "parameters": {"properties": {}}}
BROKEN = {
    "no JSON": "no json",
    "no properties": json.dumps([{**TOOL, "parameters": {}}]),
    "no name": json.dumps([{"description": "", "parameters": {"properties": {}}}]),
    "a number": "5",
}


@pytest.mark.parametrize("all_alike", [True, False])
@pytest.mark.parametrize("template", ["default", "qwen", "llama3", "mistral"])
@pytest.mark.parametrize("tools", BROKEN)
def test_broken_tools_are_a_records_fault(tools, template, all_alike, tmp_path):
    good = "" if all_alike else json.dumps([TOOL])
    texts = [BROKEN[tools]] * 3 if all_alike else [good, BROKEN[tools], good]
    (tmp_path / "a.json").write_text(json.dumps([{"tools": text} for text in texts]))
    (tmp_path / "dataset_info.json").write_text(json.dumps({"a": {"file_name": "a.json"}}))
    rows = Dataset.from_list([{"_images": None, "_tools": text} for text in texts])

    def read(row):
        TEMPLATES[template].format_tools.apply(content=row["_tools"])

    try:
        read(rows[texts.index(BROKEN[tools])])
    except Exception:
        pass
    else:
        pytest.skip("this template takes them")

    def read_all():
        with diagnosed_rows("a", Catalogue(str(tmp_path)), rows, range(3), read):
            list(map(read, rows))

    with pytest.raises(FcitError, match=rf"a\.json, record {0 if all_alike else 1}: LLaMA-Factory cannot take its tools"):
        read_all()
