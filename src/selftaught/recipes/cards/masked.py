"""Methods that hide a part of the image and predict it."""

from selftaught.recipes.card import Card

FAMILY = "masked modelling"

CARDS = {
    "mae": Card(
        function="selftaught.recipes.masked:mae",
        family=FAMILY,
        modality="images",
        paper="He et al., Masked Autoencoders Are Scalable Vision Learners",
        year=2021,
        url="https://arxiv.org/abs/2111.06377",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "The encoder sees a quarter of the image's patches, and a small decoder paints the "
            "rest. To paint them it has to know what kind of thing the image shows."
        ),
        diagram="""\
image -> patches -> a quarter of them -> encoder -> tokens \\
                                                             decoder -> pixels of the hidden ones
                            a learned token a hidden patch /""",
        needs="an encoder with tokens (vit-nano, vit_*, deit*); any batch",
        choose="where strong random views would destroy what matters, or for fine-tuning later",
        published={
            "encoder": "vit_base_patch16_224",
            "patch": 16,
            "epochs": 800,
            "batch_size": 4096,
            "lr": 2.4e-3,
            "weight_decay": 0.05,
            "warmup": 0.05,
            "dim": 512,
            "depth": 8,
            "heads": 16,
            "smallest_crop": 0.2,
            "bicubic": True,
        },
    ),
    "simmim": Card(
        function="selftaught.recipes.masked:simmim",
        family=FAMILY,
        modality="images",
        paper="Xie et al., SimMIM: A Simple Framework for Masked Image Modeling",
        year=2021,
        url="https://arxiv.org/abs/2111.09886",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "Large squares of the image are blanked, and the encoder itself has to know what was "
            "there: a single linear layer reads the pixels off its last tokens. There is no "
            "decoder to leave the work to."
        ),
        diagram="""\
image -> patches -> those of random squares blanked -> encoder -> tokens -> linear -> pixels
                    (a learned token)                             L1 where they were hidden""",
        needs="an encoder with tokens (vit-nano, vit_*, deit*); any batch",
        choose="instead of mae, where the simplest of these methods will do",
        published={
            "encoder": "vit_base_patch16_224",
            "patch": 16,
            "epochs": 800,
            "batch_size": 2048,
            "lr": 4e-4,
            "weight_decay": 0.05,
            "warmup": 0.0125,
            "schedule": "constant",
            "drops": "0.875",
            "drop": 0.1,
            "clip": 5.0,
            "unit": 2,
            "ratio": 0.6,
            "smallest_crop": 0.67,
        },
    ),
    "maskfeat": Card(
        function="selftaught.recipes.masked:maskfeat",
        family=FAMILY,
        modality="images",
        paper="Wei et al., Masked Feature Prediction for Self-Supervised Visual Pre-Training",
        year=2021,
        url="https://arxiv.org/abs/2112.09133",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "Blocks of the image are blanked, and the network names the directions of the edges "
            "that were there, not the pixels. How bright they are is left out of the histograms, "
            "so nothing is spent on painting it."
        ),
        diagram="""\
image, blocks blanked -> encoder -> tokens of the blanked -> linear -> p \\
                                                                          squared error
image, whole -> gradients -> histograms of their directions -> target   /""",
        needs="an encoder with tokens (vit-nano, vit_*, deit*); any batch",
        choose="where shapes matter more than brightness, or pixels are too noisy to paint",
        published={
            "encoder": "vit_base_patch16_224",
            "patch": 16,
            "epochs": 1600,
            "batch_size": 2048,
            "lr": 1.6e-3,
            "weight_decay": 0.05,
            "warmup": 0.01875,
            "last_lr": 0.005,
            "clip": 0.02,
            "ratio": 0.4,
            "smallest_block": 15,
            "cells": 2,
            "bins": 9,
            "smallest_crop": 0.5,
            "bicubic": True,
        },
    ),
    "beit": Card(
        function="selftaught.recipes.masked:beit",
        family=FAMILY,
        modality="images",
        paper="Bao et al., BEiT: BERT Pre-Training of Image Transformers",
        year=2021,
        url="https://arxiv.org/abs/2106.08254",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "A tokenizer that was trained before has a word for each patch. Blocks of the image "
            "are blanked, and the network names the words that were there, as BERT names those "
            "of a sentence."
        ),
        diagram="""\
image, blocks blanked -> encoder -> tokens of the blanked -> linear -> scores \\
                                                                              cross-entropy
image, whole -> tokenizer (a vqvae run, frozen) -> words of the blanked      /""",
        needs="a finished vqvae run on images of the same size; an encoder with tokens; any batch",
        choose="where a tokenizer is there already; else simmim or mae have less to set up",
        before=(
            "selftaught pretrain vqvae DATA --out TOKENIZER"
            "  # for the paper's patches: --encoder vit-nano --stride 16"
        ),
        given="--tokenizer TOKENIZER",
        published={
            "encoder": "vit_base_patch16_224",
            "patch": 16,
            "epochs": 800,
            "batch_size": 2048,
            "lr": 1.5e-3,
            "weight_decay": 0.05,
            "warmup": 0.0125,
            "last_lr": 0.0067,
            "clip": 3.0,
            "ratio": 0.383,
            "smallest_block": 16,
            "smallest_crop": 0.08,
            "bicubic": True,
            "jitter": 0.4,
        },
    ),
}
