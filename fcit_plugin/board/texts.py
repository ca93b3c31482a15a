"""What the tab says, in the board's five languages; a key of another package keeps the help that it was declared with."""

from collections.abc import Mapping
from typing import Any

from .key_texts import KEY_INFOS
from .widgets import Widget

#: Of LLaMA Board.
LANGUAGES = ("en", "ru", "zh", "ko", "ja")

_Five = tuple[str, str, str, str, str]

#: Labels of widgets, by the key that they fill in or by their own name.
LABELS: Mapping[str, _Five] = {
    "fcit_recipe": ("Recipe", "Рецепт", "配方", "레시피", "レシピ"),
    "fcit_setting": ("Setting", "Сценарий", "设置", "설정", "設定"),
    "fcit_pick": (
        "Datasets of the next stage",
        "Наборы данных следующего этапа",
        "下一阶段的数据集",
        "다음 단계의 데이터셋",
        "次の段階のデータセット",
    ),
    "fcit_stages": ("Stages", "Этапы", "阶段", "단계", "段階"),
    "fcit_test": ("Test records", "Тестовые записи", "测试记录", "테스트 레코드", "テスト用レコード"),
    "fcit_num_clients": ("Clients", "Клиенты", "客户端数", "클라이언트 수", "クライアント数"),
    "fcit_clients_per_round": (
        "Clients in a round",
        "Клиентов в раунде",
        "每轮客户端数",
        "라운드당 클라이언트 수",
        "1ラウンドのクライアント数",
    ),
    "fcit_num_rounds": (
        "Rounds of a stage",
        "Раундов в этапе",
        "每阶段轮数",
        "단계당 라운드 수",
        "1段階のラウンド数",
    ),
    "fcit_partition": ("Partition", "Разбиение", "数据划分", "데이터 분할", "データの分割"),
    "fcit_beta": ("Concentration", "Концентрация", "集中度", "집중도", "集中度"),
    "fcit_partition_column": (
        "Column of the client",
        "Столбец клиента",
        "客户端所在列",
        "클라이언트 열",
        "クライアントの列",
    ),
    "fcit_min_client_samples": (
        "Fewest records of a client",
        "Минимум записей у клиента",
        "客户端最少记录数",
        "클라이언트의 최소 레코드 수",
        "クライアントの最少レコード数",
    ),
    "fcit_method": ("Method", "Метод", "方法", "방법", "手法"),
    "fcit_server_rule": ("Server rule", "Правило сервера", "服务器规则", "서버 규칙", "サーバーの規則"),
    "fcit_lora_aggregation": (
        "LoRA aggregation",
        "Агрегация LoRA",
        "LoRA 聚合",
        "LoRA 집계",
        "LoRAの集約",
    ),
    "fcit_engine": ("Engine", "Движок", "引擎", "엔진", "エンジン"),
    "fcit_clients_per_device": (
        "Clients on a device",
        "Клиентов на устройстве",
        "每设备客户端数",
        "장치당 클라이언트 수",
        "1デバイスのクライアント数",
    ),
    "fcit_eval_samples": (
        "Test records at most",
        "Тестовых записей набора",
        "每数据集测试记录数",
        "데이터셋당 테스트 레코드 수",
        "データセットごとのテスト数",
    ),
    "fcit_extra_args": ("Further keys", "Другие ключи", "其他参数", "추가 키", "その他のキー"),
    "fcit_command": ("Command", "Команда", "命令", "명령", "コマンド"),
    "fcit_report_tab": ("Report", "Отчёт", "报告", "보고서", "レポート"),
    "fcit_subspace": ("Who answers", "Кто отвечает", "由谁回答", "누가 답하는지", "誰が答えるか"),
    "fcit_chat_tab": ("Chat", "Чат", "聊天", "채팅", "チャット"),
}

#: What stands above a table and a picture.
TITLES: Mapping[str, _Five] = {
    "matrix": (
        "Score of each dataset after each stage",
        "Оценка каждого набора после каждого этапа",
        "每阶段后各数据集的得分",
        "각 단계 후 데이터셋별 점수",
        "各段階後のデータセット別スコア",
    ),
    "losses": ("Loss", "Потери", "损失", "손실", "損失"),
}

#: What buttons say.
BUTTONS: Mapping[str, _Five] = {
    "fcit_recipe_btn": ("Load recipe", "Загрузить рецепт", "加载配方", "레시피 불러오기", "レシピを読み込む"),
    "fcit_add_btn": ("Add stage", "Добавить этап", "添加阶段", "단계 추가", "段階を追加"),
    "fcit_report_btn": ("Open report", "Открыть отчёт", "打开报告", "보고서 열기", "レポートを開く"),
    "fcit_load_btn": (
        "Chat with this run",
        "Чат с этим запуском",
        "与此运行结果聊天",
        "이 실행과 채팅",
        "この実行とチャット",
    ),
}

#: The same for what is no key.
INFOS: Mapping[str, _Five] = {
    "fcit_recipe": (
        "One of the plugin's own, a file, or the output folder of a run; it fills in this tab, the tab Train and the model.",
        "Один из рецептов плагина, файл или папка результатов запуска; заполняет эту вкладку, вкладку Train и модель.",
        "插件自带的配方、文件，或某次运行的输出文件夹；用于填写本页、训练页和模型。",
        "플러그인의 레시피, 파일 또는 실행의 출력 폴더. 이 탭, 학습 탭, 모델을 채웁니다.",
        "付属のレシピ、ファイル、または実行の出力フォルダー。このタブ、学習タブ、モデルに入力されます。",
    ),
    "fcit_subspace": (
        "One subspace alone, or routed: each message activates its own.",
        "Одно подпространство или по маршруту: каждое сообщение выбирает свои.",
        "仅由一个子空间回答，或自动路由：每条消息激活各自的子空间。",
        "한 부분공간만 답하거나, 라우팅: 메시지마다 알맞은 부분공간을 씁니다.",
        "1つの部分空間だけ、またはルーティング：メッセージごとに選ばれます。",
    ),
    "fcit_pick": (
        "Those in one stage arrive together.",
        "Наборы одного этапа поступают вместе.",
        "同一阶段的数据集同时到达。",
        "한 단계의 데이터셋은 함께 도착합니다.",
        "同じ段階のデータセットは同時に届きます。",
    ),
    "fcit_stages": (
        "What arrives when: blanks between stages, commas between datasets of one stage.",
        "Что и когда поступает: пробелы между этапами, запятые между наборами одного этапа.",
        "何时到达什么：阶段之间用空格，同一阶段的数据集用逗号分隔。",
        "도착 순서: 단계는 공백으로, 같은 단계의 데이터셋은 쉼표로 구분합니다.",
        "届く順番：段階は空白、同じ段階のデータセットはコンマで区切ります。",
    ),
    "fcit_test": (
        "Part (0.1) or number (100) of the records of a dataset that has no test records of its own (val_size).",
        "Доля (0.1) или число (100) записей набора без собственных тестовых записей (val_size).",
        "没有测试集的数据集中留作测试的比例（0.1）或条数（100）（val_size）。",
        "테스트 레코드가 없는 데이터셋에서 떼어 둘 비율(0.1) 또는 개수(100) (val_size).",
        "テスト用レコードのないデータセットから取り分ける割合（0.1）または件数（100）（val_size）。",
    ),
    "fcit_extra_args": (
        "Any other key of a recipe, as JSON; null takes one out.",
        "Любые другие ключи рецепта в формате JSON; null убирает ключ.",
        "配方的任何其他参数，JSON 格式；null 表示去掉该参数。",
        "레시피의 다른 모든 키(JSON); null은 키를 뺍니다.",
        "レシピのその他のキー（JSON）。null はキーを外します。",
    ),
}

#: What stands at the top, and what is said of a run; the words in braces are filled in.
SENTENCES: Mapping[str, _Five] = {
    "fcit_intro": (
        "Federated continual instruction tuning. The model is chosen above; how a client trains in a round (learning rate, "
        "epochs, batch, LoRA) is what the tab Train says.",
        "Федеративное непрерывное дообучение по инструкциям. Модель выбирается выше; как клиент обучается в раунде (скорость "
        "обучения, эпохи, батч, LoRA), задаёт вкладка Train.",
        "联邦持续指令微调。模型在上方选择；客户端每轮如何训练（学习率、轮次、批大小、LoRA）由 Train 标签页决定。",
        "연합 연속 지시 튜닝. 모델은 위에서 선택하고, 라운드에서 클라이언트를 학습하는 방법(학습률, 에포크, 배치, LoRA)은 "
        "Train 탭을 따릅니다.",
        "連合継続指示チューニング。モデルは上で選びます。ラウンドでの学習方法（学習率、エポック、バッチ、LoRA）は Train "
        "タブの値です。",
    ),
    "nothing": ("No run yet.", "Запуска ещё нет.", "尚无运行。", "아직 실행이 없습니다.", "まだ実行がありません。"),
    "loading": (
        "The run is loading.",
        "Запуск загружается.",
        "运行正在加载。",
        "실행을 불러오는 중입니다.",
        "実行を読み込んでいます。",
    ),
    "training": (
        "Stage {stage} of {stages}, round {round}, client {client}: step {step} of {steps}, {elapsed} < {remaining}.",
        "Этап {stage} из {stages}, раунд {round}, клиент {client}: шаг {step} из {steps}, {elapsed} < {remaining}.",
        "阶段 {stage}/{stages}，轮 {round}，客户端 {client}：步 {step}/{steps}，{elapsed} < {remaining}。",
        "단계 {stage}/{stages}, 라운드 {round}, 클라이언트 {client}: 스텝 {step}/{steps}, {elapsed} < {remaining}.",
        "段階 {stage}/{stages}、ラウンド {round}、クライアント {client}：ステップ {step}/{steps}、{elapsed} < {remaining}。",
    ),
    "stopping": (
        "Stopping after this step; press again to end at once. Started again, the run goes on.",
        "Остановка после этого шага; нажмите ещё раз, чтобы прервать сразу. Повторный старт продолжит запуск.",
        "本步之后停止；再按一次立即结束。重新开始会继续运行。",
        "이 스텝 후 멈춥니다. 다시 누르면 즉시 끝납니다. 다시 시작하면 이어집니다.",
        "このステップの後に停止します。もう一度押すとすぐに終わります。再開すると続きから始まります。",
    ),
    "stopped": (
        "Stopped. Start goes on from here.",
        "Остановлено. Старт продолжит отсюда.",
        "已停止。再次开始将从此处继续。",
        "멈췄습니다. 시작하면 여기서 이어집니다.",
        "停止しました。開始すると続きから始まります。",
    ),
    "finished": ("Finished.", "Завершено.", "已完成。", "완료되었습니다.", "完了しました。"),
    "failed": (
        "The run ended with an error (exit code {code}); the log below says which.",
        "Запуск завершился ошибкой (код {code}); подробности в журнале ниже.",
        "运行出错结束（退出码 {code}），详见下方日志。",
        "실행이 오류로 끝났습니다(종료 코드 {code}). 아래 로그를 보십시오.",
        "実行はエラーで終了しました（終了コード {code}）。下のログを見てください。",
    ),
    "no_report": (
        "There is no report in {folder} yet; a run leaves it at its end.",
        "В {folder} ещё нет отчёта; он появляется в конце запуска.",
        "{folder} 中尚无报告；运行结束时生成。",
        "{folder}에 아직 보고서가 없습니다. 실행이 끝나면 생깁니다.",
        "{folder} にはまだレポートがありません。実行の最後に作られます。",
    ),
    "no_run": (
        "There is no finished run in {folder}.",
        "В {folder} нет завершённого запуска.",
        "{folder} 中没有已完成的运行。",
        "{folder}에 완료된 실행이 없습니다.",
        "{folder} に完了した実行がありません。",
    ),
    "routed": ("routed", "по маршруту", "自动路由", "라우팅", "ルーティング"),
    "loaded": (
        "{name} is loaded.",
        "Рецепт {name} загружен.",
        "已加载 {name}。",
        "{name}을(를) 불러왔습니다.",
        "{name} を読み込みました。",
    ),
    "loaded_further": (
        "Under Further keys, which come before all fields, stands what has no field that can hold it: {words}.",
        "В поле «Другие ключи», которое важнее всех полей, стоит то, для чего нет подходящего поля: {words}.",
        "没有合适输入框的参数列在“其他参数”中，它们优先于所有输入框：{words}。",
        "담을 칸이 없는 키는 모든 칸보다 우선하는 '추가 키'에 있습니다: {words}.",
        "入れる欄のないキーは、すべての欄より優先される「その他のキー」にあります：{words}。",
    ),
    "loaded_gone": (
        "There, too, with null, stands what the recipe does not have and the tab Train would add: {words}.",
        "Там же с null стоит то, чего в рецепте нет, а вкладка Train добавила бы: {words}.",
        "配方中没有、而训练页会加入的参数也列在那里，值为 null：{words}。",
        "레시피에 없지만 학습 탭이 더할 키도 그곳에 null로 있습니다: {words}.",
        "レシピになく学習タブが加えるキーも、そこに null として入っています：{words}。",
    ),
    "loaded_hidden": (
        "The file does not show the values of {words}; put them under Further keys.",
        "Файл не показывает значения {words}; впишите их в «Другие ключи».",
        "文件未显示 {words} 的值，请填入“其他参数”。",
        "파일에 {words}의 값이 나오지 않습니다. '추가 키'에 넣으십시오.",
        "ファイルには {words} の値がありません。「その他のキー」に入れてください。",
    ),
    "loaded_empty": (
        "Left at their defaults, for the recipe gives them no value: {words}.",
        "Оставлены по умолчанию, так как в рецепте нет значения: {words}.",
        "配方未给出值，保持默认：{words}。",
        "레시피에 값이 없어 기본값으로 둔 키: {words}.",
        "レシピに値がないため既定値のままのキー：{words}。",
    ),
    "loaded_behind": (
        "Taken along is what had followed the recipe on the command line: {words}.",
        "Учтено то, что стояло за рецептом в командной строке: {words}.",
        "已包含命令行中跟在配方之后的内容：{words}。",
        "명령줄에서 레시피 뒤에 있던 것도 포함했습니다: {words}.",
        "コマンドラインでレシピの後にあったものも含めました：{words}。",
    ),
}


def say(name: str, lang: str, /, **words: Any) -> str:
    """A sentence.

    Args:
        name: One of :data:`SENTENCES`.
        lang: One of :data:`LANGUAGES`.
        words: What is filled in.
    """
    return SENTENCES[name][LANGUAGES.index(lang)].format(**words)


def title(name: str, lang: str) -> str:
    """What stands above a table or a picture.

    Args:
        name: One of :data:`TITLES`.
        lang: One of :data:`LANGUAGES`.
    """
    return TITLES[name][LANGUAGES.index(lang)]


def locales(widgets: Mapping[str, Widget]) -> dict[str, dict[str, dict[str, str]]]:
    """The texts of all elements in the form of LLaMA Board's own: by name, language and property.

    Args:
        widgets: The tab's, by key.
    """
    found: dict[str, dict[str, dict[str, str]]] = {}
    for name, labels in LABELS.items():
        found[name] = {lang: {"label": label} for lang, label in zip(LANGUAGES, labels, strict=True)}
    for name, values in [*BUTTONS.items(), ("fcit_intro", SENTENCES["fcit_intro"])]:
        found[name] = {lang: {"value": value} for lang, value in zip(LANGUAGES, values, strict=True)}
    for name, infos in INFOS.items():
        for lang, info in zip(LANGUAGES, infos, strict=True):
            found[name][lang]["info"] = info
    for key, widget in widgets.items():
        named = found.setdefault(key, {lang: {"label": key} for lang in LANGUAGES})
        others = KEY_INFOS.get(key, (widget.help,) * 4)
        for lang, info in zip(LANGUAGES, (widget.help, *others), strict=True):
            named[lang]["info"] = info
    return found
