"""The list of what moves what: from the bundled head's shapes to the channels of another face.

A line of the list (`Entry`) is read "channel = gain * source + offset", summed over the lines of
one channel. A source is one of the 52 ARKit shapes, or a viseme (`visemes.RECIPES`): visemes are
solved together, frame by frame, so that the mouth comes nearest to the one that speaks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .drive import Channel, Drive
from .lips import rest_weights
from .mouth import bundled_features, gaps
from .names import SILENCE, Names, is_mouth
from .solve import bounded_least_squares
from .template import bundled_template
from .visemes import RECIPES, recipe


@dataclass(frozen=True)
class Entry:
    """One line of a mapping.

    Attributes:
        source: an ARKit shape or a viseme.
        channel: what it moves.
        gain: the channel's value where the source is at 1.
        offset: added to the channel's value, in the channel's unit.
    """

    source: str
    channel: Channel
    gain: float = 1.0
    offset: float = 0.0


# Where a face lacks a shape, others that come near it: source -> ((shape, share), ...), the first
# of them that the face has.
NEIGHBOURS: dict[str, tuple[tuple[str, float], ...]] = {
    "mouthClose": (("jawOpen", -1.0),),  # on the bundled head one undoes the other
    "mouthFunnel": (("mouthPucker", 0.5),),
    "mouthPucker": (("mouthFunnel", 0.6),),
    "mouthStretch*": (("mouthSmile*", 0.5), ("mouthDimple*", 0.5)),
    "mouthSmile*": (("mouthStretch*", 0.6), ("mouthDimple*", 0.8)),
    "mouthDimple*": (("mouthSmile*", 0.4),),
    "mouthUpperUp*": (("jawOpen", 0.07),),
    "mouthLowerDown*": (("jawOpen", 0.06),),
    "mouthShrugUpper": (("mouthUpperUp*", 0.4),),
}
SIDES = ("Left", "Right")


def entries_by_name(names: Names, target: str, complete: bool = True) -> list[Entry]:
    """The mapping that the names of a face's shape keys suggest.

    Args:
        names: what `names.recognise` found.
        target: name of the object whose keys they are.
        complete: whether neighbours do what missing shapes would.
    """
    keys = {name: Channel(target, "KEY", name) for name in (*names.arkit, *names.visemes)}
    by_name = names.speaks_arkit or not names.visemes
    entries = [
        Entry(source, keys[name], share)
        for name, parts in names.arkit.items()
        for source, share in parts
        if by_name or not is_mouth(source)
    ]
    if not by_name:
        spoken = {name: v for name, v in names.visemes.items() if v != SILENCE}
        return entries + [Entry(viseme, keys[name]) for name, viseme in spoken.items()]
    return entries + _made_up_for(entries) if complete else entries


def _made_up_for(entries: Sequence[Entry]) -> list[Entry]:
    """Lines that have neighbours do what missing shapes would."""
    have: dict[str, list[Entry]] = {}
    for entry in entries:
        have.setdefault(entry.source, []).append(entry)
    more = []
    for pattern, neighbours in NEIGHBOURS.items():
        for side in SIDES if "*" in pattern else ("",):
            source = pattern.replace("*", side)
            if source in have:
                continue
            # A shape without sides is for both.
            for neighbour, share in neighbours:
                both = "*" in neighbour and not side
                named = [neighbour.replace("*", s) for s in (SIDES if both else (side,))]
                found = [entry for name in named for entry in have.get(name, ())]
                if found:
                    more += [Entry(source, e.channel, share * e.gain) for e in found]
                    break
    return more


# --- From the list to values ---------------------------------------------------------------------

# How much the opening of the lips counts, against one point of a lip in one direction; and what
# keeps the solution small and still.
GAP_WEIGHT = 3.0
TONGUE_WEIGHT = 0.3
SIZE, CHANGE = 1e-3, 2e-2
SHAPELY = 2.0  # how much more or less than it opens a drawn mouth may be taken to move elsewhere
# Openings in widths of the mouth: up to the first lips count as closed; from the second on shapes
# that go by name are left as they are; and the deepest overlap.
CLOSED, OPEN, PRESSED = 0.02, 0.12, -0.03


def build_drive(
    entries: Iterable[Entry],
    ranges: Mapping[Channel, tuple[float, float]] = {},
    features: Mapping[Channel, np.ndarray] = {},
    notices: tuple[str, ...] = (),
    same_head: bool = False,
) -> Drive:
    """What a mapping does.

    The resting face (its sealed lips included) is 0 of each source; sources that are not known are
    left out.

    Args:
        ranges: lowest and highest value of channels; 0..1 for other shape keys, none for the rest.
        features: what channels at 1 do to the lips of their face (`Mouth.features`), where its
            lips are known.
        notices: sentences for the drive.
        same_head: the shapes are the bundled head's own, whose lips at rest have to be sealed.
    """
    names = bundled_template().shape_names
    entries = [entry for entry in entries if entry.source in names or entry.source in RECIPES]
    channels = tuple(dict.fromkeys(entry.channel for entry in entries))
    column = {channel: index for index, channel in enumerate(channels)}
    mix = np.zeros((len(names), len(channels)), np.float32)
    offset = np.zeros(len(channels), np.float32)
    visemes = [entry for entry in entries if entry.source in RECIPES]
    for entry in entries:
        offset[column[entry.channel]] += entry.offset
        if entry.source in names:
            mix[names.index(entry.source), column[entry.channel]] += entry.gain
    unknown = {"KEY": (0.0, 1.0)}
    limits = [
        ranges.get(channel, unknown.get(channel.kind, (-np.inf, np.inf))) for channel in channels
    ]
    low, high = np.array(limits, np.float32).reshape(-1, 2).T
    rest = rest_weights(bundled_template())
    reach = [_reach(entry, *limits[column[entry.channel]]) for entry in visemes]
    solver = _Visemes(visemes, features, np.array(reach)) if visemes else None
    seal = None if visemes or same_head else _Seal.of(entries, column, features)
    spread = np.zeros((len(visemes), len(channels)), np.float32)
    for index, entry in enumerate(visemes):
        spread[index, column[entry.channel]] = entry.gain

    def solve(weights: np.ndarray) -> np.ndarray:
        moved = weights - rest
        values = (weights if same_head else moved) @ mix + offset
        if solver is not None:
            values += solver(moved) @ spread
        values = np.clip(values, low, high)
        return seal(moved, values, low, high) if seal is not None else values

    return Drive(channels, solve, notices)


def _shut(opening: np.ndarray) -> np.ndarray:
    """Openings (T,) in widths, with lips that all but touch touching."""
    return np.where(opening > 0, opening * _ramp(opening, CLOSED, 3 * CLOSED), opening)


def _ramp(values: np.ndarray, start: float, stop: float) -> np.ndarray:
    """0 up to `start`, 1 from `stop` on, smooth between."""
    share = np.clip((values - start) / (stop - start), 0.0, 1.0)
    return np.asarray(share * share * (3.0 - 2.0 * share))


def _reach(entry: Entry, low: float, high: float) -> float:
    """The highest weight, 0..1, at which a viseme's channel is still within its range."""
    end = high if entry.gain > 0 else low
    room = (end - entry.offset) / entry.gain if entry.gain else 0.0
    return float(np.clip(room, 0.0, 1.0))


def follow(
    drive: Drive,
    followers: Mapping[Channel, Channel],
    ranges: Mapping[Channel, tuple[float, float]] = {},
    notices: tuple[str, ...] = (),
) -> Drive:
    """A drive with further channels that have the value of another, within their own range.

    Args:
        followers: new channel -> the drive's channel that it follows.
        ranges: as in `build_drive`.
    """
    column = {channel: index for index, channel in enumerate(drive.channels)}
    new = {c: column[leader] for c, leader in followers.items() if c not in column}
    limits = [ranges.get(channel, (0.0, 1.0)) for channel in new]
    low, high = np.array(limits, np.float32).reshape(-1, 2).T
    columns = list(new.values())

    def solve(weights: np.ndarray) -> np.ndarray:
        values = drive(weights)
        return np.concatenate([values, np.clip(values[:, columns], low, high)], 1)

    return Drive((*drive.channels, *new), solve, (*drive.notices, *notices))


def with_still_jaw(drive: Drive) -> Drive:
    """A drive of a face whose jaw stays where it is: mouthClose, which brings the lips together
    over an open jaw, would pull them through each other there. What presses them is left of it."""
    template = bundled_template()
    close, jaw = (template.shape_names.index(name) for name in ("mouthClose", "jawOpen"))
    share = template.gap_per_weight[jaw] / -template.gap_per_weight[close]
    rest = rest_weights(template)[close]

    def solve(weights: np.ndarray) -> np.ndarray:
        weights = weights.copy()
        pressed = weights[:, close] - np.maximum(weights[:, jaw], 0.0) * share
        weights[:, close] = np.minimum(weights[:, close], np.maximum(pressed, rest))
        return drive(weights)

    return Drive(drive.channels, solve, drive.notices)


class _Visemes:
    """Weights of a face's visemes that come nearest to a motion of the bundled head."""

    def __init__(
        self,
        entries: Sequence[Entry],
        features: Mapping[Channel, np.ndarray],
        highest: np.ndarray,
    ) -> None:
        self.highest = highest
        self.head = _with_tongue(bundled_features(), np.eye(len(bundled_template().shape_names)))
        recipes = np.stack([recipe(entry.source) for entry in entries])
        columns = _with_tongue(recipes @ bundled_features(), recipes)
        if all(entry.channel in features for entry in entries):
            own = np.stack([features[entry.channel] for entry in entries])
            # A drawn mouth opens wider than it is: its widest is for our widest.
            ours, theirs = gaps(columns[:, : own.shape[1]]), gaps(own)
            widest = int(np.argmax(ours))
            if theirs[widest] > 0.02:
                scale = ours[widest] / theirs[widest]
                columns[:, : own.shape[1]] = _proportioned(own, columns[:, : own.shape[1]], scale)
        self.columns = _weighted(columns)

    def __call__(self, moved: np.ndarray) -> np.ndarray:
        """(T, n) weights from (T, 52) offsets from the resting face."""
        wanted = moved.astype(np.float64) @ self.head
        opening = np.maximum(_shut(gaps(wanted[:, :-1])), 0.0)
        wanted = _weighted(wanted)
        wanted[:, -1] = opening * GAP_WEIGHT
        return bounded_least_squares(self.columns, wanted, self.highest, SIZE, CHANGE)


def _proportioned(own: np.ndarray, wanted: np.ndarray, scale: float) -> np.ndarray:
    """What a face's mouths do (K, F), each direction as large all in all as wanted (K, F).

    Mouths differ: one that opens little may well be rounded as much as another. Up and down goes
    by `scale`; so does a direction in which a (drawn) mouth hardly moves.
    """
    points, goals = (features.reshape(len(own), -1, 3) for features in (own, wanted))
    size, goal = (np.sqrt((part**2).mean((0, 1))) for part in (points, goals))
    scales = np.divide(goal, size, out=np.full(3, scale), where=size > 0)
    scales = np.clip(scales, scale / SHAPELY, scale * SHAPELY)
    scales[1] = scale
    return (points * scales).reshape(own.shape)


def _with_tongue(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Lip features (K, F), and how far the tongue is out."""
    tongue = weights[:, bundled_template().shape_names.index("tongueOut")] * TONGUE_WEIGHT
    return np.concatenate([features, tongue[:, None]], 1)


def _weighted(features: np.ndarray) -> np.ndarray:
    """Features (K, F + 1) by their importance, and the opening once more by itself."""
    lips = features[:, :-1] / np.sqrt(features.shape[1] / 6)
    return np.concatenate([lips, features[:, -1:], gaps(features[:, :-1])[:, None] * GAP_WEIGHT], 1)


@dataclass(frozen=True, eq=False)
class _Seal:
    """Closes the lips of a face where the bundled head's are closed, whatever its shapes' sizes.

    Attributes:
        opening: (C,) widths by which channels at 1 open the mouth.
        closer, opener: columns of mouthClose and jawOpen.
    """

    opening: np.ndarray
    closer: int
    opener: int

    @classmethod
    def of(
        cls,
        entries: Sequence[Entry],
        column: Mapping[Channel, int],
        features: Mapping[Channel, np.ndarray],
    ) -> _Seal | None:
        """None where the face's lips are not known, or it has no such shapes."""
        opening = np.zeros(len(column), np.float32)
        for channel, index in column.items():
            if channel in features:
                opening[index] = gaps(features[channel])
        own = {
            entry.source: column[entry.channel]
            for entry in entries
            if entry.source in ("mouthClose", "jawOpen") and entry.gain > 0
        }
        opener = own.get("jawOpen", -1)
        closer = own.get("mouthClose", opener)
        if opener < 0 or not opening[opener] > 0.05 or abs(opening[closer]) < 0.05:
            return None
        return cls(opening, closer, opener)

    def __call__(
        self, moved: np.ndarray, values: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> np.ndarray:
        """Values (T, C) with the lips as far open as the bundled head's, where that is little."""
        wanted = moved @ gaps(bundled_features())
        share = 1.0 - _ramp(wanted, CLOSED, OPEN)
        change = share * (np.maximum(_shut(wanted), PRESSED) - values @ self.opening)
        values = values.copy()
        for column in (self.closer, self.opener):
            before = values[:, column].copy()
            after = before + change / self.opening[column]
            if column == self.opener:
                after = np.minimum(after, before)  # pressed lips are no reason to open the jaw
            values[:, column] = np.clip(after, low[column], high[column])
            change = change - (values[:, column] - before) * self.opening[column]
        return values
