"""Recorded trees → rows of the tokens that were sampled, each with its credit. Computed once, used by every consumer.

Nothing is tokenised here: ids and log-probs are those of the model calls ("Exact tokens" of the specification). The
turns of a node make one row as long as each prompt continues where the last answer ended. Each fork begins a new row, in
whose prompt stands what was sampled before the fork, so that every sampled token is trained exactly once.

One quantity has one name on its way from disk to the loss. Two columns keep the names of TRL's file format and tensors:

    quantity                                        trace          row, sample       table           batch, loss
    tokens of a row                                 *_token_ids    input_ids         input_ids       input_ids
    which of them the policy sampled                -              completion_mask   completion_mask -
    log π_behaviour, as the sampler gave it         logprobs       logprobs          old_log_probs   sampling_per_token_logps
    log π_θ, of the model that is trained           -              -                 -               per_token_logps
    A(τ) of the node (Eq. 3)                        -              advantage         advantage       -
    w_d (Eq. 4), times the scale of sub-sampling    -              weight            weight          -
    w_d · A                                         -              coefficient       coefficient     coefficients
    D                                               -              -                 -               denominator
    version of the model's weights                  version        version           model_version   -

(In `trl.experimental.async_grpo` the behaviour's log-probs are `old_log_probs`, in `trl.GRPOTrainer`
`sampling_per_token_logps`; both mean the sampler's. Those of a second forward pass by the trainer, log π_old, are never
written down: see `rao_rl/train/correction.py`.)
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from recursive_agent.model.logprobs import NO_CHANCE, ROUNDING, why_no_logprobs
from recursive_agent.trace.schema import ModelCalled
from recursive_agent.trace.tree import ExecutionTree, Node

from ..credit.assign import CreditConfig, Credits, Size, assign
from ..errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class TokenRow:
    """A conversation, or a part of one, as tokens. Both arrays have shape [S]."""

    input_ids: npt.NDArray[np.int32]
    completion_mask: npt.NDArray[np.bool_]
    """True where the policy produces the token."""

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True, slots=True, eq=False)
class Row(TokenRow):
    """One stretch of a node's conversation without a fork, as it was sampled. The mask is True at least once."""

    logprobs: npt.NDArray[np.float32]
    """Log-prob (nats) of each sampled token under the policy that sampled it, at the place of the token; else 0. [S]."""
    version: str | None
    """Model version of its calls: the lowest where all are numbers, else that of the first call."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """A row to train on. All rows of a node have its advantage and weight."""

    row: Row
    advantage: float
    """A(τ) of the node (Eq. 3)."""
    weight: float
    """Depth weight w_d (Eq. 4), times the scale of node sub-sampling."""
    group: str
    """Id of the group; of the run, where the run is in none."""
    rollout: str
    """Id of the run."""
    node: str
    parent: str | None
    depth: int

    @property
    def input_ids(self) -> npt.NDArray[np.int32]:
        """The row's tokens, [S]."""
        return self.row.input_ids

    @property
    def completion_mask(self) -> npt.NDArray[np.bool_]:
        """True where the policy sampled the token, [S]."""
        return self.row.completion_mask

    @property
    def logprobs(self) -> npt.NDArray[np.float32]:
        """Log-probs under the behaviour policy, [S], 0 where nothing was sampled."""
        return self.row.logprobs

    @property
    def coefficient(self) -> float:
        """What every sampled token's log-prob is multiplied with: w_d · A (Eq. 5)."""
        return self.weight * self.advantage

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, eq=False)
class TreeRows:
    """A tree and the rows of its nodes, which are computed once."""

    tree: ExecutionTree
    rows: Mapping[str, Sequence[Row]]
    """By node id, in launch order; empty for a node that sampled nothing, or that is not trained."""
    others: frozenset[str] = frozenset()
    """Nodes of another model than the one that is trained."""

    @classmethod
    def of(cls, tree: ExecutionTree, *, others: frozenset[str] = frozenset()) -> Self:
        """The rows of a tree; of nodes that are not trained there may be text alone. Raises DataError as `node_rows`."""
        try:
            trained = {node.id for node in tree.nodes.values() if node.trainable and node.id not in others}
            rows = {node.id: node_rows(node) if node.id in trained else [] for node in tree.nodes.values()}
            return cls(tree, rows, others)
        except DataError as error:
            raise DataError(f"run {tree.run}, {error}") from error

    @cached_property
    def sizes(self) -> dict[str, Size]:
        """What credit assignment must know of the rows: by node, the longest row and the sampled tokens."""
        return {
            node: Size(
                longest_row=max(map(len, own), default=0),
                completion_tokens=sum(int(np.count_nonzero(row.completion_mask)) for row in own),
                of_policy=node not in self.others,
            )
            for node, own in self.rows.items()
        }

    @property
    def forks(self) -> int:
        """How often a conversation of the tree did not continue where it had ended."""
        return sum(max(0, len(own) - 1) for own in self.rows.values())


@dataclass(frozen=True, slots=True)
class CreditedBatch:
    """The rows to train of a batch of trees, the credit that they were picked by, and the forks of all its nodes."""

    samples: list[Sample]
    credits: Credits
    forks: int


def with_credit(
    trees: Sequence[TreeRows],
    config: CreditConfig,
    *,
    version: int | None = None,
    rng: random.Random | None = None,
    update: int = 0,
    averages: Mapping[int, float] = {},
) -> CreditedBatch:
    """Assign credit to a batch of trees, and give each row to train its node's credit. See `rao_rl.credit.assign`."""
    credits = assign(
        [each.tree for each in trees],
        config,
        sizes=[each.sizes for each in trees],
        version=version,
        rng=rng,
        update=update,
        averages=averages,
    )
    return CreditedBatch(samples(trees, credits), credits, sum(each.forks for each in trees))


def samples(trees: Sequence[TreeRows], credits: Credits) -> list[Sample]:
    """The rows of the nodes to train, in the order of `credits`, which is that of `trees`."""
    found: list[Sample] = []
    for credit in credits.nodes:
        tree = trees[credit.tree].tree
        found += (
            Sample(
                row=row,
                advantage=credit.advantage,
                weight=credit.weight * credit.scale,
                group=tree.run if tree.group is None else tree.group,
                rollout=tree.run,
                node=credit.node,
                parent=tree.nodes[credit.node].parent,
                depth=credit.depth,
            )
            for row in trees[credit.tree].rows[credit.node]
        )
    return found


def node_rows(node: Node) -> list[Row]:
    """The rows of a node in order; none if it sampled no tokens. A compaction of its conversation begins a new row.

    The tokens of a summary are among those of the row that it ends, unless the run was recorded without training on them.

    Raises DataError for a model call without exact tokens: it has only text, or its log-probs are not finite or not one for
    each token id.
    """
    rows: list[Row] = []
    calls: list[_Call] = []
    seen: tuple[int, ...] = ()
    for recorded in node.model_calls:
        if not recorded.train:
            continue
        call = _exact(recorded)
        if call.prompt[: len(seen)] != seen:
            rows += _merged(calls)
            calls = []
        calls.append(call)
        seen = call.prompt + call.completion
    return rows + _merged(calls)


class _Call(NamedTuple):
    """One model call, in tokens."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    logprobs: npt.NDArray[np.float32]
    version: str | None


def _exact(call: ModelCalled) -> _Call:
    """The tokens of a call. Raises DataError where they are not known exactly."""
    where = f"agent {call.node}, step {call.step}"
    if call.prompt_token_ids is None or call.token_ids is None or call.logprobs is None:
        raise DataError(
            f"{where}: the trace lacks token ids or log-probs, which reinforcement learning needs; record new runs with "
            "interface='tokens', or train on the text with `rao train --objective imitation`"
        )
    # Ids may be of any kind of sequence; tuples compare and join at the speed of C.
    prompt, completion = tuple(call.prompt_token_ids), tuple(call.token_ids)
    logprobs = np.array(call.logprobs, np.float32)
    if not prompt:
        raise DataError(f"{where}: the prompt has no tokens, and a first token cannot be trained")
    if len(completion) != len(logprobs):
        raise DataError(f"{where}: {len(logprobs)} log-probs for {len(completion)} sampled tokens")
    if len(logprobs) and not (logprobs.min() > NO_CHANCE and logprobs.max() <= ROUNDING):  # also where one is NaN
        raise DataError(
            f"{where}: {why_no_logprobs(logprobs.tolist())}, so the importance ratio of its token is undefined; remove this "
            "trace"
        )
    return _Call(prompt, completion, logprobs, call.version)


def _merged(calls: Sequence[_Call]) -> list[Row]:
    """The row of calls of which each continues where the one before ended; none where nothing was sampled."""
    if not any(call.completion for call in calls):
        return []
    lengths: list[int] = []
    end = 0
    for call in calls:
        lengths += (len(call.prompt) - end, len(call.completion))
        end = len(call.prompt) + len(call.completion)
    mask = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    logprobs = np.zeros(end, np.float32)
    logprobs[mask] = np.concatenate([call.logprobs for call in calls])
    ids = np.fromiter(chain(calls[-1].prompt, calls[-1].completion), np.int32, end)
    return [Row(ids, mask, logprobs, _oldest([call.version for call in calls]))]


def _oldest(versions: Iterable[str | None]) -> str | None:
    known = list(versions)
    numbers = [version for version in known if version is not None and version.isdecimal()]
    return min(numbers, key=int) if len(numbers) == len(known) else known[0]
