"""Writes docs/reference/llamafactory-keys.md, what becomes of LLaMA-Factory's keys.

``python tools/llamafactory_keys_page.py``
"""

from pathlib import Path

from fcit_plugin.recipe.theirs import LEARNED, NO_EFFECT, REFUSED, SAME, TABLE, WORKS, Row

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "llamafactory-keys.md"
HEAD = f"""# LLaMA-Factory's keys

What becomes of each key of LLaMA-Factory 0.9.5 and transformers' `TrainingArguments` in the fcit stages. This page is
written by `python tools/llamafactory_keys_page.py` from the table that recipes are checked with
(`fcit_plugin/recipe/theirs`); a field without a row fails a test.

- **{WORKS}**: as in LLaMA-Factory's LoRA tuning, for each client's training or for the run. Where no test is named,
  `{LEARNED.partition("::")[2]}` (`{LEARNED.partition("::")[0]}`) shows that one client learns
  bit for bit what LLaMA-Factory learns by itself, with the value in the table.
- **{REFUSED}**: where it is not at its default the recipe is refused, with what stands in the table; all reasons come in
  one message.
- **{NO_EFFECT}**: no bit of what is learned and reported changes (`{SAME.partition("::")[2]}`, with the value
  in the table); the run says so in one line. That line has also the keys that work beside another one alone, where that one
  is missing, and those of the whole loop in a recipe of one site.
"""
COLUMNS = "| key | | |\n|---|---|---|"


def render() -> str:
    """The page."""
    counts = {
        status: sum(row.status == status for rows in TABLE.values() for row in rows.values())
        for status in (WORKS, REFUSED, NO_EFFECT)
    }
    parts = [HEAD, f"{sum(counts.values())} keys: {', '.join(f'{count} {status}' for status, count in counts.items())}.\n"]
    for title, rows in TABLE.items():
        lines = "\n".join(_line(name, row) for name, row in sorted(rows.items()))
        parts.append(f"## `{title}`\n\n{COLUMNS}\n{lines}\n")
    return "\n".join(parts)


def _line(name: str, row: Row) -> str:
    said = [row.words]
    if row.test in (LEARNED, SAME):
        shown = ", ".join(f"`{key}: {_text(value)}`" for key, value in {name: row.value, **row.beside}.items())
        said.append(f"tried with {shown}")
    elif row.status == WORKS:
        said.append(f"`{row.test.removeprefix('tests/')}`")
    return f"| `{name}` | {row.status} | {'; '.join(part for part in said if part)} |"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).replace("{tmp}", "...")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
