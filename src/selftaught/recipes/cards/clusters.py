"""Methods that predict which cluster an image belongs to."""

from selftaught.recipes.card import Card

FAMILY = "clustering"

CARDS = {
    "swav": Card(
        function="selftaught.recipes.clusters:swav",
        family=FAMILY,
        modality="images",
        paper="Caron et al., Unsupervised Learning of Visual Features by Contrasting Cluster "
        "Assignments",
        year=2020,
        url="https://arxiv.org/abs/2006.09882",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "Each view is compared with a set of learned prototypes, and the images of a batch are "
            "shared out to them evenly, which gives each view a code. The code of one large view "
            "is predicted from every other view, large or small."
        ),
        diagram="""\
image -> large view 1 -> encoder -> projector -> z1 -> scores 1 -> code 1 (no gradient)
                                                                     | predicted from
image -> large view 2 -> encoder -> projector -> z2 -> scores 2 <----+
image -> small views --> encoder -> projector -> z --> scores <------+
scores: cosines with the prototypes; code 2 is predicted from all but view 2 in the same way""",
        needs="as many samples in batch and queue as prototypes; small views cost little each",
        choose="in place of simclr where its batch is too large, and small views are affordable",
        published={
            "encoder": "resnet50",
            "epochs": 800,
            "batch_size": 4096,
            "optimizer": "larc",
            "lr": 4.8,
            "weight_decay": 1e-6,
            "decay_all": True,
            "warmup": 0.0125,
            "first_lr": 0.0625,
            "last_lr": 1e-3,
            "hidden": 2048,
            "dim": 128,
            "prototypes": 3000,
            "temperature": 0.1,
            "epsilon": 0.05,
            "iterations": 3,
            "freeze": 0.00125,
            "queue": 0,
            "view_share": 1.0,
            "crops": 6,
            "crop_share": 0.43,
            "smallest_crop": 0.05,
            "largest_crop": 0.14,
            "jitter": 0.8,
            "blur": 0.5,
        },
    ),
    "deepcluster": Card(
        function="selftaught.recipes.clusters:deepcluster",
        family=FAMILY,
        modality="images",
        paper="Caron et al., Deep Clustering for Unsupervised Learning of Visual Features",
        year=2018,
        url="https://arxiv.org/abs/1807.05520",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "At the start of each epoch the features of all images are clustered by k-means, and "
            "a new classifier then learns to tell each image's cluster from a random view. What "
            "that changes in the features gives the next epoch better clusters."
        ),
        diagram="""\
all images -> plain view --> encoder -> whitening -> k-means -> clusters, once an epoch
                                 |                               | target
image -----> random view --> encoder -> linear classifier, new each epoch""",
        needs="a pass over all images and a k-means of their features at the start of each epoch",
        choose="for few images, and to compare with; deepcluster_v2 and swav came after it",
        published={
            "encoder": "vgg16_bn",
            "epochs": 500,
            "batch_size": 256,
            "optimizer": "sgd",
            "lr": 0.05,
            "weight_decay": 1e-5,
            "decay_all": True,
            "warmup": 0.0,
            "schedule": "constant",
            "clusters": 10000,
            "components": 256,
            "iterations": 20,
            "sobel": True,
            "view_share": 1.0,
            "smallest_crop": 0.08,
            "jitter": 0.0,
            "gray": 0.0,
        },
    ),
    "deepcluster_v2": Card(
        function="selftaught.recipes.clusters:deepcluster_v2",
        family=FAMILY,
        modality="images",
        paper="Caron et al., Unsupervised Learning of Visual Features by Contrasting Cluster "
        "Assignments",
        year=2020,
        url="https://arxiv.org/abs/2006.09882",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "The embeddings that the last epoch made of all images are clustered several times at "
            "the start of the next, and every view predicts its image's clusters. The classifier "
            "is the clusters' centroids, so there is none to learn."
        ),
        diagram="""\
image -> large views -> encoder -> projector -> z -> cosines with centroids -> image's clusters
                                                |                            |      ^ target
                                                v                            |      |
                   a memory of every image's last z -> spherical k-means, once an epoch
image -> small views -> encoder -> projector -> z -> cosines with centroids -/""",
        needs="two embeddings of every image in memory; a k-means of them at each epoch's start",
        choose="in place of swav where batches are small: its clusters are those of all the data",
        published={
            "encoder": "resnet50",
            "epochs": 800,
            "batch_size": 4096,
            "optimizer": "larc",
            "lr": 4.8,
            "weight_decay": 1e-6,
            "decay_all": True,
            "warmup": 0.0125,
            "first_lr": 0.0625,
            "last_lr": 1e-3,
            "hidden": 2048,
            "dim": 128,
            "clusters": 3000,
            "heads": 3,
            "temperature": 0.1,
            "iterations": 10,
            "view_share": 1.0,
            "crops": 6,
            "crop_share": 0.43,
            "smallest_crop": 0.05,
            "largest_crop": 0.14,
            "jitter": 0.8,
            "blur": 0.5,
        },
    ),
}
