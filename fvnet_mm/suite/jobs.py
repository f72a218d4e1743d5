"""The jobs of a suite: one training each, with the command line that a user would type for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fvnet_mm.errors import UserError
from fvnet_mm.places import CONFIGS
from fvnet_mm.suite.schema import DEMO, OWN, Match, Run, Settings, SuiteFile

DATA_SETS = {"retinanet": "coco", "mask_rcnn": "coco", "semantic_fpn": "ade20k", "upernet": "ade20k"}
"""By framework: the data set that its configs are named after."""

DESCRIBED = ".py"
"""How a backbone ends that is the path of its description, and no name."""

_HOST = "fvnet_s"
"""The trunk of the config into which ``--backbone`` puts one that has no config of its own."""


@dataclass(frozen=True)
class Job:
    """One training of a suite.

    Attributes:
        name: Unique in the suite; that of its work dir.
        config: File.
        backbone: Trunk to put into the config, by name or by the absolute path of its description; None for the
            config's own.
        data: 'config', 'demo' or an absolute folder.
        seed: Of everything random.
        settings: The other flags.
        work_dir: Where the run lands.
    """

    name: str
    config: Path
    backbone: str | None
    data: str
    seed: int
    settings: Settings
    work_dir: Path

    def words(self) -> list[str]:
        """The arguments of ``tools/train.py``."""
        settings = self.settings
        words = [str(self.config), "--work-dir", str(self.work_dir), "--seed", str(self.seed)]
        words += ["--demo"] if self.data == DEMO else [] if self.data == OWN else ["--data", self.data]
        words += ["--backbone", self.backbone] if self.backbone is not None else []
        for flag in ("--weights", "--pretraining", "--amp"):
            value = getattr(settings, flag[2:])
            words += [flag, value] if value is not None else []
        for flag in ("--scratch", "--cuda-graphs", "--auto-scale-lr", "--skip-bad-images"):
            words += [flag] if getattr(settings, flag[2:].replace("-", "_")) else []
        return [*words, "--cfg-options", *settings.cfg_options] if settings.cfg_options else words

    def definition(self) -> dict[str, object]:
        """What makes it this training and no other, wherever files and work dirs lie, and however it is computed."""
        settings = self.settings.model_dump(mode="json", exclude={"cuda_graphs"})
        if settings["weights"]:
            settings["weights"] = Path(settings["weights"]).name
        if settings["pretraining"] is None:  # as jobs have it that were begun before there was such a setting
            del settings["pretraining"]
        data = self.data if self.data in (DEMO, OWN) else Path(self.data).name
        backbone = None if self.backbone is None else _label(self.backbone)
        return dict(config=self.config.stem, backbone=backbone, data=data, seed=self.seed, **settings)

    def identity(self) -> str:
        """What tells it from the other jobs of its suite: the definition, and the very files."""
        return repr((self.definition(), str(self.config), self.backbone, self.data, self.settings.weights))


def expand(file: SuiteFile, work_dir: Path) -> tuple[Job, ...]:
    """All jobs of a suite, the grid's first, seeds last.

    Args:
        file: Its names are known and its files exist.
        work_dir: Folder of the jobs' work dirs.

    Raises:
        UserError: Two jobs are the same or would share a folder, an exclusion or override matches no job, or there is
            none left.
    """
    grid = list(_grid(file, work_dir))
    jobs = [*grid, *(job for run in file.runs for job in _runs(file, run, work_dir))]
    if not jobs:
        raise UserError("exclude leaves out every job, so there is nothing to train.")
    names: dict[str, Job] = {}
    identities: dict[str, Job] = {}
    for number, job in enumerate(jobs):
        if (twin := identities.setdefault(job.identity(), job)) is not job:
            same = f"{job.name} twice" if twin.name == job.name else f"{twin.name} and {job.name}, the same training"
            raise UserError(f"the suite asks for {same}; leave one out.")
        if names.setdefault(job.name, job) is not job:
            if number < len(grid):  # whose jobs take no names
                raise UserError(
                    f"two different jobs of the grid would be called {job.name}; rename a folder or file of one, "
                    "or list it under runs with a name."
                )
            raise UserError(f"two different runs would be called {job.name}; give one of them a name.")
    return tuple(jobs)


def _grid(file: SuiteFile, work_dir: Path) -> Iterator[Job]:
    used: set[int] = set()
    for framework in file.frameworks:
        for backbone in file.backbones:
            for data in file.data:
                for seed in file.seeds:
                    point = (backbone, framework, data, seed)
                    if _matching(file.exclude, point, used):
                        continue
                    settings = _own(file)
                    for override in _matching(file.overrides, point, used):
                        settings = settings.overridden(override)
                    stem = f"{framework}_{_label(backbone)}_{DATA_SETS[framework]}"
                    config, plugged = CONFIGS / f"{stem}.py", None
                    if backbone.endswith(DESCRIBED) or not config.is_file():
                        host = f"{framework}_{_HOST}_{DATA_SETS[framework]}"
                        config, plugged = CONFIGS / f"{host}.py", backbone
                    yield _job(stem, config, plugged, data, seed, settings, work_dir)
    for what, entries in (("exclude", file.exclude), ("overrides", file.overrides)):
        for number, entry in enumerate(entries):
            if id(entry) not in used:
                raise UserError(f"{what}.{number} matches no job of the grid; mend it or leave it out.")


def _matching(entries: tuple, point: tuple[str, str, str, int], used: set[int]) -> list:
    """The entries that take a job of the grid; notes that they took one."""
    found = [entry for entry in entries if (entry if isinstance(entry, Match) else entry.match).takes(*point)]
    used.update(map(id, found))
    return found


def _runs(file: SuiteFile, run: Run, work_dir: Path) -> Iterator[Job]:
    settings = _own(file).overridden(run)
    stem = run.name or "_".join(filter(None, (run.config.stem, run.backbone and _label(run.backbone))))
    for seed in run.seeds:
        yield _job(stem, run.config, run.backbone, run.data, seed, settings, work_dir, named=run.name is not None)


def _label(backbone: str) -> str:
    """What a backbone is called: a name as it is, a file without its folder and suffix."""
    return Path(backbone).stem if backbone.endswith(DESCRIBED) else backbone


def _own(file: SuiteFile) -> Settings:
    return Settings().overridden(file)


def _job(
    stem: str,
    config: Path,
    backbone: str | None,
    data: str,
    seed: int,
    settings: Settings,
    work_dir: Path,
    named: bool = False,
) -> Job:
    label = "" if data == OWN or named else f"_{Path(data).name}"
    name = re.sub(r"[^\w.-]", "_", f"{stem}{label}_seed{seed}")
    return Job(name, config, backbone, data, seed, settings, work_dir / name)
