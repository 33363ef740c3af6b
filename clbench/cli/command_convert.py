"""Turn a checkpoint of llama2.c into a folder that the transformers library loads."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """The folder holds config.json, model.safetensors, tokenizer.json and tokenizer_config.json.
It is written whole or not at all.

example:
  clbench convert stories260K.pt tok512.bin stories260K
  python -c "from transformers import pipeline; print(pipeline('text-generation', 'stories260K')('Once upon a time'))"
"""


def run(words: list[str]) -> int:
    """Convert and say where the folder is.

    Raises:
        ClbenchError: a file is not what it should be, or the folder is in use; nothing has been written then.
    """
    parser = argparse.ArgumentParser(
        prog="clbench convert",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, help=".pt file of llama2.c's trainer: tensors and sizes")
    parser.add_argument("tokenizer", type=Path, help="its tokenizer.bin, or a .json with its pieces and scores")
    parser.add_argument("folder", type=Path, help="where the model is written; new or empty")
    asked = parser.parse_args(words)
    from clbench.models.llama2c import convert

    convert(asked.checkpoint, asked.tokenizer, asked.folder)
    print(f"{asked.folder}: a Llama and its tokenizer, for AutoModelForCausalLM and AutoTokenizer")
    return 0
