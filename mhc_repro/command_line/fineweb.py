"""FineWeb-10B as tokens of GPT-2: where it is to be had, and whether what one has is whole.

It is 20 GB, of which a run reads what it likes, so nothing here fetches it.
"""

from mhc_repro.config import DataConfig
from mhc_repro.corpora import given
from mhc_repro.errors import UserError

GUIDE = """\
FineWeb-10B in tokens of GPT-2 is the public dataset kjj0/fineweb10B-gpt2 of the Hugging Face hub: a shard of
100 million tokens (200 MB) for validation and 103 like it to train on. With nine of these (2 GB), where the hub
is in reach:

  pip install huggingface_hub
  hf download kjj0/fineweb10B-gpt2 --repo-type dataset --local-dir fineweb10B \\
    --include "fineweb_*_00000*.bin"

Elsewhere copy the folder over. Then

  mhc-repro data fineweb --from fineweb10B
  python experiments/train.py protocol=fineweb_small data.path=fineweb10B connection=mhc

protocol=fineweb_small draws 655 million tokens (7 shards), protocol=fineweb_medium 1.3 thousand million (14). Any
folder of such shards will do, and so do nanoGPT's train.bin and val.bin, as its prepare.py scripts write them."""


def found(folder: str) -> str:
    """Verify a folder of shards and say what is in it; UserError, in one line, for the first that is not whole."""
    try:
        shards = given.find(DataConfig(name="tokens", path=folder))
    except UserError as fault:  # in the words of who typed it for a training
        raise UserError(str(fault).replace("data.path=", "--from ")) from None
    of = {split: f"{sum(p.count for p in pieces):,}" for split, pieces in shards.pieces.items()}
    parts = [f"{of[split]} {split} tokens in {len(shards.pieces[split])}" for split in of]
    return f"{folder}  {', '.join(parts)} files  sha256 {shards.sha256}"
