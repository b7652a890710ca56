"""Two players: one tells real from fake, the other makes fakes.

Scores are logits of being real. Each loss is a mean over the scores it is given, so that its mean
over processes is that of the global batch.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from selftaught.precision import float32


@float32
def discrimination(real: Float[Tensor, " n"], fake: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """What a critic minimises, -ln D of what is real and -ln(1 - D) of what is fake.

    GAN (Goodfellow et al. 2014, arXiv 1406.2661), equation 1; BiGAN (Donahue et al. 2016, arXiv
    1605.09782), equation 3. Where the two cannot be told apart the best critic pays 2 ln(2).
    """
    return F.softplus(-real).mean() + F.softplus(fake).mean()


@float32
def deception(fake: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """What a generator minimises, -ln D of what it made: its gradient does not vanish.

    GAN (Goodfellow et al. 2014, arXiv 1406.2661), section 3. Of ``-real`` it is -ln(1 - D) of what
    is real, with which BiGAN's encoder passes it off as fake (arXiv 1605.09782, section 3.4).
    """
    return F.softplus(-fake).mean()
