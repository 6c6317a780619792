import shlex
import sys

from benchmarks.command_line import command_line


def test_a_reader_can_repeat_the_command_and_sees_no_path_of_this_machine(tmp_path):
    line = command_line(
        "skull_ablation", ["--patients", str(tmp_path / "skulls"), "--variants", "the bundle"]
    )
    assert line == "python -m benchmarks.skull_ablation --patients DIR/skulls --variants 'the bundle'"
    assert shlex.split(line)[-1] == "the bundle"


def test_without_arguments_the_shells_are_taken(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["anything", "--phantoms", "2"])
    assert command_line("skull_accuracy", None) == "python -m benchmarks.skull_accuracy --phantoms 2"
