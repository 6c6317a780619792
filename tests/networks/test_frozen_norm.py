from torch import nn

from monai_sparse_refine.engine import get_engine
from monai_sparse_refine.networks.frozen_norm import freeze_norms


def test_the_norms_alone_go_into_evaluation_mode():
    me = get_engine("native")
    network = nn.Sequential(
        me.MinkowskiBatchNorm(4), nn.Sequential(me.MinkowskiReLU(), me.MinkowskiBatchNorm(2))
    )
    network.train()
    freeze_norms(network, "native")
    assert network.training and network[1][0].training
    assert not network[0].training and not network[1][1].training
