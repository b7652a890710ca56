import json

import pytest

from selftaught.data.decode import Broken
from selftaught.errors import UserError
from selftaught.runfolder import RunFolder


def record(step: int) -> dict:
    return {"step": step, "terms": {"loss": 1 / step}}


def test_a_folder_that_is_new_may_be_used(tmp_path):
    for folder in (tmp_path / "a" / "b", tmp_path):
        run = RunFolder(folder)
        run.check(resume=False)
        run.check(resume=True)
        assert not run.begun()
    assert not any(tmp_path.iterdir())


def test_a_begun_run_is_only_gone_on_with(tmp_path):
    run = RunFolder(tmp_path)
    run.write({"call": {}})
    assert run.begun()
    run.check(resume=True)
    with pytest.raises(UserError, match="holds a run; go on with --resume"):
        run.check(resume=False)


@pytest.mark.parametrize("resume", [True, False])
def test_what_belongs_to_someone_else_is_left_alone(tmp_path, resume):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="is not empty"):
        RunFolder(tmp_path).check(resume=resume)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UserError, match="is a file; give a new folder to --out"):
        RunFolder(tmp_path / "run").check(resume=False)


def test_a_run_that_failed_before_its_first_step_may_be_begun_again(tmp_path):
    (tmp_path / ".lock").write_text("")
    RunFolder(tmp_path).check(resume=False)


def test_a_description_comes_back(tmp_path):
    run = RunFolder(tmp_path)
    description = {"call": {"seed": 0, "arguments": {"lr": 1e-3}}, "data": {}, "steps": 4}
    run.write(description)
    assert run.describe() == description
    run.write({"call": {}, "data": {}})
    assert run.describe() == {"call": {}, "data": {}}


def test_a_damaged_description(tmp_path):
    run = RunFolder(tmp_path)
    for raw in (b"", b'{"call": ', b"\xff\xfe"):
        (tmp_path / "run.json").write_bytes(raw)
        with pytest.raises(UserError, match=r"run\.json is damaged"):
            run.describe()


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RunFolder("~/run").path == tmp_path / "run"


def test_metrics_are_appended(tmp_path):
    assert RunFolder(tmp_path).metrics() == []
    for step in (1, 2, 3):
        RunFolder(tmp_path).log(record(step))
    assert RunFolder(tmp_path).metrics() == [record(1), record(2), record(3)]


def test_rewind_forgets_what_will_be_logged_again(tmp_path):
    run = RunFolder(tmp_path)
    for step in range(1, 6):
        run.log(record(step))
    run.rewind(3)
    assert [r["step"] for r in run.metrics()] == [1, 2, 3]
    run.log(record(4))
    assert [r["step"] for r in run.metrics()] == [1, 2, 3, 4]
    run.rewind(0)
    assert run.metrics() == []


def test_a_line_that_a_crash_cut_short_is_left_out(tmp_path):
    run = RunFolder(tmp_path)
    run.log(record(1))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(record(2))[:-4])
    assert run.metrics() == [record(1)]
    run.rewind(1)
    run.log(record(2))
    assert run.metrics() == [record(1), record(2)]


def test_a_line_that_a_crash_filled_with_zeros_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + bytes(40))
    run = RunFolder(tmp_path)
    run.rewind(1)
    assert run.metrics() == [{"step": 1}]


def test_broken_files_are_listed_once(tmp_path):
    run = RunFolder(tmp_path)
    assert run.skip([]) == 0
    assert not (tmp_path / "skipped.txt").exists()
    assert run.skip([("a.jpg", "empty file"), ("b.jpg", "damaged")]) == 2
    assert run.skip([("a.jpg", "empty file")]) == 2
    again = RunFolder(tmp_path)  # as a resumed run does
    assert again.skip([("b.jpg", "damaged"), ("c.jpg", "gone"), ("c.jpg", "gone")]) == 3
    listed = (tmp_path / "skipped.txt").read_text().splitlines()
    assert listed == ["a.jpg\tempty file", "b.jpg\tdamaged", "c.jpg\tgone"]


@pytest.mark.parametrize(
    "name", ["äö 😀.jpg", "a\nb.jpg", "a\tb.jpg", "a\u2028b.jpg", "a\x85b.jpg", "bad\udcff.jpg"]
)
def test_strange_names_are_counted_once(tmp_path, name):
    assert RunFolder(tmp_path).skip([(name, "empty file")]) == 1
    assert RunFolder(tmp_path).skip([(name, "empty file")]) == 1
    assert len((tmp_path / "skipped.txt").read_bytes().splitlines()) == 1


def test_a_file_that_was_mended_is_struck_from_the_list(tmp_path):
    class Some:
        names = ("a.jpg", "b.jpg", "c.jpg")

        def read(self, i):
            if i:
                raise Broken("damaged")

    run = RunFolder(tmp_path)
    run.skip([("a.jpg", "empty file"), ("b.jpg", "damaged")])
    run.recount(Some())
    assert run.skipped() == RunFolder(tmp_path).skipped() == {"b.jpg": "damaged"}
    assert run.skip([("c.jpg", "gone")]) == 2
