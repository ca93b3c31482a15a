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
    "fcit_setting": ("Setting", "Сценарий", "实验设置", "실험 설정", "実験設定"),
    "fcit_pick": (
        "Datasets of the next stage",
        "Наборы данных следующего этапа",
        "下一阶段的数据集",
        "다음 단계의 데이터셋",
        "次のステージのデータセット",
    ),
    "fcit_stages": ("Stages", "Этапы", "阶段", "단계", "ステージ"),
    "fcit_test": ("Test records", "Тестовые примеры", "测试样本", "테스트 샘플", "テストサンプル"),
    "fcit_num_clients": ("Clients", "Число клиентов", "客户端数", "클라이언트 수", "クライアント数"),
    "fcit_clients_per_round": (
        "Clients in a round",
        "Клиентов в раунде",
        "每轮客户端数",
        "라운드당 클라이언트 수",
        "ラウンドあたりのクライアント数",
    ),
    "fcit_num_rounds": ("Rounds of a stage", "Раундов в этапе", "每阶段轮数", "단계당 라운드 수", "ステージあたりのラウンド数"),
    "fcit_partition": ("Partition", "Разбиение данных", "数据划分", "데이터 분할", "データ分割"),
    "fcit_beta": ("Concentration", "Параметр концентрации", "浓度参数", "집중도", "集中度パラメータ"),
    "fcit_partition_column": (
        "Column of the client",
        "Столбец с клиентом",
        "客户端所在列",
        "클라이언트 열",
        "クライアントの列",
    ),
    "fcit_min_client_samples": (
        "Fewest records of a client",
        "Минимум примеров у клиента",
        "客户端最少样本数",
        "클라이언트별 최소 샘플 수",
        "クライアントの最小サンプル数",
    ),
    "fcit_method": ("Method", "Метод", "方法", "방법", "手法"),
    "fcit_server_rule": ("Server rule", "Правило сервера", "服务器聚合规则", "서버 집계 규칙", "サーバーの集約ルール"),
    "fcit_lora_aggregation": ("LoRA aggregation", "Агрегация LoRA", "LoRA 聚合", "LoRA 집계", "LoRA の集約"),
    "fcit_engine": ("Engine", "Движок", "引擎", "엔진", "エンジン"),
    "fcit_clients_per_device": (
        "Clients on a device",
        "Клиентов на устройстве",
        "每台设备的客户端数",
        "디바이스당 클라이언트 수",
        "デバイスあたりのクライアント数",
    ),
    "fcit_eval_samples": (
        "Test records at most",
        "Максимум тестовых примеров",
        "最大测试样本数",
        "최대 테스트 샘플 수",
        "最大テストサンプル数",
    ),
    "fcit_extra_args": ("Further keys", "Другие ключи", "其他参数", "추가 키", "その他のキー"),
    "fcit_command": ("Command", "Команда", "命令", "명령어", "コマンド"),
    "fcit_report_tab": ("Report", "Отчёт", "报告", "보고서", "レポート"),
    "fcit_subspace": ("Who answers", "Кто отвечает", "由谁回答", "답변할 부분공간", "回答する部分空間"),
    "fcit_chat_tab": ("Chat", "Чат", "聊天", "채팅", "チャット"),
}

#: What stands above a table and a picture.
TITLES: Mapping[str, _Five] = {
    "matrix": (
        "Score of each dataset after each stage",
        "Оценка каждого набора данных после каждого этапа",
        "各阶段结束后各数据集的得分",
        "각 단계 후 데이터셋별 점수",
        "各ステージ後のデータセット別スコア",
    ),
    "losses": ("Loss", "Потери", "损失", "손실", "損失"),
}

#: What buttons say.
BUTTONS: Mapping[str, _Five] = {
    "fcit_recipe_btn": ("Load recipe", "Загрузить рецепт", "加载配方", "레시피 불러오기", "レシピを読み込む"),
    "fcit_add_btn": ("Add stage", "Добавить этап", "添加阶段", "단계 추가", "ステージを追加"),
    "fcit_report_btn": ("Open report", "Открыть отчёт", "打开报告", "보고서 열기", "レポートを開く"),
    "fcit_load_btn": (
        "Chat with this run",
        "Открыть чат с этим запуском",
        "与此次运行的模型聊天",
        "이 실행의 모델과 채팅",
        "この実行のモデルとチャット",
    ),
}

#: The same for what is no key.
INFOS: Mapping[str, _Five] = {
    "fcit_recipe": (
        "One of the plugin's own, a file, or the output folder of a run; it fills in this tab, the tab Train and the model.",
        "Один из рецептов плагина, файл или выходной каталог запуска; заполняет эту вкладку, вкладку Train и поля модели.",
        "插件自带的配方、文件，或某次运行的输出目录；会填入本标签页、Train 标签页和模型。",
        "플러그인에 포함된 레시피, 파일 또는 실행의 출력 디렉토리. 이 탭과 Train 탭, 모델 입력란을 채웁니다.",
        "付属のレシピ、ファイル、または実行の出力ディレクトリ。このタブ、Train タブ、モデルの欄に入力されます。",
    ),
    "fcit_subspace": (
        "One subspace alone, or routed: each message activates its own.",
        "Только одно подпространство или маршрутизация: каждое сообщение активирует свои.",
        "仅由一个子空间回答，或自动路由：每条消息激活各自的子空间。",
        "부분공간 하나만 쓰거나, 라우팅: 메시지마다 알맞은 부분공간을 활성화합니다.",
        "1 つの部分空間のみ、またはルーティング：メッセージごとに対応する部分空間が有効になります。",
    ),
    "fcit_pick": (
        "Those in one stage arrive together.",
        "Наборы данных одного этапа поступают одновременно.",
        "同一阶段的数据集同时到达。",
        "같은 단계의 데이터셋은 함께 도착합니다.",
        "同じステージのデータセットは同時に届きます。",
    ),
    "fcit_stages": (
        "What arrives when: blanks between stages, commas between datasets of one stage.",
        "Что и когда поступает: пробелы между этапами, запятые между наборами данных одного этапа.",
        "数据集的到达顺序：阶段之间用空格分隔，同一阶段的数据集之间用英文逗号分隔。",
        "데이터셋의 도착 순서: 단계는 공백으로, 같은 단계의 데이터셋은 쉼표(,)로 구분합니다.",
        "データセットが届く順番：ステージは空白、同じステージのデータセットは半角カンマで区切ります。",
    ),
    "fcit_test": (
        "Part (0.1) or number (100) of the records of a dataset that has no test records of its own (val_size).",
        "Доля (0.1) или число (100) примеров, отделяемых для теста, если у набора данных нет своих тестовых примеров "
        "(val_size).",
        "数据集没有自带的测试样本时，从中留出的比例（0.1）或条数（100）（val_size）。",
        "자체 테스트 샘플이 없는 데이터셋에서 떼어 둘 비율(0.1) 또는 개수(100) (val_size).",
        "独自のテストサンプルがないデータセットから取り分ける割合（0.1）または件数（100）（val_size）。",
    ),
    "fcit_extra_args": (
        "Any other key of a recipe, as JSON; null takes one out.",
        "Любые другие ключи рецепта в формате JSON; null убирает ключ.",
        "配方的任何其他参数，JSON 格式；null 表示去掉该参数。",
        "레시피의 그 밖의 모든 키를 JSON 형식으로 입력합니다. null은 해당 키를 뺍니다.",
        "レシピのその他のキー（JSON 形式）。null を指定するとそのキーを外します。",
    ),
}

#: What stands at the top, and what is said of a run; the words in braces are filled in.
SENTENCES: Mapping[str, _Five] = {
    "fcit_intro": (
        "Federated continual instruction tuning. The model is chosen above; how a client trains in a round (learning "
        "rate, epochs, batch, LoRA) is what the tab Train says.",
        "Федеративное непрерывное дообучение на инструкциях. Модель выбирается выше; как клиент обучается в раунде "
        "(скорость обучения, эпохи, размер пакета, LoRA), задаёт вкладка Train.",
        "联邦持续指令微调。模型在上方选择；客户端在每轮中如何训练（学习率、训练轮数、批处理大小、LoRA）由 Train 标签页决定。",
        "연합 연속 인스트럭션 튜닝. 모델은 위에서 선택하고, 클라이언트가 각 라운드에서 학습하는 방식(학습률, 에포크, "
        "배치 크기, LoRA)은 Train 탭을 따릅니다.",
        "連合継続指示チューニング。モデルは上で選択します。各ラウンドでのクライアントの学習方法（学習率、エポック数、"
        "バッチサイズ、LoRA）は Train タブに従います。",
    ),
    "nothing": ("No run yet.", "Запусков ещё не было.", "尚未运行。", "아직 실행이 없습니다.", "まだ実行がありません。"),
    "loading": (
        "The run is loading.",
        "Запуск загружает модель и данные.",
        "运行已启动，正在加载。",
        "실행을 시작하고 불러오는 중입니다.",
        "実行を開始し、読み込んでいます。",
    ),
    "training": (
        "Stage {stage} of {stages}, round {round}, client {client}: step {step} of {steps}, {elapsed} < {remaining}.",
        "Этап {stage} из {stages}, раунд {round}, клиент {client}: шаг {step} из {steps}, {elapsed} < {remaining}.",
        "阶段 {stage}/{stages}，轮次 {round}，客户端 {client}：步数 {step}/{steps}，{elapsed} < {remaining}。",
        "단계 {stage}/{stages}, 라운드 {round}, 클라이언트 {client}: 스텝 {step}/{steps}, {elapsed} < {remaining}.",
        "ステージ {stage}/{stages}、ラウンド {round}、クライアント {client}：ステップ {step}/{steps}、{elapsed} < "
        "{remaining}。",
    ),
    "stopping": (
        "Stopping after this step; press again to end at once. Started again, the run goes on.",
        "Остановка после текущего шага; нажмите ещё раз, чтобы прервать сразу. При повторном старте запуск продолжится.",
        "将在当前步完成后停止；再次点击则立即结束。重新开始后会继续运行。",
        "현재 스텝이 끝나면 멈춥니다. 다시 누르면 즉시 종료합니다. 다시 시작하면 이어서 진행됩니다.",
        "現在のステップが終わると停止します。もう一度押すとすぐに終了します。再び開始すると続きから実行されます。",
    ),
    "stopped": (
        "Stopped. Start goes on from here.",
        "Остановлено. Кнопка «Начать» продолжит отсюда.",
        "已停止。点击“开始”将从此处继续。",
        "멈췄습니다. '시작'을 누르면 여기서 이어집니다.",
        "停止しました。「開始」を押すと続きから実行されます。",
    ),
    "finished": ("Finished.", "Завершено.", "已完成。", "완료되었습니다.", "完了しました。"),
    "failed": (
        "The run ended with an error (exit code {code}); the log below says which.",
        "Запуск завершился ошибкой (код выхода {code}); какой именно, сказано в журнале ниже.",
        "运行因错误而终止（退出码 {code}），详见下方日志。",
        "실행이 오류로 끝났습니다(종료 코드 {code}). 아래 로그를 확인하십시오.",
        "実行はエラーで終了しました（終了コード {code}）。下のログを確認してください。",
    ),
    "routed": ("routed", "маршрутизация", "自动路由", "라우팅", "ルーティング"),
    "loaded": (
        "{name} is loaded.",
        "Рецепт {name} загружен.",
        "已加载 {name}。",
        "{name}을(를) 불러왔습니다.",
        "{name} を読み込みました。",
    ),
    "loaded_further": (
        "Under Further keys, which come before all fields, stands what has no field that can hold it: {words}.",
        "В поле «Другие ключи», которое важнее всех остальных, стоит то, для чего нет подходящего поля: {words}.",
        "没有合适输入框的参数列在“其他参数”中，它们优先于所有输入框：{words}。",
        "알맞은 입력란이 없는 키는 다른 모든 입력란보다 우선하는 '추가 키'에 있습니다: {words}.",
        "入力できる欄のないキーは、他のすべての欄より優先される「その他のキー」にあります：{words}。",
    ),
    "loaded_gone": (
        "Under Further keys, too, with null, stands what the recipe does not have and the tab Train would add: {words}.",
        "В поле «Другие ключи» с null стоит и то, чего в рецепте нет, а вкладка Train добавила бы: {words}.",
        "配方中没有、而 Train 标签页会加入的参数也列在“其他参数”中，值为 null：{words}。",
        "레시피에 없지만 Train 탭이 더할 키도 '추가 키'에 null로 있습니다: {words}.",
        "レシピになく Train タブが加えるキーも、「その他のキー」に null として入っています：{words}。",
    ),
    "loaded_hidden": (
        "The file does not show the values of {words}; put them under Further keys.",
        "В файле не показаны значения {words}; впишите их в «Другие ключи».",
        "文件未显示 {words} 的值，请填入“其他参数”。",
        "파일에 {words}의 값이 표시되어 있지 않습니다. '추가 키'에 입력하십시오.",
        "ファイルには {words} の値が表示されていません。「その他のキー」に入力してください。",
    ),
    "loaded_empty": (
        "Left at their defaults, for the recipe gives them no value: {words}.",
        "Оставлены по умолчанию, так как в рецепте нет значения: {words}.",
        "配方未给出值，保持默认值：{words}。",
        "레시피에 값이 없어 기본값으로 둔 키: {words}.",
        "レシピに値がないためデフォルト値のままのキー：{words}。",
    ),
    "loaded_behind": (
        "Taken along is what had followed the recipe on the command line: {words}.",
        "Учтено и то, что стояло за рецептом в командной строке: {words}.",
        "已包含命令行中跟在配方之后的内容：{words}。",
        "명령줄에서 레시피 뒤에 적은 것도 포함했습니다: {words}.",
        "コマンドラインでレシピの後に指定されたものも含めました：{words}。",
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
