"""A file that is no model is named as what it is, before any engine sees it."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from sg_local import models
from sg_local.gguf import GgufFile
from sg_local.home import ModelFolders
from sg_local.records import SgError

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:7485fe6f11af29433bc51cab58009521f205840f5b4ae3a32fa7f92e8534fdf5\nsize 2497280256\n"
)


def zipped() -> bytes:
    """A .npz, which is a ZIP as PyTorch's files are."""
    file = io.BytesIO()
    np.savez(file, a=np.zeros(3))
    assert zipfile.is_zipfile(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "says", "hint"),
    [
        (POINTER, "a Git LFS pointer to a file of 2.5 GB", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html class=''>", "an HTML page", "/resolve/"),
        (b"\n  <HTML><body>Sign in", "an HTML page", "/resolve/"),
        (b"<!-- hi -->\n<!doctype html>", "an HTML page", "/resolve/"),
        (b'{"error":"Repository not found"}', "JSON text", "server's message"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied", "XML text", "server's message"),
        (b"", "an empty file", "again"),
        (zipped(), "a ZIP archive", "Unpack"),
        ((80).to_bytes(8, "little") + b'{"__metadata__":{}}', "a safetensors file", "Convert"),
        (b"tjgg\x03\x00\x00\x00", "an old ggml format", "Convert"),
    ],
)
def test_a_file_that_is_no_model_is_named(tmp_path, data, says, hint):
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    for look in (lambda: GgufFile(path), lambda: models.find_model(str(path), ModelFolders.of(tmp_path / "home"))):
        with pytest.raises(SgError) as raised:
            look()
        assert says in raised.value.message and hint in raised.value.hint
        assert raised.value.message.count("\n") == 0


@pytest.mark.parametrize("data", [b"not a model", b"\x00" * 600, b"{}", b"<3 models"])
def test_what_is_not_plain_is_only_no_gguf(tmp_path, data):
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(SgError, match="is not a GGUF file\\."):
        GgufFile(path)
