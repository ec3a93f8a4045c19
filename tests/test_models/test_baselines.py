"""What PLRC is compared with, each from up-sampled maps and loops over positions."""

import pytest
import torch
from mmengine.logging import MessageHub
from torch.nn import functional as F

from plrc_plugin.errors import SettingsError
from plrc_plugin.losses.image_contrast import image_contrast
from plrc_plugin.models.dense_cl import DenseCL
from plrc_plugin.models.pix_pro import PixPro
from plrc_plugin.models.pooled_regions import RegionContrast
from plrc_plugin.views.geometry import crop_affine

TRUNK = dict(type='plrc_plugin.ResNet', depth=18, base_channels=4, strides=(1, 2, 2, 1))
SIZES = torch.tensor([[120.0, 90.0], [64.0, 200.0]])  # width and height of the images


def view(boxes, seed, resolution=12):
    """Two images; of the second, some cells are void."""
    g = torch.Generator().manual_seed(seed)
    region_map = torch.randint(0, 3, (2, resolution, resolution), generator=g)
    region_map[1, :4] = -1
    return dict(
        pixels=torch.randint(0, 256, (2, 64, 64, 3), generator=g, dtype=torch.uint8),
        affine=torch.stack([torch.from_numpy(crop_affine(*box)) for box in boxes]).float(),
        size=SIZES,
        region_map=region_map,
        regions=torch.tensor([[0, 1, 1, 2], [2, 0, 2, 2]]),
    )


def prepared(net):
    """Query and key, with a momentum encoder that is not the encoder."""
    net.eval()
    MessageHub.get_current_instance().update_info('epoch', 0)
    for name, parameter in net.named_parameters():
        if name.startswith('momentum_'):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    data = net.data_preprocessor(
        dict(
            query=view([(0, 0, 0.6, 0.6, False), (0.1, 0.1, 0.8, 0.8, True)], 1),
            key=view([(0.2, 0.1, 0.6, 0.7, True), (0.3, 0.2, 0.5, 0.4, False)], 2),
        ),
        training=True,
    )
    return data['query'], data['key']


@torch.no_grad()
def optimiser_step(net):
    net.projector[-1].bias.add_(1e-3)


def queue_loss(net, query_vector, key_vector):
    return image_contrast(
        F.normalize(query_vector, dim=1),
        F.normalize(key_vector, dim=1),
        net.queue.bank,
        net.temperature,
    )[0]


def test_region_contrast_pools_up_sampled_maps_over_masks():
    net = RegionContrast(TRUNK, embedding_dim=8, queue_size=16, beta=0.6)
    query, key = prepared(net)

    def pooled(feature_map, view):
        up = F.interpolate(feature_map, (12, 12), mode='bilinear', align_corners=False)
        return [
            [
                F.normalize(up[b][:, view['region_map'][b] == n].mean(1), dim=0)
                for n in view['regions'][b]
            ]
            for b in range(2)
        ]

    query_map = net.projector(net.backbone(query['image'])[-1])
    with torch.no_grad():
        key_map = net.momentum_projector(net.momentum_backbone(key['image'])[-1])
    q, k = pooled(query_map, query), pooled(key_map, key)
    images = []
    for b in range(2):
        pairs = []
        for i in range(4):
            total = sum((q[b][i] @ k[c][j] / 0.2).exp() for c in range(2) for j in range(4))
            pairs += [
                -(q[b][i] @ k[b][j] / 0.2 - total.log())
                for j in range(4)
                if query['regions'][b, i] == key['regions'][b, j]
            ]
        images.append(sum(pairs) / len(pairs))
    l_m = queue_loss(net, query_map.mean((2, 3)), key_map.mean((2, 3)))
    out = net(query, key, mode='loss')
    torch.testing.assert_close(out['l_c'], sum(images) / 2)
    torch.testing.assert_close(out['loss'], 0.6 * sum(images) / 2 + 0.4 * l_m)
    assert 'l_a' not in out
    with pytest.raises(SettingsError, match='keep_region_map=True and points_per_region=1'):
        net(query._replace(region_map=None), key, mode='loss')
    with pytest.raises(SettingsError, match='RegionContrast: alpha, strategy belong to L_a'):
        RegionContrast(TRUNK, alpha=0.5, strategy=2)


def test_dense_cl_matches_backbone_features_and_keeps_pooled_keys():
    net = DenseCL(TRUNK, embedding_dim=8, queue_size=16, dense_weight=0.3)
    query, key = prepared(net)
    features = net.backbone(query['image'])[-1]
    with torch.no_grad():
        key_features = net.momentum_backbone(key['image'])[-1]
        key_map = net.momentum_dense_projector(key_features)
        key_vector = net.momentum_projector(key_features.mean((2, 3), keepdim=True))[..., 0, 0]
    query_map = net.dense_projector(features)
    terms = []
    for b in range(2):
        cells = [(y, x) for y in range(4) for x in range(4)]
        for y, x in cells:
            match = max(
                cells,
                key=lambda c: F.cosine_similarity(
                    features[b, :, y, x], key_features[b, :, c[0], c[1]], dim=0
                ),
            )
            r = F.normalize(query_map[b, :, y, x], dim=0)
            positive = r @ F.normalize(key_map[b, :, match[0], match[1]], dim=0) / 0.2
            negatives = (net.dense_queue.bank @ r / 0.2).exp().sum()
            terms.append((positive.exp() + negatives).log() - positive)
    l_dense = sum(terms) / len(terms)
    l_m = queue_loss(net, net.projector(features.mean((2, 3), keepdim=True))[..., 0, 0], key_vector)
    out = net(query, key, mode='loss')
    torch.testing.assert_close(out['l_dense'], l_dense)
    torch.testing.assert_close(out['loss'], 0.7 * l_m + 0.3 * l_dense)
    optimiser_step(net)
    state = net.state_dict()
    torch.testing.assert_close(
        state['dense_queue.bank'][:2], F.normalize(key_map.mean((2, 3)), dim=1)
    )
    torch.testing.assert_close(state['queue.bank'][:2], F.normalize(key_vector, dim=1))
    for weight in (2, 'x', None):
        with pytest.raises(SettingsError, match='DenseCL: dense_weight must'):
            DenseCL(TRUNK, queue_size=16, dense_weight=weight)


def test_pix_pro_propagates_and_pairs_bins_that_are_near_in_the_image():
    net = PixPro(TRUNK, embedding_dim=8, hidden_dim=16, threshold=0.7, gamma=2)
    query, key = prepared(net)

    def one_way(a, b):
        x = net.projector(net.backbone(a['image'])[-1])
        with torch.no_grad():
            other = net.momentum_projector(net.momentum_backbone(b['image'])[-1])
        images = []
        for n in range(2):
            transformed = net.propagation.transform(x[n : n + 1])[0]
            cosines = []
            for i in range(16):
                unit_i = F.normalize(x[n].flatten(1)[:, i], dim=0)
                y = sum(
                    F.cosine_similarity(unit_i, x[n].flatten(1)[:, j], dim=0).clamp(min=0) ** 2
                    * transformed.flatten(1)[:, j]
                    for j in range(16)
                )
                for j in range(16):
                    (px, py), (qx, qy) = bin_centre(a, n, i), bin_centre(b, n, j)
                    reach = 0.7 * max(bin_diagonal(a, n), bin_diagonal(b, n))
                    if ((px - qx) ** 2 + (py - qy) ** 2) ** 0.5 < reach:
                        cosines.append(F.cosine_similarity(y, other[n].flatten(1)[:, j], dim=0))
            images.append(-sum(cosines) / len(cosines))
        return sum(images) / 2

    def bin_centre(v, n, i):
        u = torch.tensor([(i % 4 + 0.5) / 4, (i // 4 + 0.5) / 4])
        return ((v['affine'][n, :, :2] @ u + v['affine'][n, :, 2]) * SIZES[n]).tolist()

    def bin_diagonal(v, n):
        w, h = v['affine'][n, 0, 0] * SIZES[n, 0] / 4, v['affine'][n, 1, 1] * SIZES[n, 1] / 4
        return float((w * w + h * h) ** 0.5)

    expected = (one_way(query, key) + one_way(key, query)) / 2
    out = net(query, key, mode='loss')
    torch.testing.assert_close(out['loss'], expected)
    assert out['no_near_pair'] == 0
    for setting in (dict(threshold=0), dict(threshold='x'), dict(gamma=-1), dict(hidden_dim=0)):
        with pytest.raises(SettingsError, match=f'PixPro: {next(iter(setting))} must'):
            PixPro(TRUNK, **setting)


@pytest.mark.parametrize(
    'kind, settings',
    [(RegionContrast, dict(queue_size=16)), (DenseCL, dict(queue_size=16)), (PixPro, {})],
)
def test_the_momentum_encoder_gets_no_gradient_and_all_else_does(kind, settings):
    net = kind(TRUNK, embedding_dim=8, **settings)
    query, key = prepared(net)
    net.train()(query, key, mode='loss')['loss'].backward()
    for name, parameter in net.named_parameters():
        assert (parameter.grad is None) == name.startswith('momentum_'), name
