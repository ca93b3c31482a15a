"""What the tab refuses by itself, in the board's five languages; what is wrong with a recipe's keys is said as in the log."""

from collections.abc import Mapping
from typing import Any

from ..errors import FcitError
from .texts import LANGUAGES

#: The sentences; the words in braces are filled in.
REFUSALS: Mapping[str, tuple[str, str, str, str, str]] = {
    "no_stages": (
        "No stages are named; choose datasets and press Add stage, or type their names (`fcit_stages`).",
        "Этапы не указаны: выберите наборы данных и нажмите «Добавить этап» либо впишите их имена (`fcit_stages`).",
        "尚未指定阶段：请选择数据集并点击“添加阶段”，或直接填写其名称（`fcit_stages`）。",
        "단계가 지정되지 않았습니다. 데이터셋을 고르고 '단계 추가'를 누르거나 이름을 직접 입력하십시오(`fcit_stages`).",
        "ステージが指定されていません。データセットを選んで「ステージを追加」を押すか、名前を入力してください（`fcit_stages`）。",
    ),
    "no_json": (
        'Further keys are no JSON ({error}); write them as {{"key": value}}.',
        'В поле «Другие ключи» не JSON ({error}); пишите так: {{"key": value}}.',
        '“其他参数”不是 JSON（{error}），请写成 {{"key": value}}。',
        "'추가 키'가 JSON이 아닙니다({error}). {{\"key\": value}} 형식으로 입력하십시오.",
        '「その他のキー」が JSON ではありません（{error}）。{{"key": value}} の形で入力してください。',
    ),
    "no_object": (
        'Further keys are JSON, but no object; write them as {{"key": value}}.',
        'В поле «Другие ключи» JSON, но не объект; пишите так: {{"key": value}}.',
        '“其他参数”是 JSON，但不是对象，请写成 {{"key": value}}。',
        "'추가 키'가 JSON이지만 객체가 아닙니다. {{\"key\": value}} 형식으로 입력하십시오.",
        '「その他のキー」は JSON ですがオブジェクトではありません。{{"key": value}} の形で入力してください。',
    ),
    "no_program": (
        "The command {program} is not installed; install LLaMA-Factory into this environment.",
        "Команда {program} не установлена; установите LLaMA-Factory в это окружение.",
        "未安装命令 {program}，请在此环境中安装 LLaMA-Factory。",
        "명령 {program}이(가) 설치되어 있지 않습니다. 이 환경에 LLaMA-Factory를 설치하십시오.",
        "コマンド {program} がインストールされていません。この環境に LLaMA-Factory をインストールしてください。",
    ),
    "at_work": (
        "The run in {folder} is at work; press Abort first, or wait for its end.",
        "Запуск в {folder} ещё идёт; сначала нажмите «Прервать» или дождитесь его конца.",
        "{folder} 中的运行尚未结束，请先点击“中断”，或等待其结束。",
        "{folder}의 실행이 진행 중입니다. 먼저 '중단'을 누르거나 끝날 때까지 기다리십시오.",
        "{folder} の実行がまだ続いています。先に「中断」を押すか、終了を待ってください。",
    ),
    "no_report": (
        "There is no report in {folder} yet; a run leaves it at its end.",
        "В {folder} ещё нет отчёта; он появляется в конце запуска.",
        "{folder} 中尚无报告；报告在运行结束时生成。",
        "{folder}에 아직 보고서가 없습니다. 실행이 끝나면 생성됩니다.",
        "{folder} にはまだレポートがありません。実行の終了時に作成されます。",
    ),
    "no_run": (
        "There is no finished run in {folder}; start one, or name the output folder of another.",
        "В {folder} нет завершённого запуска; запустите его или укажите выходной каталог другого.",
        "{folder} 中没有已完成的运行；请先启动运行，或填写其他运行的输出目录。",
        "{folder}에 완료된 실행이 없습니다. 실행을 시작하거나 다른 실행의 출력 디렉토리를 입력하십시오.",
        "{folder} に完了した実行がありません。実行を開始するか、別の実行の出力ディレクトリを入力してください。",
    ),
    "no_stage_key": (
        "The recipe {path} names no `stage`, and this tab loads those of `stage: fcit`.",
        "В рецепте {path} не указан `stage`, а эта вкладка загружает рецепты с `stage: fcit`.",
        "配方 {path} 没有指定 `stage`，而本标签页只加载 `stage: fcit` 的配方。",
        "레시피 {path}에 `stage`가 없습니다. 이 탭은 `stage: fcit` 레시피를 불러옵니다.",
        "レシピ {path} には `stage` がありません。このタブは `stage: fcit` のレシピを読み込みます。",
    ),
    "other_fcit_stage": (
        "The recipe {path} is one of `stage: {stage}`, and this tab loads those of `stage: fcit`.",
        "В рецепте {path} указано `stage: {stage}`, а эта вкладка загружает рецепты с `stage: fcit`.",
        "配方 {path} 是 `stage: {stage}` 的配方，而本标签页只加载 `stage: fcit` 的配方。",
        "레시피 {path}은(는) `stage: {stage}` 레시피입니다. 이 탭은 `stage: fcit` 레시피를 불러옵니다.",
        "レシピ {path} は `stage: {stage}` のものです。このタブは `stage: fcit` のレシピを読み込みます。",
    ),
    "other_stage": (
        "The recipe {path} is one of `stage: {stage}`, and this tab loads those of `stage: fcit`; "
        "`fcit-cli init --from {path}` makes one of it.",
        "В рецепте {path} указано `stage: {stage}`, а эта вкладка загружает рецепты с `stage: fcit`; "
        "`fcit-cli init --from {path}` сделает из него такой.",
        "配方 {path} 是 `stage: {stage}` 的配方，而本标签页只加载 `stage: fcit` 的配方；"
        "可用 `fcit-cli init --from {path}` 转换。",
        "레시피 {path}은(는) `stage: {stage}` 레시피입니다. 이 탭은 `stage: fcit` 레시피를 불러옵니다. "
        "`fcit-cli init --from {path}`로 이 레시피를 변환할 수 있습니다.",
        "レシピ {path} は `stage: {stage}` のものです。このタブは `stage: fcit` のレシピを読み込みます。"
        "`fcit-cli init --from {path}` で変換できます。",
    ),
    "no_recipe_named": (
        "No recipe is named; choose one, or type the name of a file or of a run's output folder.",
        "Рецепт не указан; выберите его или впишите имя файла либо выходной каталог запуска.",
        "尚未指定配方：请选择一个，或填写文件名或某次运行的输出目录。",
        "레시피가 지정되지 않았습니다. 하나를 고르거나 파일 이름 또는 실행의 출력 디렉토리를 입력하십시오.",
        "レシピが指定されていません。選択するか、ファイル名または実行の出力ディレクトリを入力してください。",
    ),
    "no_recipe_kept": (
        "{folder} holds no {file}, which a run leaves at its end if it was started from a file; name the recipe's own file.",
        "В {folder} нет {file}, который остаётся в конце запуска, начатого из файла; укажите сам файл рецепта.",
        "{folder} 中没有 {file}（从文件启动的运行结束时会留下它），请填写配方文件本身。",
        "{folder}에 {file}이(가) 없습니다(파일로 시작한 실행이 끝날 때 남깁니다). 레시피 파일 자체를 입력하십시오.",
        "{folder} に {file} がありません（ファイルから始めた実行が終了時に残します）。レシピのファイル自体を入力してください。",
    ),
    "misspelt_recipe": (
        "There is no recipe {name!r}, nor a file of that name; the nearest one is `{near}`.",
        "Нет ни рецепта {name!r}, ни файла с таким именем; ближайший по имени: `{near}`.",
        "没有配方 {name!r}，也没有该名称的文件；名称最接近的是 `{near}`。",
        "레시피 {name!r}도, 그런 이름의 파일도 없습니다. 이름이 가장 비슷한 것은 `{near}`입니다.",
        "レシピ {name!r} も、その名前のファイルもありません。最も近い名前は `{near}` です。",
    ),
    "no_such_recipe": (
        "There is no recipe {name!r}, nor a file of that name. Valid: {valid}.",
        "Нет ни рецепта {name!r}, ни файла с таким именем. Есть такие: {valid}.",
        "没有配方 {name!r}，也没有该名称的文件。可用的有：{valid}。",
        "레시피 {name!r}도, 그런 이름의 파일도 없습니다. 사용할 수 있는 레시피: {valid}.",
        "レシピ {name!r} も、その名前のファイルもありません。使えるもの：{valid}。",
    ),
}


class Refusal(FcitError):
    """A sentence of the tab's own; as a text it is English.

    Args:
        name: One of :data:`REFUSALS`.
        words: What is filled in.
    """

    def __init__(self, name: str, /, **words: Any) -> None:
        super().__init__(REFUSALS[name][0].format(**words))
        self._name, self._words = name, words

    def in_language(self, lang: str) -> str:
        """The sentence in one of the board's languages."""
        return REFUSALS[self._name][LANGUAGES.index(lang)].format(**self._words)


def in_language(error: BaseException, lang: str) -> str:
    """What to show of an error: in the board's language where it is the tab's own, else as it is."""
    return error.in_language(lang) if isinstance(error, Refusal) else str(error)
