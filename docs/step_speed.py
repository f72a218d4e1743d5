"""Milliseconds of an FTFU's closed-form step on a GPU: eager PyTorch, what inductor makes of it, the Triton kernels.

python docs/step_speed.py --measure NAME     measures on this GPU and writes results/step/NAME.json
python docs/step_speed.py                    puts the results into docs/speedups.md
python docs/step_speed.py --check            exits with 1 where they are not there
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from marked import table, update

from fvnet_mm.files import write_text

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "results" / "step", ROOT / "docs" / "speedups.md"
SHAPES = ((16, 48, 200, 336), (64, 24, 56, 56), (1, 48, 128, 128))
FORWARD_MAPS, BOTH_MAPS, COPY_MAPS = 4, 11, 2
"""Maps that have to be read or written at least: forward x, offset, z and the output; backward these three again, the
gradient of the output, and three gradients; a copy of a map, which tells how fast the memory is."""


def measure() -> dict:
    import torch
    import torch.nn.functional as F
    from triton.testing import do_bench

    from fvnet_mm.backbones.fluid_kernel import kernel_step
    from fvnet_mm.backbones.fluid_step import _FluidStep
    from fvnet_mm.backbones.ftfu import closed_form_step

    def closed_form(x, offset, z, leak):
        return closed_form_step(x, x + offset, F.softplus(z), 1 / leak)

    rows = []
    for dtype in (torch.bfloat16, torch.float32):
        for shape in SHAPES:
            for memory in (torch.contiguous_format, torch.channels_last):
                torch.compiler.reset()  # or what was compiled for other sizes counts against its limit
                maps = [torch.randn(shape, device="cuda", dtype=dtype).contiguous(memory_format=memory) for _ in "xoz"]
                leak = torch.rand(shape[1], 1, 1, device="cuda")
                operands = [each.requires_grad_() for each in (*maps, leak)]
                upstream = torch.randn_like(maps[0])
                compiled = torch.compile(closed_form, dynamic=False)
                steps = {
                    "eager": lambda o=operands: _FluidStep.apply(*o, 1.0),
                    "inductor": lambda o=operands, step=compiled: step(*o),
                    "triton": lambda o=operands: kernel_step(*o, 1.0),
                }

                def milliseconds(call) -> float:
                    return do_bench(call, warmup=5, rep=20, return_mode="median")

                def forward_and_backward(step, operands=operands, upstream=upstream) -> None:
                    for each in operands:
                        each.grad = None
                    step().backward(upstream)

                rows.append(
                    dict(
                        shape=shape,
                        dtype=str(dtype).removeprefix("torch."),
                        channels_last=memory is torch.channels_last,
                        copy=milliseconds(upstream.clone),
                        forward={name: milliseconds(step) for name, step in steps.items()},
                        both={
                            name: milliseconds(lambda step=step: forward_and_backward(step))
                            for name, step in steps.items()
                        },
                    )
                )
    return dict(device=torch.cuda.get_device_name(), torch=torch.__version__, rows=rows)


def times_of(result: dict) -> str:
    """Markdown: milliseconds, and the share that the kernels reach of the least time for the memory."""
    header = ("map (N, C, H, W)", "type", "channels last", "pass", "eager", "inductor", "Triton", "floor / Triton")
    rows = []
    for row in result["rows"]:
        for key, name, maps in (("forward", "forward", FORWARD_MAPS), ("both", "forward, backward", BOTH_MAPS)):
            times = row[key]
            share = row["copy"] * maps / COPY_MAPS / times["triton"]
            cells = (f"{times[kind]:.3f}" for kind in ("eager", "inductor", "triton"))
            shape = " x ".join(map(str, row["shape"]))
            last = "yes" if row["channels_last"] else "no"
            rows.append((shape, row["dtype"], last, name, *cells, f"{share:.0%}"))
    return table(header, "llllrrrr", rows)


def tables() -> str:
    text: list[str] = []
    for file in sorted(RESULTS.glob("*.json")):
        result = json.loads(file.read_text())
        text += [times_of(result), "", f"Milliseconds, medians; {result['device']}, torch {result['torch']}.", ""]
    return "\n".join(text[:-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", metavar="NAME", help="measure on this GPU")
    parser.add_argument("--check", action="store_true", help="exit with 1 where the page is not what was measured")
    arguments = parser.parse_args()
    if arguments.measure:
        write_text(RESULTS / f"{arguments.measure}.json", json.dumps(measure(), indent=1) + "\n")
        return
    update(PAGE, "step", tables(), "python docs/step_speed.py", check=arguments.check)


if __name__ == "__main__":
    main()
