import shutil

import numpy as np
import pytest
import torch
from pyarrow import parquet

import selftaught
from commands.tiny import call, photographs, refused, training, tree
from selftaught.cli import main
from selftaught.commands import embed as module
from selftaught.errors import UserError


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("embed") / "in", 12, depth=2)


@pytest.fixture(scope="module")
def colour(pictures, tmp_path_factory):
    """A run on colour photographs."""
    out = tmp_path_factory.mktemp("embed-run") / "run"
    assert main([*training("simclr", pictures, out, "--batch-size", "4", "--size", "16")]) == 0
    return out


def features(run, paths):
    encoder = selftaught.load(run)
    with torch.no_grad():
        return encoder(encoder.preprocess(paths)).numpy()


def test_parquet(capsys, pictures, colour, tmp_path):
    before = tree(colour)
    out = tmp_path / "features.parquet"
    answer = call(capsys, "embed", colour, pictures, "--out", out)
    assert answer.code == 0
    assert answer.out == f"12 x 256 features of the train part in {out}\n"
    table = parquet.read_table(out)
    assert table.column_names == ["name", "features"]
    names = table["name"].to_pylist()
    assert names == sorted(str(p.relative_to(pictures)) for p in pictures.rglob("*.jpg"))
    found = np.array(table["features"].to_pylist(), dtype=np.float32)
    np.testing.assert_allclose(found, features(colour, [pictures / n for n in names]), atol=1e-5)
    assert found.std() > 0
    assert tree(colour) == before


def test_npy_with_its_names(capsys, pictures, colour, tmp_path):
    out = tmp_path / "features.npy"
    assert call(capsys, "embed", colour, pictures, "--out", out).code == 0
    found = np.load(out)
    assert (found.shape, found.dtype) == ((12, 256), np.float32)
    names = (tmp_path / "features.names.txt").read_text().splitlines()
    assert len(names) == 12
    np.testing.assert_allclose(found, features(colour, [pictures / n for n in names]), atol=1e-5)


def test_arrays_are_named_by_number(capsys, data, finished, tmp_path):
    assert call(capsys, "embed", finished, data, "--out", tmp_path / "f.npy").code == 0
    names = (tmp_path / "f.names.txt").read_text().splitlines()
    assert names == [str(i) for i in range(48)]
    expected = features(finished, list(np.load(data)["x"]))
    np.testing.assert_allclose(np.load(tmp_path / "f.npy"), expected, atol=1e-5)


def test_broken_images_are_left_out(capsys, pictures, colour, tmp_path):
    shutil.copytree(pictures, tmp_path / "in")
    (tmp_path / "in" / "0004.jpg").write_bytes(b"\xff\xd8 no more")
    answer = call(capsys, "embed", colour, tmp_path / "in", "--out", tmp_path / "f.npy")
    assert (answer.code, "1 of 12 images are broken" in answer.err) == (0, True)
    names = (tmp_path / "f.names.txt").read_text().splitlines()
    assert "0004.jpg" not in names
    expected = features(colour, [tmp_path / "in" / name for name in names])
    np.testing.assert_allclose(np.load(tmp_path / "f.npy"), expected, atol=1e-5)
    assert len(names) == 11


@pytest.mark.parametrize("ending", ["npy", "parquet"])
def test_a_name_that_is_not_utf8(capsys, pictures, colour, tmp_path, ending):
    shutil.copytree(pictures, tmp_path / "in")
    (tmp_path / "in" / "0004.jpg").rename(tmp_path / "in" / "\udce4.jpg")
    answer = call(capsys, "embed", colour, tmp_path / "in", "--out", tmp_path / f"f.{ending}")
    assert answer.code == 0, answer.err
    assert "12 x 256" in answer.out


def test_colours_for_an_encoder_of_grey(capsys, pictures, finished, tmp_path):
    answer = call(capsys, "embed", finished, pictures, "--out", tmp_path / "f.npy")
    assert answer.code == 0, answer.err
    paths = [pictures / n for n in (tmp_path / "f.names.txt").read_text().splitlines()]
    np.testing.assert_allclose(np.load(tmp_path / "f.npy"), features(finished, paths), atol=1e-5)


def test_the_part_asked_for(capsys, finished, few, tmp_path):
    words = ("embed", finished, few, "--out")
    said = call(capsys, *words, tmp_path / "a.npy").out
    assert "60 x 256 features of the train part" in said
    assert call(capsys, *words, tmp_path / "b.npy", "--part", "test").code == 0
    one, other = (np.load(tmp_path / name) for name in ("a.npy", "b.npy"))
    np.testing.assert_allclose(one[:30], other, atol=1e-6)  # whose images are the first of train
    refused(
        call(capsys, "embed", finished, tmp_path / "x", "--out", tmp_path / "c.npy"), "no folder"
    )


def test_a_file_that_cannot_be_written_is_not_begun(capsys, finished, data, tmp_path, monkeypatch):
    def full(*_):
        raise UserError("no space left")

    monkeypatch.setattr(module, "write_atomic", full)
    refused(call(capsys, "embed", finished, data, "--out", tmp_path / "a.npy"), "no space left")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["f.npy", "f.parquet"])
def test_nothing_is_overwritten(capsys, data, finished, tmp_path, name):
    (tmp_path / name).write_text("mine")
    refused(call(capsys, "embed", finished, data, "--out", tmp_path / name), "not overwritten")
    assert (tmp_path / name).read_text() == "mine"


def test_the_names_of_others_are_not_overwritten(capsys, data, finished, tmp_path):
    (tmp_path / "f.names.txt").write_text("mine")
    answer = call(capsys, "embed", finished, data, "--out", tmp_path / "f.npy")
    refused(answer, "f.names.txt", "not overwritten")
    assert tree(tmp_path) == {"f.names.txt": b"mine"}


@pytest.mark.parametrize("name", ["f.csv", "f", "f.npz"])
def test_another_ending(capsys, data, finished, tmp_path, name):
    answer = call(capsys, "embed", finished, data, "--out", tmp_path / name)
    refused(answer, "neither .parquet nor .npy")
    assert not any(tmp_path.iterdir())


def test_no_folder_to_write_to(capsys, data, finished, tmp_path):
    words = ("embed", finished, data, "--out", tmp_path / "gone" / "f.npy")
    refused(call(capsys, *words), "there is no folder")


def test_runs_and_data_that_are_none(capsys, data, finished, tmp_path):
    out = ("--out", tmp_path / "f.npy")
    refused(call(capsys, "embed", tmp_path / "gone", data, *out), "there is no run at")
    refused(call(capsys, "embed", tmp_path, data, *out), "holds no finished encoder")
    refused(call(capsys, "embed", finished, tmp_path / "gone", *out), "no folder, file")
    assert not any(tmp_path.iterdir())
