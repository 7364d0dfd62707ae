"""Models in Hugging Face's layout: a folder with config.json, safetensors and tokenizer.json.

In reading order: `hub.py` finds the folder of a name; `description.py` reads its config.json, by
`families/` (a file for each kind of family, of which `families/family.py` says what it is),
`keys.py`, which leaves no key unread, and `scaling_in.py` for the rotary positions; `weights.py`
opens the files, `families/weight.py` says how their tensors become ours, and `loading.py` builds
the model. Its tokenizer is a `data.SubwordTokenizer`.

The other way, `holding.py` finds the family that holds a model by writing its config.json
(`config_out.py`, `scaling_out.py`) and reading it back, and `writing.py` fills a folder with it,
its weights (`weights_out.py`) and its tokenizer (`tokenizer_out.py`).

Nothing of a folder is executed, and no pickle is read.
"""

from typing import TYPE_CHECKING

from common.lazy import importing

if TYPE_CHECKING:
    from hf.description import Description, read
    from hf.hub import find, is_directory, is_name
    from hf.loading import load

__all__ = ["Description", "find", "is_directory", "is_name", "load", "read"]

__getattr__ = importing(
    __name__,
    {
        "hf.description": ["Description", "read"],
        "hf.hub": ["find", "is_directory", "is_name"],
        "hf.loading": ["load"],
    },
)
