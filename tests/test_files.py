"""Tables as text."""

import numpy as np
import pandas

from mdsens.files import csv_text, read_csv


def test_a_table_is_written_as_pandas_writes_it(tmp_path):
    rows = [
        {"name": "distance(0,1)", "value": 0.1 + 0.2, "count": 3, "error": float("nan")},
        {"name": 'say "a"', "value": np.float64(-1e-300), "count": np.int64(0), "error": None},
        {"name": "Å", "value": float("inf"), "count": -7, "error": 1e22},
    ]
    text = csv_text(rows)
    assert text == pandas.DataFrame(rows).to_csv(index=False, lineterminator="\n")
    path = tmp_path / "table.csv"
    path.write_text(text, "utf-8")
    read = read_csv(path)
    assert [row["name"] for row in read] == [row["name"] for row in rows]
    assert [float(row["value"]) for row in read] == [row["value"] for row in rows]
    assert [row["error"] for row in read] == ["", "", "1e+22"]


def test_no_rows_are_no_text():
    assert csv_text([]) == ""
