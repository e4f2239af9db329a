import pytest

from pipeline import export

CELL = ["--experiment", "digits", "--algorithm", "fedmpq", "--alpha", "0.5"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*CELL, "--client", "10"], "error: --client 10 is not allowed; allowed: 0 to 9"),
        ([*CELL, "--client", "-1"], "error: --client -1 is not allowed; allowed: 0 to 9"),
        ([*CELL, "--budget", "0.5"], "error: --budget 0.5 is not allowed; allowed: 1 to 8"),
        ([*CELL, "--budget", "nan"], "error: --budget nan is not allowed; allowed: 1 to 8"),
        ([*CELL[:2], "--algorithm", "none", *CELL[4:], "--client", "0"], "error: unknown algorithm 'none'; allowed: "),
        (
            [*CELL, "--client", "0", "--seed", "9"],
            "error: --seed 9 is not allowed; allowed: 0, 1, 2, those of the experiment",
        ),
        (CELL, "one of the arguments --budget --client is required"),
        ([*CELL, "--client", "0", "--budget", "4"], "not allowed with argument --client"),
        (
            [*CELL, "--client", "0", "--calibrate", "-1"],
            "--calibrate: -1 is not allowed; allowed: whole numbers from 0",
        ),
        (
            [*CELL, "--client", "0", "--differing", "0.1"],
            "--differing: 0.1 is not allowed; allowed: whole numbers from 0",
        ),
        ([*CELL, "--client", "0", "--checkpoint", "model.pt", "--register"], "not allowed with argument --checkpoint"),
    ],
)
def test_a_wrong_option_is_named(capsys, arguments, said):
    with pytest.raises(SystemExit):
        export.main(arguments)
    assert said in capsys.readouterr().err
