"""The strategies of point affinity distillation: which affinities it compares (Section 4.5.2).

A strategy is a registered function of

    query (EncodedView): view v by the encoder f^E, with the embeddings p_i of its points
    key (EncodedView): view v' by the momentum encoder f^M, with the embeddings p'_k of its points
    encode_key (callable): images (B, 3, H, W) to a projected map of f^M, for a further pass

and returns :class:`Affinities`. A prime on an index means that f^M made the embedding; i and k are
points of v unless said otherwise.
"""

from typing import Callable, NamedTuple, Optional

from torch import Tensor

from plrc_plugin.models.embedding import embed_points
from plrc_plugin.models.view_batch import EncodedView
from plrc_plugin.registry import STRATEGIES
from plrc_plugin.views.geometry import inside, view_to_view

Strategy = Callable[[EncodedView, EncodedView, Callable[[Tensor], Tensor]], 'Affinities']


class Affinities(NamedTuple):
    """The points whose affinities L_a compares, l2-normalised; the arguments of its loss.

    Attributes:
        student_queries: (B, M, D), the anchors by f^E.
        student_keys: (B, K, D).
        teacher_queries: (B, M, D), the same anchors by the teacher.
        teacher_keys: (B, K, D).
        valid: (B, M) bool, the anchors that the teacher sees.
        key_valid: (B, K) bool, the keys that both see. None if all are.
    """

    student_queries: Tensor
    student_keys: Tensor
    teacher_queries: Tensor
    teacher_keys: Tensor
    valid: Tensor
    key_valid: Optional[Tensor] = None


@STRATEGIES.register_module(name=['same_anchor_in_key_view', '1'])
def same_anchor_in_key_view(query: EncodedView, key: EncodedView, encode_key) -> Affinities:
    """Teacher A_{i'k'}, student A_{ik'}: k' are the points of v', i' is the image position of i
    read in v'. No further pass."""
    same_position, seen = _read_in_key_view(query, key)
    return Affinities(
        query.embeddings, key.embeddings, same_position, key.embeddings, seen, _is_point(key)
    )


@STRATEGIES.register_module(name=['mixed_teacher', '2'])
def mixed_teacher(query: EncodedView, key: EncodedView, encode_key) -> Affinities:
    """Teacher A_{ik'}, student A_{ik}: k' is the image position of k read in v'. Anchors and keys
    outside the overlap do not count. No further pass."""
    same_position, seen = _read_in_key_view(query, key)
    points = query.embeddings
    return Affinities(points, points, points, same_position, seen, seen)


@STRATEGIES.register_module(name=['momentum_pass_of_query_view', '3'])
def momentum_pass_of_query_view(query: EncodedView, key: EncodedView, encode_key) -> Affinities:
    """Teacher A_{i'k'}, student A_{ik}: i' and k' are the points of v through f^M, one further
    momentum pass."""
    teacher = embed_points(encode_key(query.view.image), query.view.points)
    points, is_point = query.embeddings, _is_point(query)
    return Affinities(points, points, teacher, teacher, is_point, is_point)


def _read_in_key_view(query: EncodedView, key: EncodedView) -> tuple[Tensor, Tensor]:
    """Reads the embeddings (B, M, D) of v's points at their positions in v', and returns them with
    whether v' sees these positions, (B, M) bool."""
    position = view_to_view(query.view.points, query.view.affine, key.view.affine)
    return embed_points(key.map, position), inside(position) & _is_point(query)


def _is_point(encoded: EncodedView) -> Tensor:
    """The points that are not void, (B, M) bool."""
    return encoded.view.regions >= 0
