"""What the page says about a run, as HTML; names of files come from users and are escaped."""

import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from addersr.page.run import Outcome, Refused, Run

__all__ = ["SCRIPT", "STYLE", "as_data", "outcomes", "progress", "summary"]

STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
"""CSS."""

SCRIPT = Path(__file__).with_name("paste.js").read_text(encoding="utf-8")
"""JavaScript."""


def progress(run: Run, before: int = 0) -> str:
    """How far a run is: which file, how much of it, the bar of all, and how long it may still take.

    Args:
        before: how many runs have their turn before it.
    """
    if run.begun is None:
        what = f"{before} are before you" if before > 1 else "another is being computed"
        return _bar(f"Waiting for a turn: {what}.", 0.0, "")
    count, done = len(run.order.pictures), len(run.outcomes)
    if done == count:
        return _bar("Finishing", 1.0, "")
    name = escape(run.order.pictures[done].name)
    share = run.share_of_all
    what = f"<b>{name}</b> {run.share:.0%}" if run.share < 1 else f"<b>{name}</b> is being written"
    if count > 1:
        what = f"File {done + 1} of {count}: {what}"
    elapsed = time.perf_counter() - run.begun
    left = f"about {_duration(elapsed / share - elapsed)} left" if share > 0.02 and elapsed > 1 else ""
    return _bar(what, share, left)


def _bar(what: str, share: float, left: str) -> str:
    return (
        f'<div class="telling"><span>{what}</span><span class="faint">{left}</span></div>'
        f'<div class="bar" role="progressbar" aria-valuenow="{share:.0%}">'
        f'<div style="width: {share:.1%}"></div></div>'
    )


def summary(run: Run) -> str:
    """One line about a run that has ended, or has been told to."""
    done, count = len(run.results), len(run.order.pictures)
    refused = len(run.outcomes) - done
    if run.stopped:
        text = f"Stopped after {done} of {count}." if done else "Stopped; none was finished."
    elif count == 1:
        text = "Done." if done else "It could not be done."
    else:
        text = f"{done} of {count} done."
    if refused and count > 1:
        text += f" {refused} could not be done, see below."
    return f'<div class="telling"><span>{text}</span></div>'


def outcomes(all_of_them: Sequence[Outcome]) -> str:
    """What became of each picture."""
    if not all_of_them:
        return ""
    return f'<ul class="outcomes">{"".join(map(_outcome, all_of_them))}</ul>'


def _outcome(outcome: Outcome) -> str:
    name = escape(outcome.name)
    if isinstance(outcome, Refused):
        return f'<li class="refused"><b>{name}</b><span>{escape(outcome.reason)}</span></li>'
    sizes = "{} x {} → {} x {} px".format(*outcome.size, *outcome.result_size)
    if outcome.frames > 1:
        sizes += f", {outcome.frames} frames"
    speed = outcome.megapixels / max(outcome.seconds, 1e-3)
    facts = [
        sizes,
        f"{outcome.seconds:.1f} s, {speed:.2f} megapixels/s",
        f"{escape(outcome.model)}, {outcome.precision}",
    ]
    if outcome.energy_mj is not None and outcome.twin_energy_mj is not None:
        energy = f"about {_energy(outcome.energy_mj)} of arithmetic"
        if outcome.twin_energy_mj != outcome.energy_mj:
            energy += f"; its convolutional twin {_energy(outcome.twin_energy_mj)}"
        if outcome.twin_energy_mj < outcome.energy_mj:
            energy += " (in so few bits the power activation outweighs what the additions save)"
        facts.append(energy)
    return f"<li><b>{name}</b>{''.join(f'<span>{fact}</span>' for fact in facts)}</li>"


def _energy(millijoules: float) -> str:
    if millijoules < 1000:
        return f"{millijoules:.3g} mJ"
    return f"{millijoules / 1000:.3g} J" if millijoules < 1e6 else f"{millijoules / 1e6:.3g} kJ"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min"


def as_data(outcome: Outcome) -> dict[str, Any]:
    """The same for programs."""
    if isinstance(outcome, Refused):
        return {"name": outcome.name, "error": outcome.reason}
    return {
        "name": outcome.name,
        "error": None,
        "result": outcome.placed.download.name,
        "size": outcome.size,
        "result_size": outcome.result_size,
        "frames": outcome.frames,
        "seconds": round(outcome.seconds, 3),
        "megapixels_per_second": round(outcome.megapixels / max(outcome.seconds, 1e-3), 3),
        "model": outcome.model,
        "precision": outcome.precision,
        "energy_mj": outcome.energy_mj,
        "twin_energy_mj": outcome.twin_energy_mj,
    }
