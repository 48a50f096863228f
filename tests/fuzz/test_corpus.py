"""What fuzzing found, once: each is read, or refused in one line."""

import shutil
from pathlib import Path

import pytest
import readers

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_was_found_is_read_or_refused_in_one_line(path):
    folder = readers.study_folder()
    read = readers.read_study if path.name.startswith("study") else readers.read_structure
    try:
        read(path.read_bytes(), folder)
    finally:
        shutil.rmtree(folder)


def test_there_is_a_corpus():
    assert len(CORPUS) >= 8
