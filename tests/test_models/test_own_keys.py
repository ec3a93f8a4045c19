"""With ``mask_own_keys``, keys of a query's own image are no negatives, in any queue."""

import pytest
import torch
from torch.nn import functional as F

from plrc_plugin.losses import dense_contrast, image_contrast, point_region_contrast
from plrc_plugin.models import PLRC, DenseCL, MomentumContrast, ViewBatch

TRUNK = dict(type='plrc_plugin.ResNet', depth=18, base_channels=4, strides=(1, 2, 2, 1))


def view(seed, ids=(7, 8)):
    g = torch.Generator().manual_seed(seed)
    return ViewBatch(
        image=torch.rand(2, 3, 32, 32, generator=g),
        affine=torch.eye(2, 3).expand(2, 2, 3),
        points=torch.rand(2, 6, 2, generator=g),
        regions=torch.randint(0, 3, (2, 6), generator=g),
        image_ids=torch.tensor(ids),
    )


def remember(queue, ids):
    """Fills the ids of a queue: keys of the batch's images, random ones, and those of others."""
    queue.ids.copy_(torch.tensor([7, 8, -1, 9] * len(queue.ids))[: len(queue.ids)])
    return [queue.bank[queue.ids != i] for i in ids]


def one_by_one(contrast, left):
    """The mean over images of a loss that gets the negatives of one image alone."""
    return sum(contrast(slice(b, b + 1), negatives) for b, negatives in enumerate(left)) / len(left)


@pytest.mark.parametrize('kind', [MomentumContrast, PLRC, DenseCL])
def test_l_m_and_l_dense(kind):
    net = kind(TRUNK, embedding_dim=8, queue_size=12, mask_own_keys=True).eval()
    left = remember(net.queue, (7, 8))
    query, key = view(1), view(2)
    maps = net.encode(query.image), net.encode_key(key.image)
    vectors = [F.normalize((m[1] if isinstance(m, tuple) else m).mean((2, 3)), dim=1) for m in maps]
    if kind is DenseCL:
        remember(net.dense_queue, (7, 8))
    out = net(query, key, mode='loss')
    expected = one_by_one(
        lambda b, negatives: image_contrast(vectors[0][b], vectors[1][b], negatives)[0], left
    )
    torch.testing.assert_close(out['l_m'], expected)
    assert out['l_m'] < image_contrast(*vectors, net.queue.bank)[0]


def test_l_dense_against_each_image_alone():
    queries, keys = (F.normalize(torch.randn(2, 5, 8), dim=2) for _ in range(2))
    negatives, matches = F.normalize(torch.randn(9, 8), dim=1), torch.randint(0, 5, (2, 5))
    own = torch.rand(2, 9) < 0.3
    found = dense_contrast(queries, keys, matches, negatives, 0.2, own)
    expected = one_by_one(
        lambda b, left: dense_contrast(queries[b], keys[b], matches[b], left),
        [negatives[~mine] for mine in own],
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('tile', [3, 512])
def test_l_c_and_its_gradients(tile, monkeypatch):
    """With ``negatives='queue'``; tiles that cut the queue and the images, and one for all."""
    monkeypatch.setattr('plrc_plugin.losses.similarity.TILE_OF_CPU', tile)
    queries, keys, negatives = (
        torch.randn(shape, dtype=torch.double, requires_grad=True)
        for shape in ((3, 4, 8), (3, 4, 8), (11, 8))
    )
    regions = torch.tensor([[0, 0, 1, -1], [2, 1, 0, 0], [5, 5, 5, 5]])
    own = torch.rand(3, 11) < 0.4
    found = point_region_contrast(
        queries, keys, regions, regions.flip(1), negatives=negatives, own=own
    )

    def by_hand():
        images = []
        flat, valid = keys.flatten(0, 1), regions.flip(1).flatten() >= 0
        for b in range(3):
            left = torch.cat([flat[valid], negatives[~own[b]]])
            pairs = []
            for i in range(4):
                for k in range(4):
                    if regions[b, i] == regions.flip(1)[b, k] >= 0:
                        logits = left @ queries[b, i] / 0.2
                        pairs.append(logits.logsumexp(0) - queries[b, i] @ keys[b, k] / 0.2)
            images.append(sum(pairs) / len(pairs))
        return sum(images) / len(images)

    expected = by_hand()
    torch.testing.assert_close(found, expected)
    inputs = (queries, keys, negatives)
    torch.testing.assert_close(
        torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs)
    )


def test_points_of_the_own_image_wait_with_its_id():
    net = PLRC(
        TRUNK,
        embedding_dim=8,
        queue_size=4,
        negatives='queue',
        point_queue_size=20,
        mask_own_keys=True,
        alpha=1.0,
    ).eval()
    query, key = view(1), view(2)
    net(query, key, mode='loss')
    with torch.no_grad():
        net.projector[-1].bias.add_(1e-6)
    state = net.state_dict()
    assert state['point_queue.ids'].tolist() == [7] * 6 + [8] * 6 + [-1] * 8
    assert state['queue.ids'].tolist() == [7, 8, -1, -1]
    again = net(query, key, mode='loss')  # its own points are in the queue now, and left out
    strangers = net(query._replace(), key._replace(image_ids=torch.tensor([1, 2])), mode='loss')
    assert again['l_c'] < strangers['l_c'] and again['l_m'] < strangers['l_m']
