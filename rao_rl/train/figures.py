"""What is counted of the sampled tokens of a step while it is trained: sums and maxima, which processes can join."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..data.rows import Sample
from .correction import Corrected, Correction
from .loss import Clip, Scored, clipped, importance_ratio, mismatch_kl

SUMS = (
    *("tokens", "entropy", "ratio", "clipped", "kl", "difference", "losses", "coefficients"),
    *("policy_ratio", "weight", "bounded"),
    *("forwarded", "real"),
)
POSITIONS = (16, 64, 256, 1024)
"""Where a new class of positions begins, among the tokens that an agent has sampled."""
_CLASSES = tuple(
    f"{first}-{'' if last is None else last - 1}"
    for first, last in zip((0, *POSITIONS), (*POSITIONS, None), strict=True)
)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the sampled tokens of a step stand: in which node, at which depth, how far into what the node sampled.

    A node's rows are read in the order of the step. `cells` [n] of a row are depth · classes of positions + class.
    """

    nodes: tuple[int, ...]
    """By row, the number of its node."""
    cells: tuple[npt.NDArray[np.int64], ...]
    """By row, the cell of each sampled token."""
    depths: int

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Places:
        """The places of a step's rows."""
        numbers: dict[tuple[str, str], int] = {}
        begun: dict[int, int] = {}
        nodes, cells = [], []
        for sample in samples:
            node = numbers.setdefault((sample.rollout, sample.node), len(numbers))
            first = begun.get(node, 0)
            begun[node] = last = first + int(np.count_nonzero(sample.completion_mask))
            kinds = np.searchsorted(POSITIONS, np.arange(first, last), side="right")
            nodes.append(node)
            cells.append(sample.depth * len(_CLASSES) + kinds.astype(np.int64))
        return cls(tuple(nodes), tuple(cells), 1 + max((sample.depth for sample in samples), default=0))

    @property
    def node_count(self) -> int:
        """Nodes of the step."""
        return 1 + max(self.nodes, default=-1)

    def of_tokens(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Node and cell, [N] each, of the sampled tokens of rows, one row after the other."""
        sizes = [len(self.cells[row]) for row in rows]
        nodes = np.repeat([self.nodes[row] for row in rows], sizes).astype(np.int64)
        cells = np.concatenate([np.zeros(0, np.int64), *(self.cells[row] for row in rows)])
        return torch.from_numpy(nodes), torch.from_numpy(cells)


@dataclass(slots=True)
class Policies:
    """What is known of the other policies of a step before a pass over it."""

    places: Places
    old: dict[int, torch.Tensor] = field(default_factory=dict)
    """By row of this process, log π_old of its sampled tokens, where that is not log π_θ."""
    sequence: torch.Tensor | None = None
    """By node, Σ over its sampled tokens of the log-ratio; where weights are those of sequences. [nodes], float64."""


@dataclass(slots=True)
class Figures:
    """`sums`: those of SUMS, then tokens, ρ and KL of each cell. `highest`: the greatest ρ, π_θ / π_old, and ρ of each cell."""

    sums: torch.Tensor
    highest: torch.Tensor

    @classmethod
    def none(cls, depths: int) -> Figures:
        """Of no tokens."""
        cells = depths * len(_CLASSES)
        return cls(torch.zeros(len(SUMS) + 3 * cells, dtype=torch.float64), torch.zeros(2 + cells, dtype=torch.float64))

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        scored: Scored,
        losses: torch.Tensor,
        corrected: Corrected,
        cells: torch.Tensor,
        *,
        sampling_per_token_logps: torch.Tensor,
        coefficients: torch.Tensor,
        clip: Clip,
        forwarded: int,
        real: int,
        depths: int,
    ) -> Figures:
        """Of the tokens of a bin; all tensors have shape [N]."""
        made = cls.none(depths)
        ratio = importance_ratio(scored.per_token_logps, sampling_per_token_logps)
        policy = importance_ratio(scored.per_token_logps, corrected.old_per_token_logps)
        kl = mismatch_kl(scored.per_token_logps, sampling_per_token_logps)
        columns = (
            torch.ones_like(ratio),
            scored.entropy,
            ratio,
            clipped(policy, coefficients, clip).float(),
            kl,
            (scored.per_token_logps - sampling_per_token_logps).abs(),
            losses,
            coefficients.abs(),
            policy,
            corrected.weights,
            corrected.bounded.float(),
        )
        made.sums[: len(columns)] = torch.stack([column.double().sum() for column in columns]).cpu()
        made.sums[len(columns) : len(SUMS)] = torch.tensor([forwarded, real], dtype=torch.float64)
        if len(ratio):
            ratio, policy, kl = ratio.double().cpu(), policy.double().cpu(), kl.double().cpu()
            table = made.sums[len(SUMS) :].view(3, -1)
            for line, values in zip(table, (None, ratio, kl), strict=True):
                line += torch.bincount(cells, values, minlength=len(line))
            made.highest[0], made.highest[1] = ratio.max(), policy.max()
            made.highest[2:].scatter_reduce_(0, cells, ratio, "amax")
        return made

    def add(self, other: Figures) -> None:
        """Join those of other tokens."""
        self.sums += other.sums
        self.highest = torch.maximum(self.highest, other.highest)

    def over_processes(self, accelerator: Any) -> Figures:
        """Those of the tokens of all processes together."""
        if accelerator.num_processes == 1:
            return self
        sums = accelerator.reduce(self.sums.to(accelerator.device), "sum").cpu()
        return Figures(sums, accelerator.gather(self.highest.to(accelerator.device)[None]).amax(0).cpu())

    @property
    def by_name(self) -> Mapping[str, float]:
        """The sums of SUMS."""
        return dict(zip(SUMS, self.sums[: len(SUMS)].tolist(), strict=True))

    def mean(self, name: str) -> float:
        """Mean over the tokens of one of SUMS."""
        return self.by_name[name] / max(1.0, self.by_name["tokens"])

    def drift(self) -> dict[str, float]:
        """ρ and mismatch KL by depth, and by position among the tokens that an agent sampled; only where there are tokens."""
        table = self.sums[len(SUMS) :].view(3, -1, len(_CLASSES))
        highest = self.highest[2:].view(-1, len(_CLASSES))
        figures: dict[str, float] = {}
        for depth, (tokens, ratio, kl) in enumerate(table.sum(2).T.tolist()):
            if tokens:
                figures[f"rao/ratio_mean/depth_{depth}"] = ratio / tokens
                figures[f"rao/ratio_max/depth_{depth}"] = float(highest[depth].max())
                figures[f"rao/mismatch_kl/depth_{depth}"] = kl / tokens
        for number, (tokens, ratio, kl) in enumerate(table.sum(1).T.tolist()):
            if tokens:
                place = _CLASSES[number]
                figures[f"rao/ratio_mean/position_{place}"] = ratio / tokens
                figures[f"rao/ratio_max/position_{place}"] = float(highest[:, number].max())
                figures[f"rao/mismatch_kl/position_{place}"] = kl / tokens
        return figures


def metrics_of(passes: Sequence[Figures], correction: Correction) -> dict[str, float]:
    """The metrics of a step's tokens before its first update; of what its updates change, those of all passes over it."""
    first = passes[0]
    figures = {
        "entropy": first.mean("entropy"),
        "sampling/importance_sampling_ratio/mean": first.mean("ratio"),
        "sampling/importance_sampling_ratio/max": float(first.highest[0]),
        "sampling/sampling_logp_difference/mean": first.mean("difference"),
        "clip_ratio/region_mean": mean(each.mean("clipped") for each in passes),
        "rao/mismatch_kl": first.mean("kl"),
        "rao/trained_tokens": first.by_name["tokens"],
        "rao/forwarded_over_logical_tokens": first.by_name["forwarded"] / max(1.0, first.by_name["real"]),
        **first.drift(),
    }
    if correction.mode is not None:
        figures["rao/importance_weight/mean"] = mean(each.mean("weight") for each in passes)
        figures["rao/importance_weight/bounded"] = mean(each.mean("bounded") for each in passes)
    if correction.old_logprobs == "trainer":
        figures["rao/policy_ratio/mean"] = mean(each.mean("policy_ratio") for each in passes)
        figures["rao/policy_ratio/max"] = max(float(each.highest[1]) for each in passes)
    return figures
