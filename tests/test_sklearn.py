import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

import selftaught
from commands.tiny import archive, photographs, training
from selftaught import UserError
from selftaught.cli import main
from selftaught.sklearn import SelfTaughtTransformer


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    root = tmp_path_factory.mktemp("grey")
    assert main(training("simclr", archive(root / "data.npz"), root / "run", steps=2)) == 0
    selftaught.export(root / "run", out=root / "out", format="sklearn")
    return root / "out"


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    root = tmp_path_factory.mktemp("colour")
    data = photographs(root / "in", 12)
    words = training("simclr", data, root / "run", "--batch-size", "4", "--size", "16", steps=1)
    assert main(words) == 0
    return root / "run"


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)


def features(run, images):
    encoder = selftaught.load(run)
    with torch.no_grad():
        return encoder(encoder.preprocess(list(images))).numpy()


@pytest.mark.filterwarnings("ignore:.*no square image")  # the checks draw tables of any width
def test_scikit_learns_own_checks(grey):
    found = check_estimator(SelfTaughtTransformer(grey), on_skip=None)
    assert {one["status"] for one in found} <= {"passed", "skipped"}
    assert [x["check_name"] for x in found if x["status"] == "skipped"] in (
        [],
        ["check_array_api_input"],  # needs SCIPY_ARRAY_API in the environment
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_features_are_the_encoders(grey, images, dtype):
    found = SelfTaughtTransformer(grey, dtype=dtype, batch_size=7).fit_transform(
        images.reshape(20, -1)
    )
    assert found.dtype == dtype
    np.testing.assert_allclose(found, features(grey, images), atol=1e-4, rtol=1e-4)
    assert found.std() > 0


def test_a_pipeline_and_a_search(grey):
    y = np.arange(60) % 2
    draw = np.random.default_rng(0)
    X = (60 + 100 * y[:, None] + draw.integers(0, 40, (60, 64))).astype(np.uint8)
    pipe = make_pipeline(SelfTaughtTransformer(grey), LogisticRegression(max_iter=1000))
    assert pipe.fit(X[:40], y[:40]).score(X[40:], y[40:]) > 0.9
    grid = {"selftaughttransformer__white": [128, None], "logisticregression__C": [0.1, 1.0]}
    search = GridSearchCV(pipe, grid, cv=2).fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    assert search.best_score_ > 0.9


def test_names_and_tables(grey, images):
    X = images.reshape(20, -1)
    transformer = SelfTaughtTransformer(grey).set_output(transform="pandas")
    table = transformer.fit_transform(pd.DataFrame(X).add_prefix("pixel"))
    assert isinstance(table, pd.DataFrame)
    names = transformer.get_feature_names_out()
    assert list(table.columns) == list(names) == [f"selftaughttransformer{i}" for i in range(256)]


def test_clones_and_copies(grey, images):
    X = images.reshape(20, -1)
    one = SelfTaughtTransformer(grey, white=200.0, batch_size=3).fit(X)
    other = clone(one)
    assert other.get_params() == one.get_params()
    assert not hasattr(other, "encoder_")
    copied = pickle.loads(pickle.dumps(one))  # as processes of a search are sent it
    np.testing.assert_array_equal(copied.transform(X), one.transform(X))


def test_what_white_is(grey, images):
    X = images.reshape(20, -1)
    expected = SelfTaughtTransformer(grey).fit_transform(X)
    digits = X * (16 / 255)
    for transformer in (SelfTaughtTransformer(grey, white=16), SelfTaughtTransformer(grey)):
        transformer.fit(np.vstack([digits, np.full((1, 64), 16.0)]))
        np.testing.assert_allclose(transformer.transform(digits), expected, atol=1e-6)
    dark = SelfTaughtTransformer(grey).fit(X // 2)
    assert dark.white_ == 255
    bright = SelfTaughtTransformer(grey, white=100).fit(X)
    np.testing.assert_array_equal(bright.transform(X), bright.transform(np.minimum(X, 100)))


def test_colours_and_shapes(colour):
    images = np.random.default_rng(1).integers(0, 256, (6, 20, 30, 3), dtype=np.uint8)
    rows = images.reshape(6, -1)
    found = SelfTaughtTransformer(colour, shape=(20, 30, 3)).fit_transform(rows)
    np.testing.assert_allclose(found, features(colour, images), atol=1e-4, rtol=1e-4)
    square = images[:, :20, :20]
    found = SelfTaughtTransformer(colour).fit_transform(square.reshape(6, -1))
    np.testing.assert_allclose(found, features(colour, square), atol=1e-4, rtol=1e-4)
    shades = images[..., :1]
    found = SelfTaughtTransformer(colour, shape=(20, 30)).fit_transform(shades.reshape(6, -1))
    expected = features(colour, np.repeat(shades, 3, axis=3))
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)


def test_columns_that_are_no_square_are_told(grey, images):
    X = images.reshape(20, -1)[:, :60]
    with pytest.warns(UserWarning, match="60 columns are no square image of 1 channels"):
        found = SelfTaughtTransformer(grey).fit_transform(X)
    padded = np.pad(X, ((0, 0), (0, 4))).reshape(-1, 8, 8)
    np.testing.assert_allclose(found, features(grey, padded), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shape": (8, 9)}, "64 columns are no images"),
        ({"shape": (4, 4, 4)}, "64 columns are no images"),
        ({"white": 0}, "above 0"),
        ({"batch_size": 0}, "at least 1"),
        ({"dtype": "float16"}, "float64 or float32"),
        ({"path": "gone"}, "there is no run at"),
    ],
)
def test_what_it_refuses(grey, images, options, words):
    transformer = SelfTaughtTransformer(**{"path": grey} | options)
    with pytest.raises(UserError, match=words) as caught:
        transformer.fit(images.reshape(20, -1))
    assert "\n" not in str(caught.value)
