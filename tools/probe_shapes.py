"""Classifies the objects of the shapes benchmark, cut out of their images: how hard it is, and what context is worth.

python tools/probe_shapes.py data/shapes --model tiny --epochs 20 --out results/shapes/tiny.json
python tools/probe_shapes.py data/shapes --model tiny --epochs 20 --object-only --out results/shapes/tiny_object.json
"""

import argparse
import json
import time
from datetime import datetime, timezone
from pathlib import Path

from fvnet_mm.bench.probe_names import MODELS
from fvnet_mm.cli import count, run_tool, seconds, seed


def probe_shapes_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="folder that tools/make_shapes.py has made")
    parser.add_argument("--model", choices=MODELS, default="tiny")
    parser.add_argument("--epochs", type=count, default=20)
    parser.add_argument("--object-only", action="store_true", help="show the object alone, its surroundings grey")
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--stop-after", type=seconds, metavar="SECONDS", help="stop then; the same command goes on")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the result")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Imports late, so that --help answers at once."""
    import torch

    from fvnet_mm.bench.crop_probe import Probe, cut_out
    from fvnet_mm.data.benchmark.classes import size_class
    from fvnet_mm.data.coco_layout import find_coco
    from fvnet_mm.data.fingerprint import fingerprint
    from fvnet_mm.files import write_text

    started = time.monotonic()
    folder = find_coco(arguments.root)
    train, val = cut_out(folder.train), cut_out(folder.val)
    if arguments.object_only:
        train, val = train.without_surroundings(), val.without_surroundings()
    crops = "object" if arguments.object_only else "window"
    prints = {"train": fingerprint(folder.train), "val": fingerprint(folder.val)}
    state = arguments.out.with_name(f"{arguments.out.name}.state")
    classes, data = len(folder.classes), f"{crops}s of {prints['train']}"
    probe = Probe(arguments.model, classes, arguments.epochs, arguments.seed, state, data)
    while probe.epoch < arguments.epochs:
        loss = probe.train_epoch(train)
        seconds = time.monotonic() - started
        print(f"epoch {probe.epoch}/{arguments.epochs}  loss {loss:.3f}  {seconds:.0f} s", flush=True)
        if arguments.stop_after is not None and seconds > arguments.stop_after and probe.epoch < arguments.epochs:
            print("stopped; the same command goes on")
            return
    predicted = probe.predict(val)
    confusion = torch.bincount(val.labels * classes + predicted, minlength=classes**2).view(classes, classes)
    right = (predicted == val.labels).float()
    sizes = torch.tensor([size_class(area) for area in val.areas.tolist()])
    result = {
        "model": arguments.model,
        "parameters": sum(parameter.numel() for parameter in probe.model.parameters()),
        "crops": crops,
        "epochs": arguments.epochs,
        "seed": arguments.seed,
        "train": {"images": folder.train.image_count, "objects": len(train.labels)},
        "val": {"images": folder.val.image_count, "objects": len(val.labels)},
        "fingerprints": prints,
        "classes": list(folder.classes),
        "accuracy": 100 * right.mean().item(),
        "accuracy_by_size": [
            100 * right[sizes == size].mean().item() if (sizes == size).any() else None for size in range(3)
        ],
        "confusion": confusion.tolist(),
        "torch": torch.__version__,
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    state.unlink(missing_ok=True)
    print(f"accuracy {result['accuracy']:.1f} % of {len(val.labels)} objects, {arguments.out}")


if __name__ == "__main__":
    run_tool(main, probe_shapes_parser())
