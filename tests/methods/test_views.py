"""A method never looks inside a view: the same classes learn from text and from graphs."""

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from selftaught.method import ViewBatch
from selftaught.methods import BYOL, SimCLR, SwAV, VICReg
from selftaught.train import fit

B, WORDS, KINDS = 32, 12, 4


class Tokens(NamedTuple):
    """A padded batch of sequences."""

    ids: torch.Tensor  # (B, L)
    lengths: torch.Tensor  # (B,)


class Graphs(NamedTuple):
    """A batch of small graphs as one."""

    x: torch.Tensor  # (N, F)
    edges: torch.Tensor  # (2, E)
    graph: torch.Tensor  # (N,) which graph a node belongs to


class TokenEncoder(nn.Module):
    dim = 16

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(WORDS, self.dim)
        self.mix = nn.Linear(self.dim, self.dim)

    def forward(self, x):
        there = torch.arange(x.ids.shape[1]) < x.lengths[:, None]  # (B, L)
        h = F.relu(self.mix(self.table(x.ids))) * there[..., None]
        return h.sum(1) / x.lengths[:, None]


class GraphEncoder(nn.Module):
    dim = 16

    def __init__(self):
        super().__init__()
        self.own, self.others = nn.Linear(KINDS, self.dim), nn.Linear(KINDS, self.dim)

    def forward(self, x):
        source, target = x.edges
        heard = torch.zeros_like(x.x).index_add(0, target, x.x[source])
        h = F.relu(self.own(x.x) + self.others(heard))  # (N, D)
        return h.new_zeros(B, self.dim).index_add(0, x.graph, h)


def sentences(g):
    """Two views of each sentence: some of its words, padded."""
    topics = torch.arange(B) % WORDS

    def view():
        lengths = torch.randint(3, 8, (B,), generator=g)
        noise = torch.randint(0, WORDS, (B, 8), generator=g)
        own = torch.rand(B, 8, generator=g) < 0.7
        return Tokens(torch.where(own, topics[:, None], noise), lengths)

    return view(), view()


def graphs(g):
    """Two views of each graph: nodes of its own kinds, some features dropped."""
    kinds = torch.rand(B, KINDS, generator=torch.Generator().manual_seed(7))
    graph = torch.arange(B).repeat_interleave(5)
    ring = torch.arange(5 * B)
    edges = torch.stack([ring, ring // 5 * 5 + (ring + 1) % 5])

    def view():
        kept = torch.rand(5 * B, KINDS, generator=g) < 0.8
        return Graphs(kinds[graph] * kept, edges, graph)

    return view(), view()


METHODS = {
    "SimCLR": lambda encoder: SimCLR(encoder, hidden=32, dim=16),
    "BYOL": lambda encoder: BYOL(encoder, hidden=32, dim=16, momentum=0.9),
    "VICReg": lambda encoder: VICReg(encoder, hidden=32, dim=16),
    "SwAV": lambda encoder: SwAV(encoder, hidden=32, dim=16, prototypes=8, freeze=0.0),
}
MODALITIES = {"text": (TokenEncoder, sentences), "graphs": (GraphEncoder, graphs)}


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("name", METHODS)
def test_learns_from_views_it_knows_nothing_of(name, modality):
    encoder, views = MODALITIES[modality]
    torch.manual_seed(0)
    method = METHODS[name](encoder())
    g = torch.Generator().manual_seed(0)
    batches = iter(lambda: ViewBatch(views(g), torch.arange(B)), None)
    optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3)
    found = fit(method, batches, optimizer, steps=60)
    losses = [sum(step.terms.values()).item() for step in found]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
