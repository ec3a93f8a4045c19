"""Point affinity distillation, L_a (Eq. 3 and 4)."""

from typing import Optional

import torch
from torch import Tensor, nn

from plrc_plugin.errors import check_positive
from plrc_plugin.losses.reduction import (
    check_temperature,
    in_full_precision,
    mean_over_counted,
    mean_over_counted_of_all_ranks,
)
from plrc_plugin.registry import MODELS


def point_affinity_distillation(
    student_queries: Tensor,
    student_keys: Tensor,
    teacher_queries: Tensor,
    teacher_keys: Tensor,
    valid: Tensor,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.07,
    key_valid: Optional[Tensor] = None,
) -> Tensor:
    """Cross entropy between the teacher's and the student's point affinities.

    ::

        A_ik(t) = softmax over the keys k of image b of q_i . k_k / t                    (Eq. 3)
        L_b     = mean over valid anchors i of -sum_k A_teacher_ik(t_t) log A_student_ik(t_s)
        L_a     = mean over the images b that have a valid anchor                        (Eq. 4)

    Row i of the teacher belongs to the same anchor as row i of the student, column k likewise.

    Args:
        student_queries (Tensor): (B, M, D), l2-normalised.
        student_keys (Tensor): (B, K, D), l2-normalised.
        teacher_queries (Tensor): (B, M, D), l2-normalised. No gradient reaches the teacher.
        teacher_keys (Tensor): (B, K, D), l2-normalised. No gradient.
        valid (Tensor): (B, M) bool, the anchors whose position in the image the teacher sees.
        student_temperature (float): tau_s.
        teacher_temperature (float): tau_t.
        key_valid (Tensor, optional): (B, K) bool, the keys that both see. Defaults to all.

    Returns:
        Tensor: scalar; 0, with zero gradients, if no image has a valid anchor and a valid key.
    """
    values, counted = _distillation_per_image(
        student_queries,
        student_keys,
        teacher_queries,
        teacher_keys,
        valid,
        student_temperature,
        teacher_temperature,
        key_valid,
    )
    return mean_over_counted(values, counted)


def point_affinity(
    queries: Tensor, keys: Tensor, temperature: float, key_valid: Optional[Tensor] = None
) -> Tensor:
    """Computes the logarithm of the affinities A(tau) of Eq. 3.

    Args:
        queries (Tensor): (B, M, D), l2-normalised.
        keys (Tensor): (B, K, D), l2-normalised.
        temperature (float): tau.
        key_valid (Tensor, optional): (B, K) bool; other keys have (practically) no affinity.

    Returns:
        Tensor: (B, M, K), log-softmax over the last axis.
    """
    bias = queries.new_zeros(1)
    if key_valid is not None:
        # Finite, so that an image without any valid key stays free of NaN.
        bias = torch.where(key_valid, 0.0, -1e9).to(queries.dtype).unsqueeze(1)
    logits = torch.baddbmm(bias, queries / temperature, keys.transpose(1, 2))
    return logits.log_softmax(2)


@in_full_precision
def _distillation_per_image(
    student_queries: Tensor,
    student_keys: Tensor,
    teacher_queries: Tensor,
    teacher_keys: Tensor,
    valid: Tensor,
    student_temperature: float,
    teacher_temperature: float,
    key_valid: Optional[Tensor],
) -> tuple[Tensor, Tensor]:
    """L_b (B,) and whether the image has a valid anchor and a valid key (B,)."""
    check_temperature(
        student_temperature=student_temperature, teacher_temperature=teacher_temperature
    )
    student = point_affinity(student_queries, student_keys, student_temperature, key_valid)
    with torch.no_grad():
        teacher = point_affinity(
            teacher_queries, teacher_keys, teacher_temperature, key_valid
        ).exp()
    if key_valid is not None:
        valid = valid & key_valid.any(1, keepdim=True)
    cross_entropy = -(teacher * student).sum(2)
    num_anchors = valid.sum(1)
    values = (cross_entropy * valid).sum(1) / num_anchors.clamp(min=1)
    return values, num_anchors > 0


@MODELS.register_module()
class PointAffinityDistillation(nn.Module):
    """:func:`point_affinity_distillation` with its temperatures, over the images of all ranks.

    Args:
        student_temperature (float): tau_s. Defaults to 0.1.
        teacher_temperature (float): tau_t. Defaults to 0.07.
    """

    def __init__(self, student_temperature: float = 0.1, teacher_temperature: float = 0.07):
        super().__init__()
        check_positive(
            'PointAffinityDistillation',
            student_temperature=student_temperature,
            teacher_temperature=teacher_temperature,
        )
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature

    def forward(
        self,
        student_queries: Tensor,
        student_keys: Tensor,
        teacher_queries: Tensor,
        teacher_keys: Tensor,
        valid: Tensor,
        key_valid: Optional[Tensor] = None,
    ) -> Tensor:
        return mean_over_counted_of_all_ranks(
            *_distillation_per_image(
                student_queries,
                student_keys,
                teacher_queries,
                teacher_keys,
                valid,
                self.student_temperature,
                self.teacher_temperature,
                key_valid,
            )
        )
