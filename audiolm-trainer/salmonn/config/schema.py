"""The schema of a configuration: every setting of the sections model, generate, datasets and run, with its default.

`docs/configuration.md` is made of the docstrings.
"""

import os
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from salmonn.config.paths import PATHS, means_untrained, without_folder

TOKEN_VARIABLE = "HF_TOKEN"

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class QuantizeConfig(_Section):
    """Linear layers that are held in fewer bits; docs/quantisation.md says what each kind costs and needs.

    Attributes:
        kind: "int8" and "int8_dynamic" are torchao's 8 bit weights, and activations too; "llm_int8" and "nf4"
            bitsandbytes' 8 and 4 bits.
        parts: what is quantised: "llm", "whisper" or both.
    """

    kind: Literal["none", "int8", "int8_dynamic", "llm_int8", "nf4"] = "none"
    parts: Annotated[list[Literal["llm", "whisper"]], Field(min_length=1)] = ["llm"]

    def kind_of(self, part: Literal["llm", "whisper"]) -> str:
        """The kind that a part is quantised by, "none" where it is not."""
        return self.kind if part in self.parts else "none"


class ModelConfig(_Section):
    """The components, what is trained, and the prompt. Paths are files or folders; "" means none.

    Attributes:
        llama_path: the language model with its tokenizer: a folder, or a name on the hub.
        whisper_path: the Whisper model: a folder, or a name on the hub.
        audio_encoder: what hears sounds beside Whisper: "beats", "none", or a class of your own,
            "package.module:Class"; salmonn/model/audio_encoder.py says what it must be.
        audio_encoder_path: the file, folder or name on the hub that a class of your own is built from.
        beats_path: the BEATs file; "" runs with Whisper alone.
        qformer_path: folder or JSON file with the Q-Former's sizes; "" means those of BERT-base.
        ckpt: what training produced. A model that answers needs it; "none" means that an untrained one is wanted.
        speech_llama_proj_model: a file that the projection alone is taken from.
        token: of the hub; better in the environment variable HF_TOKEN, which is read first. It is never shown.
        dtype: how encoders and language model are held; "auto" is bfloat16 on GPUs that have it, else float32.
        bridge_dtype: how Q-Former and projection are held to answer; they are trained in float32. 16 bits halve them,
            and an answer can differ.
        freeze_whisper: True; the Whisper encoder is not trained.
        freeze_beats: True; BEATs is not trained.
        use_speech_Qformer: True; there is no model without Q-Former.
        freeze_speech_QFormer: whether the Q-Former stays as it is in training.
        window_level_Qformer: whether the Q-Former looks at windows, or once at the whole clip.
        context_seconds: seconds of a clip that are heard, 1 to 30, in whole frames of 20 ms. Whisper, the Q-Former
            and the prompt cost as much for silence as for sound, so a model whose clips are short answers faster with
            less; longer clips are cut. A checkpoint should be trained with the same.
        num_speech_query_token: queries, and so audio tokens, of a window.
        second_per_window: seconds of a window.
        second_stride: seconds from one window to the next.
        freeze_speech_llama_proj: whether the projection stays as it is in training.
        freeze_llm: False trains all of the language model's own weights, in float32 and without an adapter; checkpoints
            then hold them, and are loaded as any other.
        lora: whether the language model has an adapter.
        lora_rank: rank of the adapter, as the checkpoint was trained.
        lora_alpha: scale of the adapter, as the checkpoint was trained.
        lora_dropout: dropout of the adapter in training.
        lora_target_modules: the linear layers that get an adapter.
        merge_lora: adds the adapter to the weights when the model is loaded to answer: steps are faster; in float16 and
            bfloat16 the weights are rounded anew, and an answer can differ.
        multi_prompt: whether training draws a wording for every sample, or one for a batch.
        prompt_template: the text around a prompt, whose place is {}; "chat" is the tokenizer's own chat template, ""
            none.
        prompt_path: JSON file of the training prompts, several wordings a task.
        test_prompt_path: JSON file of the prompts that answers are asked with, one wording a task.
        max_txt_len: tokens of a training target; longer ones are cut before the end symbol.
        end_sym: what ends an answer; best one token of the language model.
        only_preprocessor: False; of the original.
        low_resource: False; of the original. `dtype` chooses the precision.
        device_8bit: of the original; without effect.
    """

    llama_path: str
    whisper_path: str
    audio_encoder: str = "beats"
    audio_encoder_path: str = ""
    beats_path: str = ""
    qformer_path: str = ""
    ckpt: str = ""
    speech_llama_proj_model: str = ""
    token: Annotated[SecretStr, Field(strict=False)] = SecretStr("")
    dtype: Precision = "auto"
    bridge_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    quantize: QuantizeConfig = QuantizeConfig()

    freeze_whisper: bool = True
    freeze_beats: bool = True
    use_speech_Qformer: bool = True  # noqa: N815 - the schema's own names
    freeze_speech_QFormer: bool = False  # noqa: N815
    window_level_Qformer: bool = True  # noqa: N815
    context_seconds: Annotated[float, Field(ge=1, le=30)] = 30.0
    num_speech_query_token: Positive = 1
    second_per_window: PositiveFloat = 0.333333
    second_stride: PositiveFloat = 0.333333
    freeze_speech_llama_proj: bool = False

    freeze_llm: bool = True
    lora: bool = True
    lora_rank: Positive = 8
    lora_alpha: Positive = 32
    lora_dropout: Fraction = 0.1
    lora_target_modules: Annotated[list[str], Field(min_length=1)] = ["q_proj", "v_proj"]
    merge_lora: bool = False

    multi_prompt: bool = False
    prompt_template: str = ""
    prompt_path: str = ""
    test_prompt_path: str = ""
    max_txt_len: Positive = 128
    end_sym: str = "</s>"

    only_preprocessor: bool = False
    low_resource: bool = False
    device_8bit: int = 0

    @property
    def beats_file(self) -> str:
        """The BEATs file, "" where another encoder or none hears sounds."""
        return self.beats_path if self.audio_encoder == "beats" else ""

    @property
    def audio_class(self) -> str:
        """The class of one's own that hears sounds, "" where there is none."""
        return self.audio_encoder if ":" in self.audio_encoder else ""

    @property
    def checkpoint_path(self) -> str:
        """The checkpoint, "" where none is named or an untrained model is meant (`ckpt: none`)."""
        return "" if means_untrained("model.ckpt", self.ckpt) else self.ckpt


class GenerateConfig(_Section):
    """How answers are decoded.

    Attributes:
        engine: "own" is the decoder of this package, token-equal to transformers' and faster; "transformers" is its
            `generate`, for language models that the own one refuses.
        max_new_tokens: tokens of the longest answer.
        num_beams: beams of the search; 1 takes the likeliest token each time.
        do_sample: whether tokens are drawn.
        min_length: fewest tokens of an answer. 1, which every configuration of the original has, leaves an empty answer
            possible: there it counts the prompt's.
        temperature: counts with `do_sample`.
        top_p: counts with `do_sample`.
        repetition_penalty: above 1 makes tokens that were said less likely.
        length_penalty: above 0 favours longer answers in a beam search, below 0 shorter ones.
        end_sym: what ends an answer; "" means `model.end_sym`.
    """

    engine: Literal["own", "transformers"] = "own"

    max_new_tokens: Positive = 200
    num_beams: Positive = 4
    do_sample: bool = False
    min_length: NotNegative = 1
    temperature: Rate = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    repetition_penalty: PositiveFloat = 1.0
    length_penalty: float = 1.0
    end_sym: str = ""


class DatasetsConfig(_Section):
    """Annotation files (JSON, JSON Lines, or tar shards: `name-{000..012}.tar`) and where their audio is.

    Attributes:
        prefix: folder that audio paths of annotations start from.
        train_ann_path: the training set.
        valid_ann_path: the validation set; "" trains without one.
        test_ann_path: the evaluator's, for every mode; deprecated.
        test_ann_path_asr: the evaluator's, for the asr modes.
        test_ann_path_aac: the evaluator's, for the aac modes.
        test_ann_path_qa: the evaluator's, for the qa modes.
        test_ann_path_cls: the evaluator's, for the cls modes.
        test_ann_path_st: the evaluator's, for the st modes.
        shuffle_choices: the evaluator's, for the qa modes.
        whisper_path: of the original; the features are the model's own.
        cache_dir: folder of memory-mapped annotations and, with `run.cache_features: disk`, of encoded clips; "" means
            `run.output_dir`/cache.
        task_weights: task -> weight: a row of a task with weight 2 is drawn twice as often as one of a task with weight
            1; empty draws every row once a pass.
    """

    prefix: str = ""
    train_ann_path: str = ""
    valid_ann_path: str = ""
    test_ann_path: str = ""
    test_ann_path_asr: str = ""
    test_ann_path_aac: str = ""
    test_ann_path_qa: str = ""
    test_ann_path_cls: str = ""
    test_ann_path_st: str = ""
    shuffle_choices: int | None = None
    whisper_path: str = ""
    cache_dir: str = ""
    task_weights: dict[str, PositiveFloat] = {}


class OptimConfig(_Section):
    """AdamW and its schedule, rates per step: a linear warm-up, then a cosine over the whole run.

    Attributes:
        max_epoch: epochs of the run.
        warmup_steps: steps of the warm-up.
        warmup_start_lr: rate of the first step.
        init_lr: rate at the end of the warm-up.
        min_lr: rate at the end of the run.
        weight_decay: of matrices.
        beta2: of AdamW; beta1 is 0.9.
    """

    max_epoch: Positive = 30
    warmup_steps: NotNegative = 3000
    warmup_start_lr: Rate = 1e-6
    init_lr: PositiveFloat = 3e-5
    min_lr: Rate = 1e-5
    weight_decay: Rate = 0.05
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999


class RunConfig(_Section):
    """One training run, and what answering shares with it.

    Attributes:
        seed: of everything random.
        output_dir: folder of the runs.
        exp_name: a name for the run, of the original.
        device: "auto" (the first GPU, else the CPU), "cpu", "cuda", "cuda:1".
        log_freq: steps between lines of the log.
        epoch_based: True makes an epoch of one pass over the data, False of `iters_per_epoch` steps.
        iters_per_epoch: steps of an epoch.
        accum_grad_iters: steps between updates of the weights.
        batch_size_train: with `world_size` the samples of a step, and the most that a process computes at once.
        batch_size_eval: clips that are encoded together to answer.
        decode_slots: clips that are decoded at a time; 0 means as many as free memory and the device's speed allow.
        bucket_by_length: whether batches are of texts of similar length: less padding.
        drop_last: whether the rest of a pass that fills no batch is left out.
        num_workers: threads that read audio ahead.
        max_unreadable: clips that may be unreadable and are left out; one more stops the run.
        world_size: a step takes `batch_size_train` x `world_size` samples, however many processes share them.
        parallel: "fsdp2" cuts the language model over the processes.
        amp: whether training computes in mixed precision.
        precision: counts with `amp`; "auto" is bfloat16 on GPUs that have it, else float16; float32 on a CPU.
        max_grad_norm: gradients are clipped to this norm; 0 does not clip.
        cache_features: keeps the frozen encoders' outputs as float16: True in memory, "disk" under
            `datasets.cache_dir`.
        valid_every: steps between validations; 0 validates at the end of an epoch only.
        valid_generate: clips of the validation set that are answered for WER and chrF.
        best_metric: what `checkpoint_best.pth` is best at.
        distill: YAML file of a larger model that teaches this one: with it the loss is also how far the predictions of
            the two lie apart. It has the same encoders and the same tokens. "" trains on the texts alone.
        distill_weight: part of the loss that the teacher gives; the texts give the rest.
        distill_temperature: of both models' predictions; above 1 their less likely tokens count more.
        save_every: steps between checkpoints; 0 saves at the end of an epoch only.
        keep_last: checkpoints that are kept besides the best.
        trackers: where figures go besides `metrics.jsonl`.
        use_distributed: of the original; how many processes there are is up to the command that starts them.
        dist_url: of the original; without effect.
        evaluate: False; of the original. The evaluator measures.
    """

    seed: NotNegative = 42
    output_dir: str = "output"
    exp_name: str = ""
    device: str = "auto"
    log_freq: Positive = 5
    epoch_based: bool = False
    iters_per_epoch: Positive = 3000
    accum_grad_iters: Positive = 1
    batch_size_train: Positive = 8
    batch_size_eval: Positive = 8
    decode_slots: NotNegative = 0
    bucket_by_length: bool = False
    drop_last: bool = True
    num_workers: NotNegative = 8
    max_unreadable: NotNegative = 10
    world_size: Positive = 1
    parallel: Literal["ddp", "fsdp2"] = "ddp"
    amp: bool = True
    precision: Precision = "auto"
    max_grad_norm: Rate = 0.0
    cache_features: bool | Literal["disk"] = False
    optims: OptimConfig = OptimConfig()

    valid_every: NotNegative = 0
    valid_generate: NotNegative = 0
    best_metric: Literal["accuracy", "loss", "wer", "chrf"] = "accuracy"
    distill: str = ""
    distill_weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    distill_temperature: PositiveFloat = 2.0
    save_every: NotNegative = 0
    keep_last: Positive = 3
    trackers: list[Literal["tensorboard", "wandb", "mlflow"]] = ["tensorboard"]

    use_distributed: bool = False
    dist_url: str = "env://"
    evaluate: bool = False


class Config(_Section):
    """A whole configuration; `public()` is what may be shown, logged and stored."""

    model: ModelConfig
    generate: GenerateConfig = GenerateConfig()
    datasets: DatasetsConfig = DatasetsConfig()
    run: RunConfig = RunConfig()

    @property
    def token(self) -> str | None:
        """The hub token: the environment's, else the file's, else None."""
        return os.environ.get(TOKEN_VARIABLE) or self.model.token.get_secret_value() or None

    @property
    def end_sym(self) -> str:
        """The text that ends an answer when decoding: `generate.end_sym`, else `model.end_sym`."""
        return self.generate.end_sym or self.model.end_sym

    def public(self) -> dict[str, Any]:
        """Return the configuration as plain nested dicts without the token."""
        return self.model_dump(mode="json", exclude={"model": {"token"}})

    def shareable(self) -> dict[str, Any]:
        """Return `public()` with every path reduced to its last component: what files that people pass on may carry.

        How a model is loaded to answer (`merge_lora`, `bridge_dtype`) is no property of its weights and is left out.

        Example:
            "/home/kim/models/llama" -> "llama"; the hub's "openai/whisper-large-v2" stays.
        """
        tree = self.public()
        del tree["model"]["merge_lora"], tree["model"]["bridge_dtype"]
        for dotted in (*PATHS, "datasets.cache_dir", "run.output_dir"):
            section, _, name = dotted.partition(".")
            tree[section][name] = without_folder(tree[section][name], hub=dotted in PATHS and PATHS[dotted].hub)
        return tree
