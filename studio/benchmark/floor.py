"""Floor arm: the fastest possible training loop for one model, with forward, backward, clip and optimizer on precomputed inputs.

A separate program without imports from the studio: `python floor.py FOLDER` reads FOLDER/call.json and call.safetensors (one call of the
denoiser, recorded), then reads lines from stdin: "steps N" prints a JSON line with N times in seconds, anything else ends it.
"""

import json
import sys
import time
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file


def rebuild(shape, tensors):
    """Nested lists and dicts in which each {"tensor": name} is replaced by the tensor."""
    if isinstance(shape, dict):
        return tensors[shape["tensor"]] if set(shape) == {"tensor"} else {key: rebuild(value, tensors) for key, value in shape.items()}
    return [rebuild(value, tensors) for value in shape] if isinstance(shape, list) else shape


def main() -> None:
    import diffusers

    folder = Path(sys.argv[1])
    plan = json.loads((folder / "call.json").read_text())
    device, dtype = torch.device(plan["device"]), {"float32": torch.float32, "bfloat16": torch.bfloat16}[plan["dtype"]]
    torch.set_num_threads(plan["threads"])
    moved = {name: (t.to(device, dtype) if t.is_floating_point() else t.to(device)) for name, t in load_file(folder / "call.safetensors").items()}
    target, arguments = moved.pop("target").float(), rebuild(plan["arguments"], moved)

    denoiser = getattr(diffusers, plan["class"]).from_pretrained(plan["base"], subfolder=plan["part"], dtype=dtype).to(device)
    denoiser.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=plan["rank"], lora_alpha=plan["rank"], target_modules=plan["targets"]), denoiser)
    denoiser.train()
    trainable = [weight for weight in denoiser.parameters() if weight.requires_grad]
    for weight in trainable:
        weight.data = weight.data.to(dtype)
    optimizer = torch.optim.AdamW(trainable, lr=1e-4, fused=True, capturable=device.type == "cuda")
    if plan["how"] == "compiled":
        denoiser.compile_repeated_blocks()

    def step() -> None:
        output = denoiser(**arguments, return_dict=False)[0]
        output = torch.stack(output) if isinstance(output, list) else output
        (output.float() - target).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    run = step
    if plan["how"] == "graph":
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        run = graph.replay
    run()
    run()
    answer({"ready": True})
    serve(run, device)


def serve(run, device) -> None:
    """Time each step; on a GPU report the mean of all, since synchronising after each step would slow it down."""
    for line in sys.stdin:
        word, _, count = line.strip().partition(" ")
        if word != "steps":
            return
        times, began = [], time.perf_counter()
        for _ in range(int(count)):
            run()
            if device.type == "cpu":
                times.append(time.perf_counter() - began)
                began = time.perf_counter()
        if device.type == "cuda":
            torch.cuda.synchronize()
            times = [(time.perf_counter() - began) / int(count)]
        answer({"seconds": times, "peak_mb": torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else None})


def answer(output: dict) -> None:
    sys.stdout.write(json.dumps(output) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
