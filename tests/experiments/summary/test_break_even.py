"""When predictions stop being cheaper than weights, by hand."""

from experiments.summary.break_even import BreakEven


def test_the_line_names_the_measured_size_only_where_it_differs():
    plain = BreakEven(1000, 100.0, 99.0).line()
    assert plain == "cheaper than weights below 100 public samples (parameters / C)"
    coded = BreakEven(1000, 100.0, 4000.0).line()
    assert coded.endswith("below 4,000 as they were really encoded")
    assert "encoded" not in BreakEven(1000, 100.0, None).line()
