"""The methods, one paper a file."""

from selftaught.methods.aae import AAE
from selftaught.methods.amdim import AMDIM
from selftaught.methods.autoencoder import Autoencoder
from selftaught.methods.barlow_twins import BarlowTwins
from selftaught.methods.beit import BEiT
from selftaught.methods.bigan import BiGAN
from selftaught.methods.byol import BYOL
from selftaught.methods.colorization import Colorization
from selftaught.methods.cpc import CPC
from selftaught.methods.data2vec import Data2Vec
from selftaught.methods.deepcluster import DeepCluster
from selftaught.methods.deepcluster_v2 import DeepClusterV2
from selftaught.methods.denoising_autoencoder import DenoisingAutoencoder
from selftaught.methods.dino import DINO
from selftaught.methods.dinov2 import DINOv2
from selftaught.methods.exemplar import Exemplar
from selftaught.methods.gan import GAN
from selftaught.methods.ibot import IBOT
from selftaught.methods.igpt import IGPT
from selftaught.methods.ijepa import IJEPA
from selftaught.methods.inpainting import Inpainting
from selftaught.methods.instdisc import InstDisc
from selftaught.methods.jigsaw import Jigsaw
from selftaught.methods.lejepa import LeJEPA
from selftaught.methods.mae import MAE
from selftaught.methods.maskfeat import MaskFeat
from selftaught.methods.moco import MoCo
from selftaught.methods.moco_v3 import MoCoV3
from selftaught.methods.nnclr import NNCLR
from selftaught.methods.pirl import PIRL
from selftaught.methods.relative_patch import RelativePatch
from selftaught.methods.rotation import Rotation
from selftaught.methods.simclr import SimCLR
from selftaught.methods.simclr_v2 import SimCLRV2
from selftaught.methods.simmim import SimMIM
from selftaught.methods.simsiam import SimSiam
from selftaught.methods.swav import SwAV
from selftaught.methods.vae import VAE
from selftaught.methods.vicreg import VICReg
from selftaught.methods.vqvae import VQVAE
from selftaught.methods.wmse import WMSE

__all__ = [
    "AAE",
    "AMDIM",
    "BYOL",
    "CPC",
    "DINO",
    "GAN",
    "IBOT",
    "IGPT",
    "IJEPA",
    "MAE",
    "NNCLR",
    "PIRL",
    "VAE",
    "VQVAE",
    "WMSE",
    "Autoencoder",
    "BEiT",
    "BarlowTwins",
    "BiGAN",
    "Colorization",
    "DINOv2",
    "Data2Vec",
    "DeepCluster",
    "DeepClusterV2",
    "DenoisingAutoencoder",
    "Exemplar",
    "Inpainting",
    "InstDisc",
    "Jigsaw",
    "LeJEPA",
    "MaskFeat",
    "MoCo",
    "MoCoV3",
    "RelativePatch",
    "Rotation",
    "SimCLR",
    "SimCLRV2",
    "SimMIM",
    "SimSiam",
    "SwAV",
    "VICReg",
]
