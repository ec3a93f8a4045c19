"""What point affinity distillation compares (Section 4.5.2).

A prime marks an embedding by f^M; i and k are points of v unless said otherwise. A strategy is a
function of

    model (PLRC): for further passes
    query, key (dict): the views v and v'
    query_points, key_points (Tensor): (B, M, D), p_i of v by f^E and p'_k of v' by f^M
    key_map (Tensor): (B, D, h, w), the projected map of v' by f^M

and returns the student's queries and keys, the teacher's queries and keys, the validity of anchors
(B, M), and that of keys (B, K). A further one is a function added to :data:`STRATEGIES`.
"""

from plrc_plugin.models.embedding import embed_points
from plrc_plugin.views.geometry import inside, view_to_view


def same_anchor_in_key_view(model, query, key, query_points, key_points, key_map):
    """Teacher A_{i'k'}, student A_{ik'}: k' are the points of v', i' is the image position of i
    read in v'. No further pass."""
    same_position, seen = _read_in_key_view(query, key, key_map)
    return query_points, key_points, same_position, key_points, seen, key['regions'] >= 0


def mixed_teacher(model, query, key, query_points, key_points, key_map):
    """Teacher A_{ik'}, student A_{ik}: k' is the image position of k read in v'. Anchors and keys
    outside the overlap do not count. No further pass."""
    same_position, seen = _read_in_key_view(query, key, key_map)
    return query_points, query_points, query_points, same_position, seen, seen


def momentum_pass_of_query_view(model, query, key, query_points, key_points, key_map):
    """Teacher A_{i'k'}, student A_{ik}: i' and k' are the points of v through f^M, one further
    momentum pass."""
    teacher = embed_points(model.encode_key(query['image']), query['points'])
    is_point = query['regions'] >= 0
    return query_points, query_points, teacher, teacher, is_point, is_point


STRATEGIES = {1: same_anchor_in_key_view, 2: mixed_teacher, 3: momentum_pass_of_query_view}


def _read_in_key_view(query, key, key_map):
    """Embeddings (B, M, D) of v's points at their positions in v', and whether v' sees them."""
    position = view_to_view(query['points'], query['affine'], key['affine'])
    seen = inside(position) & (query['regions'] >= 0)
    return embed_points(key_map, position), seen
