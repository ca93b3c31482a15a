"""Opening a session: what can be refused is refused first, then data, model, encoder and method are made ready."""

import contextlib
import copy
import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from llamafactory.extras.constants import TRAINER_LOG
from llamafactory.model import load_model, load_tokenizer
from peft import PeftModel
from transformers.integrations import is_deepspeed_zero3_enabled

from ..adapters.base_sample import base_sample
from ..adapters.base_weights import BaseOnDemand
from ..adapters.lora import check_owners, read_shared, read_subspace
from ..arguments import FcitArguments
from ..arguments.network import SITE_STAGE
from ..arguments.reasons import all_reasons, going_on
from ..continual.methods import make_method
from ..data.catalogue import Catalogue
from ..data.named import refuse_trained_tests
from ..data.pipeline import Pipeline
from ..data.pixels import refuse_without_image
from ..errors import FcitError
from ..evaluation.report import REPORT_JSON
from ..federation.folders import DESCRIPTION
from ..federation.program import Program
from ..folders import take_away
from ..knowledge.sources import make_source
from ..knowledge.vision_tower import check_family
from ..recipe.base_model import check_model, naming_the_model
from ..recipe.combinations import refuse_new_tokens
from ..recipe.request import Request
from ..scenario.settings import get_scenario
from ..state.checkpoints import Checkpoints
from ..state.folder import StateFolder
from ..state.names import MANIFEST, UPDATE_NAMES, UPDATES
from ..state.predictions import clear_predictions
from .continuation import Earlier
from .fingerprint import data_keys, deciding_keys, fingerprint
from .made_up_records import refuse_what_is_not_made_up
from .oracle import TaskEncoder, TaskPipeline
from .pool import Pool
from .processes import Processes
from .resume import Start, find_start
from .session import Session, Setup, adapter_config
from .settling import settled_at_once, settled_by, settled_by_encoder, settled_by_model


def open_session(
    model_args: Any,
    data_args: Any,
    training_args: Any,
    finetuning_args: Any,
    generating_args: Any,
    pool: Pool | None = None,
) -> Session:
    """Load what a run needs; of several processes that train clients of their own, the first looks at what is on disk.

    Args:
        model_args: LLaMA-Factory's model arguments.
        data_args: Its data arguments.
        training_args: Its training arguments.
        finetuning_args: Its fine-tuning arguments, with the request on them.
        generating_args: Its generating arguments.
        pool: The processes that train clients of their own, if there are several.

    Raises:
        FcitError: Something does not fit together; nothing was changed on disk.
    """
    setup = read_setup(model_args, data_args, training_args, finetuning_args, generating_args, pool)
    checkpoints = Checkpoints(setup.output_dir, training_args.save_total_limit)
    trains = setup.request.evaluated is None  # an evaluation goes on from nothing, and would replace a run's report
    setup, start = with_checked_start(setup) if setup.is_server and trains else (setup, None)
    held = check_output_dir(setup, checkpoints, start)
    tokenizer_module = load_tokenizer_module(setup)
    tokenizer, parts = tokenizer_module["tokenizer"], pipeline_parts(setup, tokenizer_module)
    oracle = setup.args.fcit_bound == "oracle"
    pipeline = TaskPipeline(setup.scenario, *parts) if oracle else Pipeline(*parts)
    data: dict[str, str] = {}
    reads = setup.request.stage in ("fcit", SITE_STAGE)
    if reads:
        with contextlib.nullcontext() if pool is None else pool.one_first():
            read_records(setup, pipeline)
    if reads and setup.is_server:
        # all tokens are hashed and all media files asked for their size: once is enough
        data = setup.processes.compute_on_main(lambda: data_keys(pipeline, setup.trained_datasets, setup.tested_datasets))
        if setup.earlier is not None:
            setup.earlier.check_data(data)
    with naming_the_model(model_args, OSError):
        model = load_model(tokenizer, model_args, finetuning_args, is_trainable=True)
    place(model, setup.training_args.device)
    base_fingerprint, sample = (fingerprint(model), base_sample(model)) if setup.is_server else (None, {})
    setup = settled_by_model(setup, model, tokenizer)
    encoder = TaskEncoder(setup.scenario) if oracle else make_source(*setup.identity_source, model, tokenizer, pipeline.pixels)
    setup = settled_by_encoder(setup, encoder)
    program = make_program(setup, model)
    if setup.is_server:
        check_earlier_model(setup, model, program, base_fingerprint)
    base_weights = BaseOnDemand(model)
    changes = program.aggregation.changes_base or (setup.earlier is not None and setup.earlier.changes_base)
    if changes and setup.request.stage != "fcit_aggregate":  # which computes without the model
        base_weights.prepare()
    session = Session(
        **vars(setup),
        checkpoints=checkpoints,
        start=start,
        pipeline=pipeline,
        data=data,
        model=model,
        base_fingerprint=base_fingerprint,
        base_sample=sample,
        base_weights=base_weights,
        encoder=encoder,
        program=program,
    )
    clear_output_dir(session, held)  # only now: what is refused above takes nothing away
    return session


def fork_session(session: Session, program: Program, folder: Path, first: bool) -> Session:
    """The session for one of several runs on the same model and data.

    Args:
        session: The session of them all.
        program: What this one runs.
        folder: Its output folder.
        first: Whether it is the first of them, which evaluates the untuned model for all.
    """
    training_args = copy.copy(session.training_args)
    training_args.output_dir = str(folder)
    args = replace(session.args, fcit_zero_shot=session.args.fcit_zero_shot and first)
    own = replace(session, program=program, output_dir=folder, args=args, training_args=training_args)
    checkpoints = Checkpoints(folder, training_args.save_total_limit)
    _, start = with_checked_start(own)  # it is settled as the session is
    held = check_output_dir(own, checkpoints, start)
    own = replace(own, checkpoints=checkpoints, start=start)
    clear_output_dir(own, held)
    return own


def read_setup(
    model_args: Any,
    data_args: Any,
    training_args: Any,
    finetuning_args: Any,
    generating_args: Any,
    pool: Pool | None = None,
) -> Setup:
    """Read and check everything that can be checked before anything is loaded; see :func:`open_session`.

    Raises:
        FcitError: Something does not fit together.
    """
    logging.getLogger("flwr").setLevel(logging.WARNING)  # it would log every message
    request: Request = finetuning_args.fcit_request
    args = request.args
    scenario = get_scenario(args.fcit_setting, args.fcit_stages, args.fcit_schedule, args.fcit_task_order)
    evaluated = list(scenario.all_datasets()) if request.stage == "fcit" else []
    rounds = [args.fcit_num_rounds] * scenario.num_stages
    earlier = Earlier.read(request.earlier) if request.earlier is not None else None
    if earlier is not None:
        scenario, rounds = earlier.scenario.followed_by(scenario), earlier.rounds + rounds
    arguments = (model_args, data_args, training_args, finetuning_args, generating_args)
    setup = Setup(
        request,
        args,
        *arguments,
        output_dir=Path(training_args.output_dir),
        scenario=scenario,
        rounds=rounds,
        earlier=earlier,
        own_datasets=list(data_args.dataset) if request.own_data else [],
        catalogue=Catalogue.of(data_args, args, evaluated, model_args.cache_dir),
        keys=_deciding(arguments, args, training_args.world_size),
        processes=Processes(),
        pool=pool,
    )
    if earlier is not None:
        setup = settled_by(setup, earlier.source.manifest)
    if request.evaluated is not None:
        setup = settled_by(setup, StateFolder(request.evaluated).manifest)
    with all_reasons():
        with going_on():
            _check_datasets(setup)
        with going_on():
            setup = _with_checked_state(setup)
        config = check_model(model_args)
        if args.fcit_identity_source != "text":
            check_family(config, args.fcit_identity_source)
    if setup.own_datasets and make_method(args).num_remembered():
        raise FcitError(
            f"`fcit_method: {args.fcit_method}` has a client go back to records of its earlier tasks, and `dataset` names "
            "those of the present one alone, which would be taken for them; leave `dataset` out where the stages' own datasets "
            "are the client's, or take another method."
        )
    if earlier is not None:
        if make_method(args).num_remembered():
            raise FcitError(
                f"`fcit_method: {args.fcit_method}` goes back to records of earlier tasks, which a run that goes on from "
                "another one does not have; take another method, or train all stages in one run."
            )
        earlier.check_recipe(setup.arguments, setup.keys, setup.evaluates)
    return settled_at_once(setup)


def _deciding(arguments: tuple[Any, ...], args: FcitArguments, world_size: int) -> dict[str, Any]:
    """The deciding keys; the number of sites may grow."""
    keys = deciding_keys((*arguments, args), world_size)
    return {key: value for key, value in keys.items() if not (args.over_network and key == "fcit_num_clients")}


def _check_datasets(setup: Setup) -> None:
    catalogue, evaluates = setup.catalogue, setup.evaluates
    if setup.request.stage == "fcit_aggregate":  # it knows datasets by name, and reads none
        return
    setup.check_tasks_of_site()
    catalogue.check(setup.trained_datasets, evaluates, setup.args.fcit_local_stage)
    if evaluates:
        refuse_trained_tests(setup.trained_datasets, setup.tested_datasets)
    if evaluates and setup.data_elsewhere:
        catalogue.check_tests(setup.scenario.all_datasets())
    if setup.earlier is not None and evaluates:
        setup.earlier.check_tests(catalogue)
    if evaluates:
        catalogue.check_metrics(setup.tested_datasets)


def _with_checked_state(setup: Setup) -> Setup:
    if setup.args.fcit_state_dir is not None:
        source = StateFolder(Path(setup.args.fcit_state_dir))
        source.check_whole()
        source.check()
        setup = settled_by(setup, source.manifest)
        _check_recipe(setup, source.path, source.manifest)
    return setup


def _check_recipe(setup: Setup, folder: Path, manifest: dict[str, Any]) -> None:
    """Refuse a state of a finished run, or of a recipe that differs in what decides who trains what from where."""
    for key, value in setup.state_keys().items():
        if manifest.get(key) != value:
            name = key if key == "seed" else f"fcit_{key}"
            raise FcitError(
                f"`{name}` is {value!r}, but the state {folder} was made with {manifest.get(key)!r}; "
                "give every site and the server the same recipe."
            )
    if manifest["stage"] >= setup.scenario.num_stages:
        raise FcitError(
            f"The run of `fcit_state_dir` {folder} is finished: there is no further round to take part in; to go on with "
            "new tasks, put their stages after the old ones in `fcit_stages`."
        )


def with_checked_start(setup: Setup) -> tuple[Setup, Start | None]:
    """The commit to go on from, made with the same recipe, None to begin at the beginning; and the setup, settled by it.

    Raises:
        FcitError: The recipe is another one; the sentence lists what differs.
    """
    start = find_start(setup.training_args, setup.request.stage, setup.processes)
    if start is not None:
        setup = settled_by(setup, start.manifest)
        start.check("keys", setup.keys, setup.arguments)
    return setup, start


def check_output_dir(setup: Setup, checkpoints: Checkpoints, start: Start | None) -> list[str] | None:
    """What results there are to clear away; None if this process has nothing to do with them.

    Raises:
        FcitError: There are some, and the recipe does not say to overwrite them, or the folder cannot be written to.
    """
    if not setup.is_main or (start is not None and start.is_in(checkpoints)):
        return None
    evaluates = setup.request.evaluated is not None  # which leaves a report alone
    left = (MANIFEST, DESCRIPTION, *([REPORT_JSON] if evaluates else []))
    held = [name for name in left if (setup.output_dir / name).exists()]
    held += [f"{folder.parent.name}/{folder.name}" for folder in checkpoints.commits()[-1:]]
    is_update = setup.request.stage == "fcit_client"
    if held and (not setup.training_args.overwrite_output_dir or (is_update and held != [DESCRIPTION])):
        raise FcitError(
            f"`output_dir` {setup.output_dir} already holds the results of a run ({held[0]}); "
            + ("choose another folder." if is_update else "choose another or set `overwrite_output_dir: true`.")
        )
    try:
        setup.output_dir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=setup.output_dir).close()
    except OSError as error:
        raise FcitError(
            f"`output_dir` {setup.output_dir} cannot be written to ({error.strerror}); name a folder of your own."
        ) from error
    return held


def clear_output_dir(session: Session, held: list[str] | None) -> None:
    """Take away what :func:`check_output_dir` has found."""
    if held is None:
        return
    if held:
        session.clear_results()
        (session.output_dir / TRAINER_LOG).unlink(missing_ok=True)
        take_away(session.output_dir / UPDATES, rf"\.?{UPDATE_NAMES}(\.\w+)?")
    clear_predictions(session.output_dir)  # a run that was stopped before its first commit leaves nothing else
    session.checkpoints.go_back_to(None)


def load_tokenizer_module(setup: Setup) -> dict[str, Any]:
    """LLaMA-Factory's tokenizer and processor.

    Raises:
        FcitError: They cannot be loaded; the sentence names the model.
    """
    with naming_the_model(setup.model_args, OSError, ValueError):
        loaded = load_tokenizer(setup.model_args)
    refuse_new_tokens(setup.model_args)
    return loaded


def pipeline_parts(setup: Setup, tokenizer_module: dict[str, Any]) -> tuple[Any, ...]:
    """What a pipeline is made of."""
    needs_text = setup.args.fcit_identity_source != "image"
    parts = setup.model_args, setup.data_args, setup.training_args, tokenizer_module
    return *parts, setup.catalogue, setup.processing, needs_text, setup.args.fcit_strict_records


def read_records(setup: Setup, pipeline: Pipeline) -> None:
    """Read the records that are trained on and asked about.

    Raises:
        FcitError: A record cannot be used; the sentence names it.
    """
    pipeline.read(setup.trained_datasets, setup.tested_datasets)
    if setup.args.fcit_identity_source != "text":
        for name in setup.trained_datasets:
            split = pipeline.train(name)
            refuse_without_image(name, split.images, setup.args.fcit_identity_source, split.kept)
    if setup.args.part("methods").load().makes_up_records():
        refuse_what_is_not_made_up(pipeline, setup.trained_datasets, setup.args)


def place(model: PeftModel, device: torch.device) -> None:
    """Move a model that LLaMA-Factory has left on the CPU to where the Trainer would.

    So it is with `low_cpu_mem_usage: false` and `train_from_scratch`; without this the untuned model would be evaluated on
    the CPU, before there is a Trainer. What ZeRO-3 divides it has put in its place itself.

    Args:
        model: The model.
        device: The run's.
    """
    if {parameter.device.type for parameter in model.parameters()} == {"cpu"} and not is_deepspeed_zero3_enabled():
        model.to(device)


def check_earlier_model(setup: Setup, model: PeftModel, program: Program, base_fingerprint: str | None) -> None:
    """Refuse to go on from a run whose weights do not fit this model.

    Args:
        setup: Names the earlier run, if there is one.
        model: The base model with the subspace that trains.
        program: Gives the shapes of a subspace.
        base_fingerprint: Tells this base model from others; None for one without weights.

    Raises:
        FcitError: The sentence names what differs.
    """
    if setup.earlier is not None:
        state, *_ = setup.earlier.load(setup.processes)
        targets = adapter_config(model)["target_modules"]
        setup.earlier.check_model(state, program.blank, targets, read_shared(model), base_fingerprint)


def make_program(setup: Setup, model: PeftModel) -> Program:
    """The program of all stages and rounds, for a model that the method is made ready on."""
    make_method(setup.args).prepare(model)
    check_owners(model)
    return Program(setup.args, setup.scenario, setup.training_args.seed, blank=read_subspace(model))
