"""Whose failure an error is: each as it is really raised, by the library that raises it."""

import errno
import importlib
import json
import os
import re
import socket
import urllib.request
from io import BytesIO

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from flwr.app import Message, MessageType, RecordDict
from llamafactory.data.mm_plugin import get_mm_plugin
from PIL import Image
from test_reply_cache import Run, bits
from torch.utils.data import DataLoader, Dataset
from transformers import AutoConfig, TrainingArguments
from transformers.utils import torch_compilable_check

from fcit_plugin.engine.processes import Deadline, Processes
from fcit_plugin.errors import FcitError, OutOfMemory
from fcit_plugin.federation.failures import is_clients, is_out_of_memory, naming_memory
from fcit_plugin.federation.in_process_grid import InProcessGrid


def picture(cut=None, kind="PNG"):
    """The bytes of an image file, or the first of them."""
    stream = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(stream, kind)
    return BytesIO(stream.getvalue()[:cut])


def raised(error):
    raise error


class Records(Dataset):
    """Records of which reading one does what is given."""

    def __init__(self, read):
        self.read = read

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.read()


def in_a_worker(read):
    """Reads a record in a data loader's worker."""
    return lambda: list(DataLoader(Records(read), num_workers=1))


def bomb():
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, 10
    try:
        Image.open(picture())
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def images_without_tags():
    plugin = get_mm_plugin("llava", image_token="<image>")
    plugin._validate_messages([{"role": "user", "content": "no tag"}], ["a.png"], [], [])


def deadline():
    Deadline(-1, Processes(), "it took longer than 1 s", lambda: 0.0).on_step_end(None, None, None)


def refused_over_a_full_disk():
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    except OSError as error:
        raise FcitError("the file cannot be read") from error


def refused_for_want_of_memory():
    try:
        raise MemoryError
    except MemoryError:
        raise ValueError("Invalid image")  # noqa: B904  (as libraries do)


CLIENTS = {
    "a refusal": lambda: raised(FcitError("its file has no answers")),
    "a number that is not finite": lambda: raised(FloatingPointError("the loss is nan")),
    "numpy's number that is not finite": lambda: np.errstate(all="raise").__call__(lambda: np.float64(1) / np.float64(0))(),
    "a deadline": deadline,
    "a file that is no image": lambda: Image.open(BytesIO(b"no image")),
    "a cut image": lambda: Image.open(picture(200)).load(),
    "a cut JPEG": lambda: Image.open(picture(300, "JPEG")).load(),
    "an image that is not there": lambda: Image.open("/nowhere/a.png"),
    "an image that is a folder": lambda: Image.open("/"),
    "an image of too many pixels": bomb,
    "images without tags": images_without_tags,
    "images that do not match their tokens": lambda: torch_compilable_check(torch.tensor(False), "features do not match"),
    "a record that cannot be read, in a worker": in_a_worker(lambda: raised(ValueError("no such role"))),
    "a cut image, in a worker": in_a_worker(lambda: Image.open(picture(200)).load()),
    "an image that is not there, in a worker": in_a_worker(lambda: Image.open("/nowhere/a.png")),
    "a file that is no image, in a worker": in_a_worker(lambda: Image.open(BytesIO(b"no image"))),
}

OTHERS = {
    # memory
    "memory": lambda: raised(MemoryError()),
    "memory of an array": lambda: np.empty(2**55),
    "memory of a tensor": lambda: torch.empty(2**50),
    "memory of a GPU": lambda: raised(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")),
    "memory of cuBLAS": lambda: raised(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")),
    "memory of an accelerator without a class": lambda: raised(RuntimeError("HIP out of memory. Tried to allocate 1 GiB")),
    "memory of the system": lambda: raised(OSError(errno.ENOMEM, "Cannot allocate memory")),
    "memory, in a worker": in_a_worker(lambda: raised(MemoryError())),
    "memory, said as an invalid image": refused_for_want_of_memory,
    # the device, other processes
    "a CUDA error": lambda: raised(RuntimeError("CUDA error: device-side assert triggered")),
    "an accelerator's error": lambda: raised(getattr(torch, "AcceleratorError", RuntimeError)("CUDA error: unspecified")),
    "cuDNN": lambda: raised(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")),
    "no GPU": lambda: torch.zeros(1, device="cuda:99"),
    "another process that is gone": lambda: raised(torch.distributed.DistBackendError("NCCL communicator was aborted")),
    "a worker that was killed": in_a_worker(lambda: os._exit(9)),
    # the system
    "a full disk": lambda: raised(OSError(errno.ENOSPC, "No space left on device", "/out/x")),
    "a full disk, said as a refusal": refused_over_a_full_disk,
    "a quota": lambda: raised(OSError(errno.EDQUOT, "Disk quota exceeded")),
    "a read-only disk": lambda: raised(OSError(errno.EROFS, "Read-only file system")),
    "a broken disk": lambda: raised(OSError(errno.EIO, "Input/output error")),
    "too many open files": lambda: raised(OSError(errno.EMFILE, "Too many open files")),
    "a program that is not there": lambda: os.execv("/nowhere/ninja", ["ninja"]),
    "a network that is slow": lambda: raised(TimeoutError(errno.ETIMEDOUT, "Connection timed out")),
    "a network that is not there": lambda: socket.create_connection(("127.0.0.1", 1), timeout=5),
    "a page that is not there": lambda: urllib.request.urlopen("http://127.0.0.1:1/"),
    "a pipe that is closed": lambda: raised(BrokenPipeError(errno.EPIPE, "Broken pipe")),
    "an end of a file": lambda: raised(EOFError()),
    # packages and settings
    "a package that is not there": lambda: importlib.import_module("no_such_package"),
    "a model that is not there": lambda: AutoConfig.from_pretrained("/nowhere/model"),
    "an option of the trainer": lambda: TrainingArguments(output_dir="x", logging_strategy="steps", logging_steps=0),
    "an option of the accelerator": lambda: Accelerator(mixed_precision="nowhere"),
    # programs
    "a misspelled attribute": lambda: None.weights,
    "a name that is not defined": lambda: undefined,  # noqa: F821
    "a wrong type": lambda: None + 1,
    "a wrong number of arguments": lambda: (lambda a: a)(1, 2),
    "a missing key": lambda: {}["x"],
    "an index": lambda: [][1],
    "a division": lambda: 1 // 0,
    "an assertion": lambda: raised(AssertionError()),
    "something that is not written": lambda: raised(NotImplementedError()),
    "an endless recursion": lambda: raised(RecursionError("maximum recursion depth exceeded")),
    "an end of an iterator": lambda: next(iter(())),
    "shapes of arrays": lambda: np.zeros(2) + np.zeros(3),
    "shapes of tensors": lambda: torch.zeros(2, 3) @ torch.zeros(2, 3),
    "a dtype": lambda: torch.zeros(2, 2) @ torch.zeros(2, 2, dtype=torch.float16),
    "a number of values": lambda: (lambda pair: [a for a, b in [pair]])((1, 2, 3)),
    "a word for a number": lambda: int("x"),
    "JSON of one's own": lambda: json.loads("{"),
    "a pattern": lambda: re.compile("("),
    "an exception of nobody's": lambda: raised(Exception("?")),
}


def error_of(make):
    try:
        make()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("name", CLIENTS)
def test_it_is_the_clients(name):
    error = error_of(CLIENTS[name])
    assert is_clients(error), repr(error)
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("name", OTHERS)
def test_it_ends_the_run(name):
    error = error_of(OTHERS[name])
    assert not is_clients(error), repr(error)
    assert is_out_of_memory(error) == (name.startswith("memory") and "said" not in name)


def call(error):
    grid = InProcessGrid(lambda message, context: raised(error), range(3), agree=lambda failure: pytest.fail("it waits"))
    return list(grid.send_and_receive([Message(RecordDict(), dst_node_id=2, message_type=MessageType.TRAIN)]))


def test_what_is_nobodys_ends_the_run_as_itself_at_once_with_the_client_below_the_traceback():
    with pytest.raises(KeyError) as caught:
        call(KeyError("x"))
    assert caught.value.__notes__ == [
        "This was met in the training of client 2, and is no failure of the client's. "
        "Started again, the run goes on from the last reply that it has kept."
    ]


def test_memory_is_said_in_a_sentence_with_what_to_lower():
    with pytest.raises(OutOfMemory) as caught:
        call(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB"))
    sentence = " ".join([str(caught.value), *caught.value.__notes__])
    assert sentence.startswith("Memory is too small for the training of client 2: CUDA out of memory. Halve `per_device_train")
    for word in ("`gradient_accumulation_steps`", "`cutoff_len`", "`image_max_pixels`", "goes on from the last reply"):
        assert word in sentence
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


def test_other_errors_are_not_taken_for_memory():
    with pytest.raises(RuntimeError, match="no memory of it") as caught, naming_memory("x", "y"):
        raise RuntimeError("no memory of it")
    assert type(caught.value) is RuntimeError


@pytest.mark.parametrize("die_at", [0, 5, 11])
@pytest.mark.parametrize("name", ["memory", "a CUDA error", "a package that is not there", "a full disk", "a missing key"])
def test_a_run_that_the_machine_ended_goes_on_from_its_last_reply_to_the_same_bits(tmp_path, monkeypatch, name, die_at):
    whole = Run(tmp_path / "whole")
    end = whole.run()
    monkeypatch.setattr("test_reply_cache.Killed", lambda: error_of(OTHERS[name]))
    first = Run(tmp_path / "kept", die_at)
    with pytest.raises((OutOfMemory, RuntimeError, ImportError, OSError, KeyError)):
        first.run()
    assert first.federation.listener.rows == whole.federation.listener.rows[: len(first.federation.listener.rows)]
    second = Run(tmp_path / "kept")
    assert bits(second.run()) == bits(end)
    assert first.federation.local.trained + second.federation.local.trained == whole.federation.local.trained
