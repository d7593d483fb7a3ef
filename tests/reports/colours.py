"""How far apart colours are to people with each kind of colour blindness, and without any colour.

Colour blindness is simulated as Machado, Oliveira & Fernandes do (2009, doi:10.1109/TVCG.2009.113), at full severity,
in linear sRGB; distances are those of CIELAB (CIE 1976, white D65): 2.3 is about what can just be noticed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
from matplotlib.colors import to_rgb, to_rgba
from numpy.typing import NDArray

Colour = NDArray[np.float64]
VISIONS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def over_white(colour: str, alpha: float = 1.0) -> str:
    """What is seen of a colour that lets the paper through."""
    mixed = [alpha * part + 1 - alpha for part in to_rgb(colour)]
    return "#" + "".join(f"{round(255 * part):02x}" for part in mixed)


def seen(colour: object) -> str:
    """A colour as matplotlib has it, over white."""
    *rgb, alpha = to_rgba(colour)  # type: ignore[arg-type]
    return over_white("#" + "".join(f"{round(255 * part):02x}" for part in rgb), alpha)


def linear(colour: str) -> Colour:
    c = np.array(to_rgb(colour))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(colour: str) -> float:
    """Against white paper (WCAG 2)."""
    return float(1.05 / (_XYZ[1] @ linear(colour) + 0.05))


def lab(rgb: Colour) -> Colour:
    t = (_XYZ @ rgb) / _XYZ.sum(axis=1)
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def as_seen(colour: str, vision: str) -> Colour:
    return lab(np.clip(VISIONS[vision] @ linear(colour), 0, 1))


def distance(one: str, other: str, vision: str) -> float:
    return float(np.linalg.norm(as_seen(one, vision) - as_seen(other, vision)))


def in_grey(one: str, other: str) -> float:
    """Difference in lightness, of 100 between black and white: all that a copier leaves."""
    return float(abs(as_seen(one, "normal")[0] - as_seen(other, "normal")[0]))


DISTANCE, LIGHTNESS = 15.0, 12.0
"""The least that colours side by side must be apart."""


def too_near(colours: Iterable[str]) -> list[tuple[str, str, str, float]]:
    """Pairs that some people, or a copier, would take for one."""
    found = []
    for one, other in itertools.combinations(sorted(set(colours)), 2):
        near = {vision: distance(one, other, vision) for vision in VISIONS}
        found += [(one, other, vision, d) for vision, d in near.items() if d < DISTANCE]
        if in_grey(one, other) < LIGHTNESS:
            found.append((one, other, "grey", in_grey(one, other)))
    return found
