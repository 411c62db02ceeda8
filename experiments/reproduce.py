"""The whole matrix: every run trained, every row measured, grids of samples for each run, and the tables.

    out/plan.json                what is to be done; a folder of another plan is refused
    out/runs/<run>/              the runs' folders: checkpoints, metrics
    out/rows/<run>-<average>.json
    out/samples/<run>-T<T'>-<bits>bit.png    from the EMA, all from the same noise
    out/tables.json, tables.md

Every stage goes on where it was stopped and skips what is there, and gives the same files as without the stop, but for
the seconds in the rows. A run may also have been trained elsewhere, by `train --out out/runs/<run>` on many GPUs.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from experiments.commands.progress import duration
from experiments.configuration import Configuration, Method, RunOptions, WeightNoiseOptions, current_settings
from experiments.data import Images
from experiments.measures.options import EvaluationOptions
from experiments.measures.points import FOLDER, PointOptions, StudyMaterial, run_points
from experiments.measures.rows import Checkpoint, check_material, check_options, evaluate
from experiments.measures.runner import Progress
from experiments.measures.sample_grids import write_grids
from experiments.measures.subject import GRADIENT_BATCH, Material
from experiments.study import TRAINING_PASSES, Job, cost_of, side_by_side
from experiments.training import planning
from experiments.training.checkpoints import checkpoint_folder, newest_good, read_configuration, step_of, verify
from experiments.training.events import Watcher
from experiments.training.trainer import train
from findings import comparisons, tables
from findings.checksums import EDITED
from findings.documents import document_text, read_document, refuse_other
from findings.files import write_whole
from findings.names import AVERAGES, PAPER_METHODS, Average
from flatness import arguments

POLL = 2.0
"""Seconds between looks for other processes' files."""
DONE = "trained"
"""The file that says so in a run's folder."""


class Run(NamedTuple):
    """One run of the matrix: a folder's name, and what is trained in it."""

    name: str
    configuration: Configuration


class Reproduction(NamedTuple):
    """What came out.

    Attributes:
        results: of all rows.
        tables: of the results.
        statement: what the rows say against each other, line by line.
    """

    results: list[dict[str, Any]]
    tables: list[tables.Table]
    statement: list[str]


def shortened(configuration: Configuration, steps: int) -> Configuration:
    """The configuration with another number of steps; the averages' lengths stay the same shares of the run."""
    ratio = arguments.count("steps", steps, at_least=1) / configuration.steps
    averages = configuration.averages
    return dataclasses.replace(
        configuration,
        steps=steps,
        averages=dataclasses.replace(
            averages,
            ema_decay=max(0.0, 1.0 - (1.0 - averages.ema_decay) / ratio),
            swa_cycle=max(1, round(averages.swa_cycle * ratio)),
        ),
    )


def matrix(
    base: Configuration,
    radii: Sequence[float] = (),
    seeds: Sequence[int] = (),
    noises: Sequence[float] = (),
    methods: Sequence[Method] | None = None,
) -> list[Run]:
    """adm, ip and sam, the last for each radius; random weight perturbation for each noise; and all for each seed.

    Args:
        base: everything else.
        radii: values of rho; the base's where there are none.
        seeds: of training; the base's where there are none.
        noises: values of noise_sigma; where there are none, and the methods do not name it, no run is of rwp.
        methods: which; the paper's three by default, and rwp where there are noises.

    Raises:
        ValueError: a radius, noise, seed or method is not allowed, or given twice; radii or noises of no method.
    """
    chosen = tuple(methods) if methods is not None else (*PAPER_METHODS, *(("rwp",) if noises else ()))
    for name, given in (("radii", radii), ("seeds", seeds), ("noises", noises), ("methods", chosen)):
        if len(set(given)) != len(given):
            raise arguments.refuse(name, given, "each value once")
    if radii and not any("sam" in method for method in chosen):
        raise arguments.refuse("radii", radii, f"none with the methods {chosen}, of which none is SAM's")
    if noises and "rwp" not in chosen:
        raise arguments.refuse("noises", noises, f"none with the methods {chosen}, among which rwp is not")
    runs = []
    for seed in seeds or (base.seed,):
        of_seed = f"-seed-{seed}" if len(seeds) > 1 else ""
        for method in chosen:
            for dosed, of_dose in _doses(base, method, radii, noises):
                runs.append(Run(method + of_dose + of_seed, dataclasses.replace(dosed, method=method, seed=seed)))
    return runs


def _doses(
    base: Configuration, method: Method, radii: Sequence[float], noises: Sequence[float]
) -> list[tuple[Configuration, str]]:
    """The configuration at each dose of a method, and what the dose adds to a run's name."""
    if "sam" in method:
        values = radii or (base.sam.rho,)
        changed = [dataclasses.replace(base, sam=dataclasses.replace(base.sam, rho=rho)) for rho in values]
        return [(c, f"-rho-{rho:g}" * (len(values) > 1)) for c, rho in zip(changed, values, strict=True)]
    if method == "rwp":
        values = noises or (base.weight_noise.noise_sigma,)
        changed = [dataclasses.replace(base, weight_noise=WeightNoiseOptions(sigma)) for sigma in values]
        return [(c, f"-sigma-{sigma:g}" * (len(values) > 1)) for c, sigma in zip(changed, values, strict=True)]
    return [(base, "")]


class Matrix:
    """Carries it out.

    Args:
        out: the folder.
        runs: of the matrix.
        options: of the measures.
        images: to train on.
        material: to measure with.
        run_options: of a run, given its folder.
        watchers: new ones for a run.
        device: where rows are measured.
        batch_size: images in one pass of measuring.
        gradient_batch: images in one backward pass of measuring.
        watch: called by `evaluate`.
        points: steps after which runs' weights are measured along their way; none by default.
        point_options: how finely.
        part, parts: which of how many equal parts of the rows, and of the runs' points, this process measures.

    Raises:
        ValueError: runs of these configurations cannot be measured so.
    """

    def __init__(
        self,
        out: Path,
        runs: Sequence[Run],
        options: EvaluationOptions,
        images: Images,
        material: Material,
        *,
        run_options: Callable[[Path], RunOptions],
        watchers: Callable[[], Sequence[Watcher]] = tuple,
        device: torch.device | str = "cpu",
        batch_size: int = 128,
        gradient_batch: int = GRADIENT_BATCH,
        watch: Callable[[Progress], None] = lambda progress: None,
        points: tuple[int, ...] = (),
        point_options: PointOptions | None = None,
        part: int = 0,
        parts: int = 1,
    ) -> None:
        """Nothing is begun yet."""
        for run in runs:
            check_options(run.configuration, options)
            check_material(run.configuration, material)
            if not run.configuration.swa_models:  # all of them would be trained, and the last rows missing
                raise ValueError(
                    f"steps is {run.configuration.steps}; allowed: so many that a multiple of averages.swa_cycle, "
                    f"{run.configuration.averages.swa_cycle}, lies between averages.swa_start and the last step"
                )
        self.out, self.runs, self.options, self.images, self.material = out, list(runs), options, images, material
        self.run_options, self.watchers = run_options, watchers
        self.device, self.batch_size, self.gradient_batch, self.watch = device, batch_size, gradient_batch, watch
        self.points, self.point_options = points, point_options or PointOptions()
        self.part, self.parts = part, arguments.count("parts", parts, at_least=1)
        self._failures: list[str] = []
        self._read: dict[Path, dict[str, Any]] = {}
        self._study: StudyMaterial | None = None

    def plan(self, workers: int = 1) -> list[str]:
        """What the whole takes, run by run, at the rate of a few timed steps on this device; writes nothing."""
        lines, total = [], 0.0
        timed: dict[Any, float] = {}
        for run in self.runs:
            c = run.configuration
            training, measuring = cost_of(c, self.points, self.point_options)
            shape = (c.network, c.global_batch)
            if shape not in timed:
                timing = planning.timed(c, torch.device(self.device), c.global_batch)
                seconds = statistics.median(timing.passes) + statistics.median(timing.update)
                timed[shape] = seconds / (TRAINING_PASSES * c.global_batch)
            left = 0.0 if self._finished(run) else (training + measuring) * timed[shape]
            total += left
            state = "done" if not left else f"about {duration(left)}"
            lines.append(f"{run.name}: {training:,.0f} passes of training, {measuring:,.0f} of measuring; {state}")
        share = total / max(workers, 1)
        base = self.runs[0].configuration
        lines.append(f"EMA of each run: {planning.start_in_words(base, base.steps)}")
        return [*lines, f"In all about {duration(total)} of one process, {duration(share)} with {workers}"]

    def side_by_side(self, workers: int, command: Callable[[str], Sequence[str]]) -> list[str]:
        """Train the runs, and measure them at their points, in so many processes; the names of those that failed."""
        self._planned()
        jobs = [
            Job(run.name, sum(cost_of(run.configuration, self.points, self.point_options)), self._finished(run))
            for run in self.runs
        ]
        return side_by_side(jobs, command, self.out, workers)

    def trained_and_measured(self, runs: Sequence[Run]) -> None:
        """Train these runs, and measure them at their points; no rows and no tables.

        Raises:
            As `carried_out`.
        """
        self._planned()
        if self.parts > 1:  # ranks train together, and would wait for each other's measuring
            for run in runs:
                self._train(run)
        for run in runs[self.part :: self.parts]:
            if self.parts == 1:
                self._train(run)
            if self.points:
                self._measured_points(run)

    def measured_rows(self) -> None:
        """Measure this process's part of the rows of runs that are trained.

        Raises:
            As `carried_out`.
        """
        for run, average in self._rows()[self.part :: self.parts]:
            self._row(run, average)

    @property
    def measured(self) -> bool:
        """Whether all rows' files are there, and with points all runs'."""
        paths = [self._row_path(run, average) for run, average in self._rows()]
        paths += [self._points_path(run) for run in self.runs if self.points]
        return all(path.exists() for path in paths)

    def _rows(self) -> list[tuple[Run, Average]]:
        return [(run, average) for run in self.runs for average in AVERAGES]

    def _row_path(self, run: Run, average: Average) -> Path:
        return self.out / "rows" / f"{run.name}-{average}.json"

    def _finished(self, run: Run) -> bool:
        trained = (self._folder(run) / DONE).exists()
        return trained and (not self.points or self._points_path(run).exists())

    def _points_path(self, run: Run) -> Path:
        return self.out / FOLDER / f"{run.name}.json"

    def _measured_points(self, run: Run) -> dict[str, Any]:
        if self._study is None:
            if self.material.features is None:
                raise ValueError("features is None; allowed with points to measure at: a feature space")
            self._study = StudyMaterial.of(
                self.images, self.material.held_out, self.material.features, self.point_options, self.device
            )
        return run_points(self._folder(run), run.name, self.points, self._study, self._points_path(run), print)

    def carried_out(self) -> Reproduction:
        """All stages, or what is left of them; with several parts, once the others' rows are there.

        Raises:
            ResultError: the folder's plan is another one, or a file in it is of other settings.
            CheckpointError: as `train`.
            KeyboardInterrupt: training was stopped by a signal; its checkpoint is written.
        """
        self.trained_and_measured(self.runs)
        self.measured_rows()
        while not self.measured:  # by other parts; a launcher ends this process where one of theirs fails
            time.sleep(POLL)
        results = [self._row(run, average) for run, average in self._rows()]
        self._failures = [failure for run in self.runs for failure in self._grids(run)]
        return self._tables(results)

    def _folder(self, run: Run) -> Path:
        return self.out / "runs" / run.name

    def _planned(self) -> None:
        """Write the plan, or hold it against the one that is there."""
        features = self.material.features
        wanted = {
            "runs": {run.name: run.configuration.to_dict() for run in self.runs},
            "evaluation": dataclasses.asdict(self.options),
            "data": self.images.fingerprint,
            "device": torch.device(self.device).type,
            "features": None if features is None else {"name": features.name, "sha256": features.identity},
        }
        if self.points:
            wanted["points"] = {"at": list(self.points), "options": dataclasses.asdict(self.point_options)}
        path = self.out / "plan.json"
        if path.exists():
            refuse_other(path, current_settings(read_document(path).get("settings", {})), wanted)
        else:
            write_whole(path, document_text({"settings": wanted}))

    def _train(self, run: Run) -> None:
        """Train; a run is done when what watches it has been told of its end, which the last checkpoint precedes."""
        folder, steps = self._folder(run), run.configuration.steps
        if (folder / DONE).exists() and self._is_there(run):
            return
        reached = train(run.configuration, self.run_options(folder), self.images, self.watchers())
        if reached < steps:
            raise KeyboardInterrupt
        write_whole(folder / DONE, f"{steps} steps\n".encode())

    def _is_there(self, run: Run) -> bool:
        """Whether the last checkpoint is whole and this run's; where it is not, `train` goes on, or says why not."""
        newest, broken = newest_good(self._folder(run))
        if newest is None or broken or step_of(newest) != run.configuration.steps:
            return False
        same_data = verify(newest, ("state.json",))["data"] == self.images.fingerprint
        return same_data and not read_configuration(newest).differences(run.configuration)

    def _checkpoint(self, run: Run) -> Checkpoint:
        return Checkpoint.of(checkpoint_folder(self._folder(run), run.configuration.steps))

    def _row(self, run: Run, average: Average) -> dict[str, Any]:
        path = self._row_path(run, average)
        if path in self._read:
            return self._read[path]
        self._read[path] = evaluate(
            self._checkpoint(run),
            average,
            self.options,
            self.material,
            path,
            device=self.device,
            batch_size=self.batch_size,
            gradient_batch=self.gradient_batch,
            watch=self.watch,
        )
        return self._read[path]

    def _grids(self, run: Run) -> list[str]:
        return write_grids(
            self.out / "samples",
            run.name,
            self._checkpoint(run),
            self.options,
            device=self.device,
            batch_size=self.batch_size,
        )

    def _tables(self, results: list[dict[str, Any]]) -> Reproduction:
        """Written anew each time: they follow from the rows."""
        shown, compared = tables.tables(results), comparisons.compared(results)
        edited = [
            f"{result['row']}: edited by hand, accepted on {', '.join(result[EDITED])}"
            for result in results
            if EDITED in result
        ]
        statement = [*comparisons.statement(results, compared), *edited, *self._failures]
        document = {
            "what": "the paper's tables, from the result files in rows/",
            "tables": tables.document(shown),
            "comparisons": [one.entry() for one in compared],
            "statement": statement,
        }
        write_whole(self.out / "tables.json", document_text(document))
        write_whole(self.out / "tables.md", self._page(shown, statement).encode())
        return Reproduction(results, shown, statement)

    def _page(self, of_rows: Sequence[tables.Table], statement: Sequence[str]) -> str:
        c = self.runs[0].configuration
        about = f"{c.dataset} at {c.network.image_size} pixels, {c.steps} steps of {c.global_batch} images"
        radii = dict.fromkeys(run.configuration.sam.rho for run in self.runs if run.configuration.perturbs_weights)
        seeds = dict.fromkeys(run.configuration.seed for run in self.runs)
        errors = "over images, samples and weight noise"
        if len(seeds) > 1:
            errors = f"over training seeds (none of {tables.FLOOR}, which no run is of)"
        head = [
            f"## {about}",
            "",
            f"SAM's rho: {', '.join(map(str, radii))}. Training seeds: {', '.join(map(str, seeds))}. A value ± its "
            f"standard error, {errors}. What it was computed with stands in plan.json and in each row's file.",
            "",
        ]
        return "\n".join([*head, tables.markdown(of_rows), *(f"- {line}" for line in statement), ""])
