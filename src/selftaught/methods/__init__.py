"""The methods, one paper a file."""

from selftaught.methods.aae import AAE
from selftaught.methods.amdim import AMDIM
from selftaught.methods.barlow_twins import BarlowTwins
from selftaught.methods.bigan import BiGAN
from selftaught.methods.byol import BYOL
from selftaught.methods.cpc import CPC
from selftaught.methods.data2vec import Data2Vec
from selftaught.methods.deepcluster import DeepCluster
from selftaught.methods.deepcluster_v2 import DeepClusterV2
from selftaught.methods.dino import DINO
from selftaught.methods.dinov2 import DINOv2
from selftaught.methods.exemplar import Exemplar
from selftaught.methods.gan import GAN
from selftaught.methods.ibot import IBOT
from selftaught.methods.ijepa import IJEPA
from selftaught.methods.instdisc import InstDisc
from selftaught.methods.lejepa import LeJEPA
from selftaught.methods.mae import MAE
from selftaught.methods.moco import MoCo
from selftaught.methods.moco_v3 import MoCoV3
from selftaught.methods.nnclr import NNCLR
from selftaught.methods.pirl import PIRL
from selftaught.methods.simclr import SimCLR
from selftaught.methods.simclr_v2 import SimCLRV2
from selftaught.methods.simsiam import SimSiam
from selftaught.methods.swav import SwAV
from selftaught.methods.vicreg import VICReg
from selftaught.methods.wmse import WMSE

__all__ = [
    "AAE",
    "AMDIM",
    "BYOL",
    "CPC",
    "DINO",
    "GAN",
    "IBOT",
    "IJEPA",
    "MAE",
    "NNCLR",
    "PIRL",
    "WMSE",
    "BarlowTwins",
    "BiGAN",
    "DINOv2",
    "Data2Vec",
    "DeepCluster",
    "DeepClusterV2",
    "Exemplar",
    "InstDisc",
    "LeJEPA",
    "MoCo",
    "MoCoV3",
    "SimCLR",
    "SimCLRV2",
    "SimSiam",
    "SwAV",
    "VICReg",
]
