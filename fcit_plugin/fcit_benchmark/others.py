"""Benchmarks that others report on: where their files lie, in which order their tasks come, and how answers are scored.

Each was read from its public code, which is named with its commit; none was run on its data, which could not be had. What the
code does not say, such as the folders that the images of a record lie in, only matters to the stand-ins; of CoIN-6 and
CoIN-Long-10 it says nothing about files.
"""

from dataclasses import replace

from .layout import DatasetLayout

#: Ghy0501/HiDe-LLaVA 4dd0793: README (folders and files), scripts/HiDe/Train_UCIT (order), scripts/HiDe/Eval_UCIT (scores).
_UCIT_HUB = "https://huggingface.co/datasets/HaiyangGuo/UCIT"


def _ucit(name: str, folder: str, train: str, images: str, images_from: str, tests: str = "", **more: str) -> DatasetLayout:
    return DatasetLayout(
        f"ucit_{name}",
        folder,
        train,
        "test_3000.json",
        images,
        images_from,
        test_image_folder=tests,
        records_from=_UCIT_HUB,
        **more,  # type: ignore[arg-type]  # texts alone
    )


_CAPTIONS = {"metric": "caption", "captions_file": "val_coco_type_3000.json"}

UCIT = (
    _ucit("imagenet_r", "ImageNet-R", "train.json", "ImageNet-R/train", _UCIT_HUB, "ImageNet-R/test"),
    _ucit("arxivqa", "ArxivQA", "train_4w.json", "ArxivQA/images", "https://huggingface.co/datasets/MMInstruction/ArxivQA"),
    _ucit(
        *("vizwiz", "VizWiz", "train.json", "VizWiz/train"),
        *("https://vizwiz.org/tasks-and-datasets/image-captioning/", "VizWiz/val"),
        **_CAPTIONS,
    ),
    _ucit("iconqa", "IconQA", "train.json", "IconQA/iconqa_data/iconqa", "https://iconqa.github.io"),
    _ucit(
        *("clevr_math", "CLEVR", "train_4w.json", "CLEVR/images/train"),
        *("https://huggingface.co/datasets/dali-does/clevr-math", "CLEVR/images/test"),
    ),
    _ucit("flickr30k", "Flickr30k", "train_brief_4w.json", "Flickr30k/train", _UCIT_HUB, "Flickr30k/val", **_CAPTIONS),
)

#: BeyonderXX/TRACE 462e39f: README and utils/data/raw_datasets.py (folders, files, columns), scripts/train_lora.sh (order),
#: evaluations/ and metrics.py (scores).
_TRACE_HUB = "https://drive.google.com/file/d/1S0SmU0WEw5okW_XvP2Ns0URflNzZq6sV"


def _trace(name: str, folder: str, metric: str = "exact_match", also: tuple[str, ...] = ()) -> DatasetLayout:
    return DatasetLayout(
        *(f"trace_{name}", folder, "train.json", "test.json", "", ""),
        metric=metric,
        also=also,
        instructions="",
        records_from=_TRACE_HUB,
    )


TRACE = (
    _trace("cstance", "C-STANCE"),
    _trace("fomc", "FOMC"),
    _trace("meetingbank", "MeetingBank", "rouge_l"),
    _trace("py150", "Py150", "code_similarity"),
    _trace("scienceqa", "ScienceQA", "option_letter"),
    _trace("numglue_cm", "NumGLUE-cm"),
    _trace("numglue_ds", "NumGLUE-ds"),
    _trace("20minuten", "20Minuten", "sari", ("rouge_l",)),
)

#: zackschen/CoIN 4122465: README (images), scripts/LLaVA/Train (order, files), scripts/LLaVA/Eval (test files),
#: ETrain/Eval/LLaVA/CoIN (scores).
_COIN_HUB = "https://huggingface.co/datasets/Zacks-Chen/CoIN"


def _coin(
    name: str, folder: str, test: str, images: str, images_from: str, metric: str = "exact_match", **more: object
) -> DatasetLayout:
    return DatasetLayout(
        *(f"coin_{name}", folder, "train.json", test, images, images_from),
        metric=metric,
        instructions="Instructions_Original",
        images="cl_dataset",
        records_from=_COIN_HUB,
        **more,  # type: ignore[arg-type]  # as the attributes are
    )


_COCO = "http://images.cocodataset.org/zips (train2014.zip, val2014.zip)"
_SCIENCEQA = "https://drive.google.com/drive/folders/1w8imCXWYn2LxajmGeGH_g5DaL2rabHev (ScienceQA)"
_OCRVQA = "https://drive.google.com/drive/folders/1_GYPY5UkUy7HIcR0zq3ZCFgeZN7BAfm_ (OCR-VQA)"
_TEXTVQA = "https://dl.fbaipublicfiles.com/textvqa/images/train_val_images.zip"

COIN = (
    _coin("scienceqa", "ScienceQA", "test.json", "ScienceQA", _SCIENCEQA, "option_letter", some_without_image=True),
    _coin("textvqa", "TextVQA", "val.json", "TextVQA/train_images", _TEXTVQA),
    _coin("imagenet", "ImageNet", "test.json", "ImageNet", "https://image-net.org", also=("substring", "contains")),
    _coin("gqa", "GQA", "test.json", "GQA/images", "https://downloads.cs.stanford.edu/nlp/data/gqa/images.zip"),
    _coin("vizwiz", "VizWiz", "val.json", "VizWiz", "https://vizwiz.org"),
    _coin("grounding", "Grounding", "test.json", "COCO2014/train2014", _COCO, "iou", box_column="answer_bbox"),
    _coin("vqav2", "VQAv2", "val.json", "COCO2014/train2014", _COCO),
    _coin("ocrvqa", "OCRVQA", "test.json", "OCR-VQA/images", _OCRVQA),
)

#: beining1008/POLARIS-FMCL 8bb7f5b: data/benchmarks.py (tasks and order), harness/runner.py (scores). Its loaders are stubs and
#: name no file. So CoIN-6 has the files of CoIN, and CoIN-Long-10 files that are laid out like CoIN's, below the same root.
_POLARIS_EXACT = ("scienceqa", "imagenet", "iconqa", "ai2d")


def _polaris_metric(task: str) -> str:
    return "exact_match" if task in _POLARIS_EXACT else "contains"


def _as_in_coin(benchmark: str, task: str) -> DatasetLayout:
    (layout,) = (layout for layout in COIN if layout.key == f"coin_{task}")
    return replace(layout, key=f"{benchmark}_{task}", metric=_polaris_metric(task), also=())


COIN6 = tuple(_as_in_coin("coin6", task) for task in ("scienceqa", "textvqa", "imagenet", "gqa", "vqav2", "ocrvqa"))


def _coin_long10(folder: str, source: str) -> DatasetLayout:
    task = folder.lower().replace("-", "_")
    layout = _coin(task, folder, "test.json", folder, source, _polaris_metric(task))
    return replace(layout, key=f"coin_long10_{task}", records_from=source, written=True)


COIN_LONG10 = (
    _coin_long10("DocVQA", "https://www.docvqa.org"),
    _coin_long10("OKVQA", "https://okvqa.allenai.org"),
    _coin_long10("ChartQA", "https://github.com/vis-nlp/ChartQA"),
    _coin_long10("PathVQA", "https://github.com/UCSD-AI4H/PathVQA"),
    _coin_long10("AOKVQA", "https://github.com/allenai/aokvqa"),
    _coin_long10("InfoVQA", "https://www.docvqa.org/datasets/infographicvqa"),
    _coin_long10("IconQA", "https://iconqa.github.io"),
    _as_in_coin("coin_long10", "vizwiz"),
    _coin_long10("CLEVR-Math", "https://huggingface.co/datasets/dali-does/clevr-math"),
    _coin_long10("AI2D", "https://allenai.org/data/diagrams"),
)

#: bjzhb666/MLLM-CL 80bf389: README (folders, files, order), scripts/LLaVA/Eval_dom (images, scores); the same order and files
#: in Ghy0501/MCITlib 2956dfd (LoRA-FT/scripts/CoIN/Train_DCL/train_all.sh, LoRA-FT/configs/data_configs/MLLM-DCL).
_MLLM_CL_HUB = "https://huggingface.co/datasets/Impression2805/MLLM-CL"


def _mllm_dcl(folder: str, metric: str) -> DatasetLayout:
    return DatasetLayout(
        *(f"mllm_dcl_{folder.lower()}", folder, "train.json", "test.json", "images", _MLLM_CL_HUB),
        metric=metric,
        instructions="",
        images=folder,
        records_from=_MLLM_CL_HUB,
    )


MLLM_DCL = (
    _mllm_dcl("RS", "contains_word"),
    _mllm_dcl("Med", "contains"),
    _mllm_dcl("AD", "contains_word"),
    _mllm_dcl("Sci", "exact_match"),
    _mllm_dcl("Fin", "match_without_spaces"),
)

#: cmnfriend/O-LoRA 07117e1: CL_Benchmark (folders), scripts/long.sh (order), src/compute_metrics.py (score). Its own files have
#: sentences and labels; these are what `text15` makes of them.
_TEXT15_FROM = "https://github.com/cmnfriend/O-LoRA, by `fcit-cli data convert --benchmark text15`"


def _text15(folder: str) -> DatasetLayout:
    return DatasetLayout(
        *(f"text15_{folder.lower().replace('-', '')}", folder, "train.json", "test.json", "", ""),
        metric="normalized_match",
        instructions="",
        records_from=_TEXT15_FROM,
        columns=("instruction", "output"),
    )


TEXT15 = tuple(
    _text15(folder)
    for folder in (
        *("yelp", "amazon", "MNLI", "CB", "COPA", "QQP", "RTE", "IMDB", "SST-2"),
        *("dbpedia", "agnews", "yahoo", "MultiRC", "BoolQA", "WiC"),
    )
)
