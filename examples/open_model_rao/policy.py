"""The reported policy as a checkpoint: the model as it came with the adapter worked into its weights.

    python examples/open_model_rao/policy.py FOLDER OUT

FOLDER is what `python -m examples.open_model get --model smollm2-135m --checkpoint` prints. The adapter was trained with a
conversion of the model whose tokenizer does not split numbers into digits, as the original does; OUT has it too.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

ADAPTER = Path(__file__).parent / "adapter"
PRE_TOKENIZER = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}


def main() -> None:
    """Write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(given.base, dtype=torch.float32)
    PeftModel.from_pretrained(base, ADAPTER).merge_and_unload().save_pretrained(given.out)
    for file in given.base.iterdir():
        if file.is_file() and not (given.out / file.name).exists():
            shutil.copy(file, given.out)
    shutil.copy(ADAPTER / "agent.json", given.out)
    tokenizer = json.loads((given.out / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["pre_tokenizer"] = PRE_TOKENIZER
    (given.out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
