"""The three sources of a figure as data for its columns: the toy study, our trained networks, the paper's data sets.

A column is a dictionary with either "face", "source" and what the figure adds, or "empty": what is not there yet, and
the commands that fill it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from findings import names, toy_study, trained
from findings.trained import LEVEL, Study

Column = dict[str, Any]
Data = dict[str, Any]

PRESETS = {"fashion-mnist": "fashion-mnist-tiny"}
"""Where the configuration that fills a column is not named as the data set."""
ERRORS = "errors: 1 standard error"
RISE_ERRORS = "errors: 1 standard error, of a loss that of its rise"
OURS, PAPERS = "fashion-mnist", "cifar10"


def empty(dataset: str, preset: str = "", what: str = "") -> Column:
    """The column of a data set that no run is of yet.

    Args:
        dataset: its name.
        preset: the configuration that fills it; ours of that data set unless told.
        what: is missing, in words.
    """
    preset = preset or PRESETS.get(dataset, dataset)
    return {
        "empty": {
            "what": what or f"{trained.TITLES.get(dataset, dataset)}: no run yet",
            "commands": [
                f"python -m experiments reproduce\n--config {preset}\n--out runs/{preset}",
                f"make figs RUNS=runs/{preset}",
            ],
        }
    }


def place(study: Study) -> str:
    """Where a study lies, without what differs from machine to machine."""
    inside = study.folder.is_relative_to(trained.ROOT)
    return study.folder.relative_to(trained.ROOT).as_posix() if inside else study.name


def of_study(study: Study | None, dataset: str, compute: Callable[[Study], Data], errors: str = ERRORS) -> Column:
    """The column of a study, empty where there is none.

    Args:
        study: whose results are shown.
        dataset: what the column is for.
        found: what the figure shows of it.
        errors: what they are where a method has one run; "" for a picture, which is of one run in any case.
    """
    if study is None:
        return empty(dataset)
    face = f"{study.scale()}, 1 run a method"
    if errors:
        face = f"{study.face()}; {errors if len(study.seeds) == 1 else f'{LEVEL:.0%} intervals'}"
    seeds = len(study.seeds)
    short = f"{study.title} {study.image_size} × {study.image_size}, {seeds} seed{'' if seeds == 1 else 's'}"
    return {"face": face, "short": short, "source": place(study), "rho": study.main_rho, **compute(study)}


def of_toy(compute: Callable[[Data], Data], seeds: int | None = None) -> Column:
    """The toy's column.

    Args:
        found: what the figure shows of the result file.
        seeds: how many of its seeds that is; all, with intervals, where it is None.
    """
    results = toy_study.load()
    face = toy_study.face(results)
    words = toy_study.sentence(face)
    if seeds is not None:
        words = toy_study.sentence({**face, "seeds": seeds}, intervals=False)
    rho = results["configuration"]["methods"]["sam"]["rho"]
    short = toy_study.short(face if seeds is None else {**face, "seeds": seeds})
    return {
        "face": words,
        "short": short,
        "source": "results/toy.json",
        "rho": rho,
        "trial": face["trial"],
        **compute(results),
    }


def columns(
    toy: Callable[[Data], Data],
    study: Callable[[Study], Data],
    *,
    toy_seeds: int | None = None,
    errors: str = ERRORS,
    datasets: Iterable[str] = (OURS, PAPERS),
) -> dict[str, Column]:
    """Toy, ours, and the paper's data set, in this order; arguments as in `of_toy` and `of_study`."""
    columns = {"toy": of_toy(toy, toy_seeds)}
    return columns | {name: of_study(trained.of_dataset(name), name, study, errors) for name in datasets}


def label(method: str, rho: float | None) -> str:
    """A row's name as figures say it, SAM's with its radius: "SAM+EMA, rho = 0.1"."""
    radius = "" if rho is None or "sam" not in method else f", $\\rho$ = {rho:g}"
    return method.upper() + radius


def loss_curve(study: Study, method: str, rho: float | None = None) -> Data:
    """How a row's loss rises along random directions, from distance 0 on, or {"missing": why}.

    One run: the interval is the error of the rise, since all rows are measured on the same images; several: over seeds.
    """
    measure = "curve-random"
    why = study.why_missing(method, measure, rho)
    if why is not None:
        return {"missing": why}
    distances = study.rows_of(method, rho)[0].measure(measure, "distances")
    rises = study.series(method, measure, "rises", rho=rho)
    start = study.value(method, measure, "loss", rho=rho)["mean"]
    return {"x": [0.0, *distances], "loss": start, **{key: [0.0, *rises[key]] for key in ("mean", "low", "high")}}


def toy_loss_curve(results: Data, method: str) -> Data:
    """The toy's, of learnt features; the file has the loss's interval, which the rise is shown with."""
    curve = results["series"][f"learnt/{method}"]["perturbation_curve"]
    start = curve["loss"]["mean"][0]
    return {
        "x": curve["distance"],
        "loss": start,
        **{key: [value - start for value in curve["loss"][key]] for key in ("mean", "low", "high")},
    }


def norm_curves(study: Study, method: str, steps: int, rho: float | None = None) -> Data:
    """Norm of the predicted noise by step, {"training", "sampling", "gap"} each a curve, and two means of the gap."""
    measure = names.exposure(steps)
    why = study.why_missing(method, measure, rho)
    if why is not None:
        return {"missing": why}
    places = study.rows_of(method, rho)[0].measure(measure, "steps")
    measured: Data = {
        name: {"x": places}
        | {key: study.series(method, measure, name, rho=rho)[key] for key in ("mean", "low", "high")}
        for name in ("training", "sampling", "gap")
    }
    return measured | {
        name: study.value(method, measure, name, rho=rho) for name in ("mean_signed_gap", "mean_absolute_gap")
    }


def toy_norm_curves(results: Data, method: str) -> Data:
    """The toy's at T' = 20; the file has no interval of the gap at one step, so its curve has none."""
    row = f"learnt/{method}"
    curves = results["series"][row]["epsilon_norm"]
    data: Data = {name: {"x": curves["step"], **curves[name]} for name in ("training", "sampling")}
    gap = [b - a for a, b in zip(curves["training"]["mean"], curves["sampling"]["mean"], strict=True)]
    return data | {
        "gap": {"x": curves["step"], "mean": gap, "low": gap, "high": gap},
        "mean_signed_gap": toy_study.number(results, row, "signed_gap_20"),
        "mean_absolute_gap": toy_study.number(results, row, "absolute_gap_20"),
    }
