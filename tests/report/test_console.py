import pytest

from selftaught.report.console import Terminal

LONG = "the folder " + "/".join(["photographs"] * 12) + " holds nothing [yet]"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_long_line_is_wrapped_in_a_terminal_only(capsys, monkeypatch, terminal):
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setattr(Terminal, "is_terminal", terminal)
    Terminal(quiet=False).print(LONG)
    said = capsys.readouterr().out.rstrip("\n").split("\n")
    assert (len(said) > 1) == terminal
    assert "".join(said).replace(" ", "") == LONG.replace(" ", "")
