#!/usr/bin/env bash
# Everything that is measured and tested on a GPU, in one command:  benchmarks/gpu.sh [--short] [output folder]
#
# --short takes fewer clips and one repeat: minutes instead of an hour, for figures to a few percent.
# Runs on one NVIDIA GPU that the model fits on (Llama-3.2-3B's size; about 60 GB for the comparison with float32), with
# random weights: nothing is downloaded. Goes on after a failure, and ends with a list of what failed. Every step's
# output is in a file of its own in the output folder (default gpu_results/), figures as JSON beside it.
# PYTHON names the interpreter, default .venv/bin/python. Ends with 0, 1 where something failed, 3 without a GPU.
set -u

cd "$(dirname "$0")/.." || exit 1
python="${PYTHON:-.venv/bin/python}"
answers=() whole=() pieces=()
if [ "${1:-}" = --short ]; then
    shift
    answers=(--clips 96 --original-clips 16 --repeats 1)
    whole=(--latency 6 --agreement 8)
    pieces=(--clips 16 --repeats 1)
fi
out="${1:-gpu_results}"

if ! nvidia-smi -L >/dev/null 2>&1; then
    echo "No NVIDIA GPU is here (nvidia-smi finds none): nothing was run."
    exit 3
fi
if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "There is a GPU, but the PyTorch of $python cannot use it: nothing was run."
    exit 3
fi

mkdir -p "$out" || exit 1
failed=()
# What a step says is in its file at once, also when the step is ended from outside.
export PYTHONUNBUFFERED=1

# step NAME COMMAND...: run a command, its output to the screen and to NAME.txt.
step() {
    local name="$1"
    shift
    echo "== $name: $*"
    "$@" 2>&1 | tee "$out/$name.txt"
    local status="${PIPESTATUS[0]}"
    if [ "$status" -ne 0 ]; then
        echo "== $name failed with $status"
        failed+=("$name")
    fi
}

step gpu nvidia-smi
step tests "$python" -m pytest audiolm-trainer/tests/test_gpu.py -rs
step decoding "$python" benchmarks/bench_decoding.py --device cuda --full "${answers[@]}" --json "$out/decoding.json"
step whole "$python" benchmarks/bench_decoding.py --whole --device cuda --full "${answers[@]}" "${whole[@]}" \
    --json "$out/whole.json"
step components "$python" benchmarks/components.py --device cuda --full --json "$out/components.json"
step front_end "$python" benchmarks/front_end.py --device cuda "${pieces[@]}"
step training "$python" benchmarks/bench_training.py --device cuda "${pieces[@]}"
step whole_float16 "$python" benchmarks/bench_decoding.py --whole --device cuda --full --dtype float16 --repeats 1 \
    "${answers[@]}" "${whole[@]}" --json "$out/whole_float16.json"

if [ "${#failed[@]}" -gt 0 ]; then
    echo "Failed: ${failed[*]} (see $out/)"
    exit 1
fi
echo "Everything ran; the results are in $out/"
