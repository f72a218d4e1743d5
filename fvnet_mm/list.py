"""Lists the configs: parameters, multiply-accumulate operations and protocol of each, in one table.

python -m fvnet_mm.list
python -m fvnet_mm.list --filter upernet --markdown
python -m fvnet_mm.list --backbones
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fvnet_mm.cli import run_tool
from fvnet_mm.errors import UserError
from fvnet_mm.places import CONFIGS, DESCRIPTIONS

if TYPE_CHECKING:
    from mmengine.config import Config, ConfigDict


FRAMEWORKS = ("retinanet", "mask_rcnn", "semantic_fpn", "upernet")
"""The frameworks as configs' names begin, in the order of the table; classification comes last."""

COLUMNS = (
    "Config",
    "Trunk (M)",
    "Whole (M)",
    "MACs (G)",
    "At",
    "Optimizer",
    "Learning rate",
    "Weight decay",
    "Batch",
    "Schedule",
    "Initial weights",
)
BACKBONE_COLUMNS = ("Backbone", "Type", "Channels", "Initial weights")
_NUMBERS = {"Trunk (M)", "Whole (M)", "MACs (G)", "Learning rate", "Weight decay", "Batch"}
_PARTS = ("model", "optim_wrapper.optimizer", "train_cfg", "train_dataloader")  # of a config, that columns tell of


@dataclass(frozen=True)
class Table:
    """A table of text: its columns' names, and sections of rows."""

    columns: tuple[str, ...]
    sections: tuple[tuple[tuple[str, ...], ...], ...]

    def markdown(self) -> str:
        align = ["---:" if column in _NUMBERS else "---" for column in self.columns]
        rows = [self.columns, align, *(row for section in self.sections for row in section)]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def show(self) -> None:
        """Prints it, ruled on a terminal, as plain columns into a file or pipe."""
        from fvnet_mm.terminal_tables import new_table, show

        table = new_table(*self.columns, right=_NUMBERS)
        table.highlight = True
        for section in self.sections:
            for row in section:
                table.add_row(*row)
            table.add_section()
        show(table)


def list_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fvnet_mm.list", description=__doc__.splitlines()[0])
    parser.add_argument("--filter", default="", metavar="TEXT", help="only those with TEXT in their name")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--backbones", action="store_true", help="list the trunks that --backbone NAME accepts")
    parser.add_argument("--configs", type=Path, metavar="DIR", help="folder of configs (default: this repository's)")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Prints a table; what makes it imports late, so that --help answers at once."""
    folder = arguments.configs or CONFIGS
    files = folder / DESCRIPTIONS if arguments.backbones else folder
    paths = sorted(path for path in files.glob("*.py") if arguments.filter in path.stem)
    if not paths:
        what = f"{arguments.filter!r} in the name" if arguments.filter else "the suffix .py"
        raise UserError(f"{files} has no file with {what}; see --filter and --configs DIR.")
    table = backbone_table(paths) if arguments.backbones else config_table(paths)
    if arguments.markdown:
        print(table.markdown())
    else:
        table.show()


def config_table(paths: Iterable[Path]) -> Table:
    """The table of these configs, sorted by framework.

    Raises:
        UserError: One of them cannot be read or lacks a part, or its model cannot be built or counted.
    """
    from rich.console import Console
    from rich.progress import track

    from fvnet_mm.engine.config_file import missing_part, read_config
    from fvnet_mm.engine.quiet import without_remarks

    sections: dict[int, list[tuple[str, ...]]] = {}
    progress = Console(stderr=True)
    for path in track(list(paths), "counting", console=progress, transient=True, disable=not progress.is_terminal):
        cfg = read_config(path, "config")
        part = missing_part(cfg, *_PARTS) or _missing_value(cfg)
        if part is not None:
            raise UserError(f"{path} has no {part}; --configs DIR takes a folder of configs like this repository's.")
        rows = sections.setdefault(_framework(path.stem), [])
        with without_remarks():
            rows.append(_row(path.stem, cfg))
    return Table(COLUMNS, tuple(tuple(rows) for _, rows in sorted(sections.items())))


def backbone_table(paths: Iterable[Path]) -> Table:
    """The table of these backbone descriptions.

    Raises:
        UserError: One of them cannot be read.
    """
    from fvnet_mm.engine.trunk import describe

    rows = []
    for path in paths:
        trunk = describe(path.stem, path.parents[2])
        kind = trunk.backbone.get("model_name") or trunk.backbone.get("arch")
        kind = f"{trunk.backbone.type}, {kind}" if kind else trunk.backbone.type
        rows.append((path.stem, kind, ", ".join(map(str, trunk.channels)), _weights(trunk.weights)))
    return Table(BACKBONE_COLUMNS, (tuple(rows),))


def _missing_value(cfg: Config) -> str | None:
    """The first setting that a training needs and columns tell of, of those parts that a config has; or None."""
    optimizer, length = cfg.optim_wrapper.optimizer, cfg.train_cfg
    stated = {
        "optim_wrapper.optimizer.type": optimizer.get("type"),
        "optim_wrapper.optimizer.lr": optimizer.get("lr"),
        "train_cfg.max_epochs or max_iters": length.get("max_epochs") or length.get("max_iters"),
        "train_dataloader.batch_size": cfg.train_dataloader.get("batch_size"),
    }
    return next((name for name, value in stated.items() if value is None), None)


def _framework(name: str) -> int:
    return next((i for i, framework in enumerate(FRAMEWORKS) if name.startswith(framework)), len(FRAMEWORKS))


def _row(name: str, cfg: Config) -> tuple[str, ...]:
    from fvnet_mm.engine.run_facts import describe_complexity

    size = describe_complexity(cfg)
    height, width = size.shape
    optimizer = cfg.optim_wrapper.optimizer
    return (
        name,
        f"{size.parameters['backbone'] / 1e6:.2f}",
        f"{size.total_parameters / 1e6:.2f}",
        f"{size.total_macs / 1e9:.{1 if size.total_macs > 1e10 else 2}f}",
        f"{width}x{height}",
        str(optimizer.type),
        f"{optimizer.lr:g}",
        f"{optimizer.get('weight_decay', 0):g}",
        str((cfg.get("auto_scale_lr") or {}).get("base_batch_size", cfg.train_dataloader.batch_size)),
        _schedule(cfg.train_cfg),
        _initial_weights(cfg),
    )


def _schedule(train_cfg: ConfigDict) -> str:
    if train_cfg.get("max_iters"):
        return f"{train_cfg.max_iters / 1000:g}k steps"
    return f"{train_cfg.max_epochs} epochs"


def _initial_weights(cfg: Config) -> str:
    """What the trunk starts from: in the words of its description only where it is its trunk and its weights."""
    from fvnet_mm.engine.config import leave_out_published
    from fvnet_mm.engine.run_facts import pretraining
    from fvnet_mm.engine.weights import pretrained_checkpoints
    from fvnet_mm.records.from_config import is_described

    if cfg.get("from_scratch"):
        leave_out_published(cfg)
    start = pretraining(cfg)
    described = cfg.get("weights") if is_described(cfg.to_dict()) else None
    if described and described.get("url") in [part.checkpoint for part in pretrained_checkpoints(cfg.model)]:
        start = _weights(described) if start != "scratch" else start
    return {"scratch": "none", "unstated": "origin unknown"}.get(start, start)


def _weights(weights: ConfigDict | None) -> str:
    """'none', or how the initial weights came about: 'distilled, 450 epochs'."""
    if not weights:
        return "none"
    kind = {True: "distilled", False: "plain"}.get(weights.get("distilled"), "origin unknown")
    return f"{kind}, {weights.epochs} epochs" if weights.get("epochs") else kind


if __name__ == "__main__":
    run_tool(main, list_parser())
