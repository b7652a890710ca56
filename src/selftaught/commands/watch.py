"""The label-free signals of a method while it trains."""

from typing import Any

import torch

from selftaught import precision, seeds
from selftaught.commands.heldout import Probes
from selftaught.commands.settings import sample
from selftaught.data.batches import moved, placed
from selftaught.data.images import Images
from selftaught.pretrained import plain_views
from selftaught.protocols.spectrum import Spectrum
from selftaught.recipes.run import Pixels, Run
from selftaught.train import judge

SEEN = 2048  # images that the signals are taken on, or twice the feature's width
FEW = 256  # of them, for the method's own signals


class Watch:
    """Looks at a method again and again, always on the same images.

    Signals of the features are taken on an even sample of ``images``, each in its plain view, those
    of the objective on the batches of ``judged``, if any.
    """

    def __init__(
        self,
        run: Run,
        images: Images,
        pixels: Pixels,
        judged: Probes | None,
        *,
        seed: int,
        dtype: torch.dtype,
    ) -> None:
        self.run, self.judged, self.seed, self.dtype = run, judged, seed, dtype
        self.device = next(run.method.parameters()).device
        count = max(SEEN, 2 * run.method.encoder.dim)
        self.images = sample(images, plain_views(pixels), count)

    @torch.no_grad()
    def signals(self) -> dict[str, Any]:
        """The signals of the method as it is now; training is not disturbed."""
        method, cuda = self.run.method.eval(), [self.device] if self.device.type == "cuda" else []
        encoder, size = method.encoder, self.run.batch_size
        spectrum = Spectrum(encoder.dim, self.device)
        for x in self.images:
            with precision.autocast(self.device, self.dtype):
                spectrum.add(encoder(placed(x, self.device)).float())
        first = self.images[: -(-FEW // len(self.images[0]))]
        few = placed(torch.cat(first)[:FEW], self.device)
        with torch.random.fork_rng(cuda), precision.autocast(self.device, self.dtype):
            seeds.plant(seeds.derive(self.seed, "signals"), self.device)
            found = spectrum.signals()._asdict() | method.signals(few)
            pretext = {"tells_apart": method.tells_apart, "chance": method.chance(few, size)}
            pretext |= {"agreement": dict(method.agreement), "fixed": method.fixed_answers}
        if self.judged is not None:
            for name, batch in self.judged.batches(self.device, mixed=bool(method.agreement)):
                batch = moved(batch, self.device)
                pretext[name] = judge(method, batch, seed=self.seed, dtype=self.dtype)
        return found | {"pretext": pretext}
